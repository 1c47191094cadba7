"""Speed of rendering the built-in dataset: pixels, JPEG and file, on one and on two threads.

Run: python benchmarks/rendering.py [--identities 500] [--rounds 3]. Required on 2 cores: 300 images/s.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reidbench_datasets.synthetic.plan import Tree, plan
from reidbench_datasets.synthetic.renderer import Renderer

LIMIT = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tree = Tree(arguments.identities, 6, "normal", 0)
    shots = plan(tree)
    started = time.perf_counter()
    renderer = Renderer(tree)
    renderer.jpeg(shots[0])
    print(f"compiling, cameras and the first image: {time.perf_counter() - started:.1f} s")
    folder = Path(tempfile.mkdtemp())
    try:
        files = [folder / f"{number}.jpg" for number in range(len(shots))]
        for _ in range(arguments.rounds):
            for threads in (1, 2):
                started, used = time.perf_counter(), time.process_time()
                with ThreadPoolExecutor(threads) as pool:
                    sizes = list(pool.map(lambda file, shot: file.write_bytes(renderer.jpeg(shot)), files, shots))
                seconds, used = time.perf_counter() - started, time.process_time() - used
                rate = len(shots) / seconds
                print(
                    f"{threads} thread(s): {rate:6.0f} images/s, {rate / LIMIT:.1f} x the limit of {LIMIT:.0f}; "
                    f"{len(shots) / used:.0f} images per CPU second; {sum(sizes) / len(sizes):.0f} bytes an image"
                )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
