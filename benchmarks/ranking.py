"""What exact ranks cost beyond the bare float32 product of the embeddings, in CPU time and in memory.

Market-1501's sizes and structure, generated embeddings. Run: python benchmarks/ranking.py [--distractors 500000]
[--threads 2]. Product and ranking with both APs, CMC and mINP take turns, and the medians of CPU seconds are compared,
or of wall seconds where there are several threads. Linux only (/proc). Required: at most 1.8 times the product, 1.4 on
two threads; at most 100 MiB above the inputs, 400 with 500,000 distractors. benchmarks/reranking.py has re-ranking.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

import reidbench
from reidbench.ranking.rank import CHUNK, rank
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import score

_PAUSE = 0.1  # seconds: where the library has several threads, they spin on a core for a while after each product


def market_like(dim: int, distractors: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return (embeddings float32, pids, cams) of 3,368 queries and 19,732 + distractors gallery units."""
    generator = np.random.default_rng(0)
    identities = generator.normal(size=(751, dim))
    cameras = 0.5 * generator.normal(size=(7, dim))

    def units(pids: np.ndarray) -> tuple[np.ndarray, ...]:
        cams = generator.integers(1, 7, len(pids))
        strangers = generator.normal(size=(len(pids), dim))
        centres = np.where((pids > 0)[:, None], identities[np.maximum(pids, 0)], strangers)
        embeddings = 3 + centres + cameras[cams] + 1.1 * generator.normal(size=(len(pids), dim))
        return embeddings.astype(np.float32), pids, cams

    query = units(np.sort(generator.integers(1, 751, 3_368)))
    persons = np.sort(generator.integers(1, 751, 13_115))
    others = np.concatenate([np.zeros(2_798 + distractors, dtype=np.int64), np.full(3_819, -1)])
    return query, units(np.concatenate([others, persons]))


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
    parser = argparse.ArgumentParser(description=__doc__)
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
    ids = (*query[1:], *gallery[1:])
    metric = reidbench.build("metric", "euclidean")
    kept = np.ascontiguousarray(gallery[0][gallery[1] != -1])
    sides = [torch.from_numpy(side[0]) for side in (query, gallery)]

    def ranked_once(count: int | None = None) -> Ranking:
        part = slice(count)
        return rank(*(side[part] for side in sides), *(x[part] for x in ids), metric)

    def product_once() -> None:
        product_only(query[0], kept)

    began = time.perf_counter()
    ranked_once(300)
    compiled = time.perf_counter() - began
    product_once()
    before = reset_peak()
    ranking = ranked_once()
    above = peak_mib() - before

    product_seconds, rank_seconds = [], []
    for _ in range(options.repeats):
        began = clock()
        product_once()
        product_seconds.append(clock() - began)
        time.sleep(_PAUSE if options.threads > 1 else 0)
        began = clock()
        score(ranked_once(), len(gallery[0]), (1, 5, 10, 20))
        rank_seconds.append(clock() - began)
    product, ranked = statistics.median(product_seconds), statistics.median(rank_seconds)
    scores = score(ranking, len(gallery[0]), (1,))
    print(f"{len(query[0])} x {len(gallery[0])} x {options.dim}, {len(kept)} ranked")
    print(f"map_market {scores.map_market:.4f}, {len(ranking.ranks) / len(ranking):.1f} positives a query")
    print(f"float32 product alone   {product:.3f} {unit}")
    print(f"ranking                 {ranked:.3f} {unit}, {ranked / product:.2f} x the product")
    print(f"peak above the inputs   {above:.0f} MiB (inputs {(query[0].nbytes + gallery[0].nbytes) / 2**20:.0f} MiB)")
    print(f"first call, compiling   {compiled:.1f} s wall")


if __name__ == "__main__":
    main()
