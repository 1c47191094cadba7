"""Re-ranking on sparse rows beside the dense way in which it was published: CPU time, peak memory, equal distances.

Run: python benchmarks/reranking.py [--sizes 2888 5775 11550 23100]. Each way and size runs in a process of its own, on
one thread and embeddings of Market-1501's structure; 23,100 images are its queries and gallery. The dense way holds
three matrices of all pairs of images: 7 GiB at 23,100. Linux only (/proc).
Required: at 23,100 at least 15 times less CPU than the dense way, at most 10 CPU s and 500 MiB above the inputs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ranking import market_like, peak_mib, reset_peak

import reidbench

K1, K2, LAM, SHARE = 20, 6, 0.3, 3_368 / 23_100


def units(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings [n, 128] float32 of queries and gallery, ``images`` together, spread over all identities."""
    query, gallery = market_like(128, 0)
    queries = round(images * SHARE)
    picked = (np.linspace(0, len(side) - 1, count).astype(int) for side, count in
              ((query[0], queries), (gallery[0], images - queries)))  # fmt: skip
    first, second = picked
    return query[0][first], gallery[0][second]


def dense(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return re-ranked distances [queries, gallery] as published: every row of every matrix has all images."""
    rows = np.concatenate([query, gallery])
    norms = np.square(rows).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None] - 2 * (rows @ rows.T), 0)
    order = np.argsort(squares, axis=1, kind="stable").astype(np.int32)
    original = squares / squares.max(axis=1, keepdims=True)
    del squares

    def mutual(unit: int, size: int) -> np.ndarray:
        forward = order[unit, :size]
        return forward[(order[forward, :size] == unit).any(axis=1)]

    weights = np.zeros_like(original)
    for unit in range(len(rows)):
        own = mutual(unit, K1 + 1)
        expanded = own
        for other in own:
            candidates = mutual(other, K1 // 2 + 1)
            if 3 * len(np.intersect1d(candidates, own)) > 2 * len(candidates):
                expanded = np.append(expanded, candidates)
        members = np.unique(expanded)
        own_weights = np.exp(-original[unit, members])
        weights[unit, members] = own_weights / own_weights.sum()
    weights = np.stack([weights[order[unit, :K2]].mean(axis=0) for unit in range(len(rows))])
    holders = [np.flatnonzero(column) for column in weights.T]
    jaccard = np.empty((len(query), len(rows)), dtype=np.float32)
    for unit in range(len(query)):
        overlap = np.zeros(len(rows), dtype=np.float32)
        for member in np.flatnonzero(weights[unit]):
            others = holders[member]
            overlap[others] += np.minimum(weights[unit, member], weights[others, member])
        jaccard[unit] = 1 - overlap / (2 - overlap)
    return ((1 - LAM) * jaccard + LAM * original[: len(query)])[:, len(query) :]


def sparse(query: np.ndarray, gallery: np.ndarray) -> np.ndarray | None:
    """Run ours block by block as a ranking takes them; the distances are kept only where they are few."""
    reranker = reidbench.build("reranker", f"k_reciprocal(k1={K1}, k2={K2}, lam={LAM})")
    metric = reidbench.build("metric", "euclidean")
    keep = len(query) * len(gallery) < 10_000_000
    kept = []
    for block in reranker.blocks(torch.from_numpy(query), torch.from_numpy(gallery), metric, 64):
        if keep:
            kept.append(block.numpy())
    return np.concatenate(kept) if keep else None


def measure(side: str, images: int, values: Path) -> None:
    """Print CPU seconds and the peak above the inputs, MiB; write the distances where they are few."""
    way = dense if side == "dense" else sparse
    way(*units(300))  # compiles
    query, gallery = units(images)
    before, began = reset_peak(), time.process_time()
    found = way(query, gallery)
    print(time.process_time() - began, peak_mib() - before)
    if found is not None and found.size < 10_000_000:
        np.save(values, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_888, 5_775, 11_550, 23_100])
    parser.add_argument("--measure", nargs=3, metavar=("SIDE", "IMAGES", "FILE"), help="print one side (internal)")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]), Path(options.measure[2]))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    earlier: dict[str, float] = {}
    for images in options.sizes:
        found = {}
        files = {side: Path(f"{side}-{os.getpid()}.npy") for side in ("sparse", "dense")}
        for side, file in files.items():
            command = [sys.executable, __file__, "--measure", side, str(images), str(file)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found[side] = [float(number) for number in done.stdout.split()]
        (ours, our_peak), (theirs, their_peak) = found["sparse"], found["dense"]
        growth = "".join(f"; {side} x {found[side][0] / earlier[side]:.1f}" for side in earlier)
        line = f"{images:6d} images: sparse {ours:.2f} CPU s, {our_peak:.0f} MiB; dense {theirs:.2f} CPU s, "
        print(f"{line}{their_peak:.0f} MiB; {theirs / ours:.1f} times{growth}", flush=True)
        if all(file.exists() for file in files.values()):
            values = [np.load(file) for file in files.values()]
            print(f"        distances differ by at most {np.abs(values[0] - values[1]).max():.1e}")
        for file in files.values():
            file.unlink(missing_ok=True)
        earlier = {side: numbers[0] for side, numbers in found.items()}


if __name__ == "__main__":
    main()
