"""MAP@R and R-precision beside pytorch-metric-learning's AccuracyCalculator: values, CPU seconds and peak memory.

Run: python benchmarks/accuracy_calculator.py [--images N]; needs faiss (pip install 'reidbench[benchmark]'). The images
are generated, as many images and classes as in the test part of Stanford Online Products: rows of 128 float32 numbers
of unit length. Each side runs once, in a process of its own on one thread. Ours is ``reidbench.evaluate``, which also
returns all other scores and their intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

import reidbench

IMAGES, CLASSES, DIMENSIONS, NOISE = 60_502, 11_316, 128, 1.2
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
SCORES = ("r_precision", "map_at_r")


def generated(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [n, 128] of unit length and their classes from 1 [n], two images of each at least."""
    random = np.random.default_rng(0)
    classes = max(2, images * CLASSES // IMAGES)
    labels = np.concatenate([np.repeat(np.arange(classes), 2), random.integers(0, classes, images - 2 * classes)])
    rows = random.normal(size=(classes, DIMENSIONS))[labels] + NOISE * random.normal(size=(images, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), 1 + labels


def ours(rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    scores = reidbench.evaluate((rows, labels), metric="euclidean")
    return {name: scores.values[name] for name in SCORES}


def theirs(rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import faiss  # noqa: PLC0415 - the other side needs neither
    import torch  # noqa: PLC0415
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator  # noqa: PLC0415

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    names = dict(zip(SCORES, ("r_precision", "mean_average_precision_at_r"), strict=True))
    calculator = AccuracyCalculator(include=tuple(names.values()), k="max_bin_count", device=torch.device("cpu"))
    values = calculator.get_accuracy(torch.from_numpy(rows), torch.from_numpy(labels))
    return {name: values[own] for name, own in names.items()}


SIDES = {"reidbench": ours, "AccuracyCalculator": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--side", choices=SIDES, help="run this side in this process, and print JSON")
    given = parser.parse_args()
    if given.side:
        data = generated(given.images)
        SIDES[given.side](*generated(200))  # imports and compiled loops are ready
        cpu, wall = time.process_time(), time.monotonic()
        values = SIDES[given.side](*data)
        took = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
        print(json.dumps(values | took | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    print(f"{given.images:,} × {given.images:,}, {DIMENSIONS}-D, one thread")
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--images", str(given.images)]
        done = subprocess.run(command, env=os.environ | THREADS, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        values = ", ".join(f"{name} {result[name]:.9f}" for name in SCORES)
        print(f"{side}: {values}; {result['cpu']:.1f} CPU s, {result['wall']:.1f} s, peak {result['peak']:,.0f} MiB")


if __name__ == "__main__":
    main()
