"""What exact scores cost beyond the bare float32 product of the embeddings, in CPU time and in memory.

    python benchmarks/ranking.py [--distractors 500000] [--threads 2]

Generated embeddings with the sizes and the structure of Market-1501: 3,368 queries, 19,732 gallery items of which 3,819
are junk. In turns: the product of the queries with the gallery without junk, in blocks of 256 rows; the rankings with
and without junk; and ``reidbench.evaluate``, which has the scores and the camera matrix too. Medians of CPU seconds are
compared, of wall seconds where there are several threads. Linux only (/proc). The exit code is 1 where on one thread
``evaluate`` takes more than 3.5 times the product, or the rankings more than 100 MiB above the inputs (400 MiB with
distractors). benchmarks/reranking.py has re-ranking.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import reidbench
from reidbench.data.positives_and_exclusions import Positives
from reidbench.data.protocol import MARKET_RULES
from reidbench.ranking.rank import CHUNK, rank
from reidbench.ranking.rankings import Rankings

MOST_TIMES, MOST_MIB, MOST_MIB_WITH_DISTRACTORS = 3.5, 100, 400
_PAUSE = 0.1  # seconds: where the library has several threads, they spin on a core for a while after each product


def market_like(dim: int, distractors: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return (embeddings float32, pids, cams) of 3,368 queries and 19,732 + distractors gallery units."""
    generator = np.random.default_rng(0)
    identities = generator.normal(size=(751, dim))
    cameras = 0.5 * generator.normal(size=(7, dim))

    def units(pids: np.ndarray) -> tuple[np.ndarray, ...]:
        cams = generator.integers(1, 7, len(pids))
        unknown = generator.normal(size=(len(pids), dim))
        centres = np.where((pids > 0)[:, None], identities[np.maximum(pids, 0)], unknown)
        embeddings = 3 + centres + cameras[cams] + 1.1 * generator.normal(size=(len(pids), dim))
        return embeddings.astype(np.float32), pids, cams

    query = units(np.sort(generator.integers(1, 751, 3_368)))
    identified = np.sort(generator.integers(1, 751, 13_115))
    others = np.concatenate([np.zeros(2_798 + distractors, dtype=np.int64), np.full(3_819, -1)])
    return query, units(np.concatenate([others, identified]))


def product_only(query: np.ndarray, gallery: np.ndarray) -> None:
    """Multiply in the same blocks as the ranking does, into one buffer."""
    buffer = np.empty(256 * CHUNK, dtype=np.float32)
    for first in range(0, len(gallery), CHUNK):
        part = gallery[first : first + CHUNK]
        for start in range(0, len(query), 256):
            rows = query[start : start + 256]
            np.matmul(rows, part.T, out=buffer[: len(rows) * len(part)].reshape(len(rows), len(part)))


def peak_mib() -> float:
    """Return the largest resident memory of this process since it was last reset, MiB (Linux)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def reset_peak() -> float:
    """Let the peak begin again at the present size, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--distractors", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    threads = str(options.threads)
    if os.environ.get("OMP_NUM_THREADS") != threads:  # is read when numpy and torch are imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": threads})
    clock, unit = (time.process_time, "CPU s") if options.threads == 1 else (time.perf_counter, "s wall")
    query, gallery = market_like(options.dim, options.distractors)
    metric = reidbench.build("metric", "euclidean")
    ranked_gallery = np.ascontiguousarray(gallery[0][gallery[1] != -1])

    def rankings(count: int | None = None) -> Rankings:
        first = [side[:count] for side in query]
        return rank(first[0], gallery[0], Positives.find(*first[1:], *gallery[1:], MARKET_RULES), metric)

    work: dict[str, Callable[[], object]] = {
        "product": lambda: product_only(query[0], ranked_gallery),
        "rankings": rankings,
        "evaluate": lambda: reidbench.evaluate(query, gallery),
    }
    rankings(300)  # compiles
    before = reset_peak()
    rankings()
    memory = peak_mib() - before
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(options.repeats + 1):
        for name, call in work.items():
            time.sleep(_PAUSE if options.threads > 1 else 0)
            began = clock()
            call()
            if repeat:  # the first call in a process is not counted
                seconds[name].append(clock() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: value / medians["product"] for name, value in medians.items()}
    print(f"{len(query[0])} x {len(gallery[0])} x {options.dim}, of which {len(ranked_gallery)} are no junk")
    for name, value in medians.items():
        print(f"{name:9} {value:7.3f} {unit}, {ratios[name]:.2f} x the product")
    inputs = (query[0].nbytes + gallery[0].nbytes) / 2**20
    print(f"peak of the rankings above the inputs: {memory:.0f} MiB (inputs {inputs:.0f} MiB)")
    wrong = [f"evaluate takes {ratios['evaluate']:.2f} x the product, at most {MOST_TIMES} allowed"] * (
        options.threads == 1 and ratios["evaluate"] > MOST_TIMES
    )
    most = MOST_MIB_WITH_DISTRACTORS if options.distractors else MOST_MIB
    wrong += [f"the rankings take {memory:.0f} MiB, at most {most} allowed"] * (memory > most)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
