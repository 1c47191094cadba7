"""How long the paper's map of test embeddings takes: t-SNE of 6,000 images at perplexity 5,000, and its memory.

Run: python benchmarks/tsne.py [--images N] [--perplexity N] [--plot FILE.png]. The embeddings are generated, a cluster
of 128 numbers for each person of the embedded data set's gallery, whose pictures are shown as often as it takes.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from reidbench_reports.tsne import LARGEST_SHARE, STEPS, embed, paint

import reidbench
from reidbench.utils.machine import default_data

DIMENSIONS, SPREAD = 128, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--perplexity", type=float, default=5_000)
    parser.add_argument("--plot", type=Path, help="write the map here")
    asked = parser.parse_args()
    gallery = reidbench.build("dataset", "synthetic", default_data()).gallery
    shown = np.resize(np.flatnonzero(gallery.pids > 0), asked.images)
    draw = np.random.default_rng(0)
    people = draw.normal(size=(int(gallery.pids.max()) + 1, DIMENSIONS))
    rows = (people[gallery.pids[shown]] + SPREAD * draw.normal(size=(len(shown), DIMENSIONS))).astype(np.float32)
    perplexity = min(asked.perplexity, LARGEST_SHARE * len(rows))
    wall, processor = time.monotonic(), time.process_time()
    places = embed(rows, perplexity, 0, STEPS)
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    took = f"{wall:.0f} s, {processor:.0f} CPU s, {peak:.1f} GiB at most"
    print(f"{len(rows):,} images, perplexity {perplexity:,.0f}: {took}")
    if asked.plot:
        figure = Figure(figsize=(8, 8))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(paint(places, gallery, shown), interpolation="none")
        figure.savefig(asked.plot, dpi=200)


if __name__ == "__main__":
    main()
