"""Forward and backward pass of our losses compared with pytorch-metric-learning: speed and peak memory. Linux (/proc).

Run: python benchmarks/losses.py [--images 128 512] [--seconds 20] [--block 10]. P x 4 images, 128-D float32 embeddings,
one CPU thread. Both compute the same value (the difference is printed) and alternate in blocks of a few steps, so that
neither always starts with the other's data in the caches; `--block 1` measures that case. CPU seconds are compared,
which depend less on other load, and the ratio is the median over the pairs of blocks.
Required: batch hard 1.5, all triplets 5, lifted 50 times as fast, at P·K = 128 and 512.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import LiftedStructureLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

import reidbench

K, DIM = 4, 128
# The library's lifted loss has several matrices of pairs by pairs in memory: 8.2 GiB at 512 images.
LIFTED_GIB = 12

Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One comparison.

    ``spec``: our loss.
    ``theirs``: the library's loss with the same value.
    ``required``: how many times as fast ours must be.
    """

    spec: str
    theirs: Criterion
    required: float


def triplets(soft: bool, mined: bool = False) -> Criterion:
    """Return the library's triplet loss set to the paper's terms: unscaled embeddings, mean over all terms."""
    margin = 0.0 if soft else 0.2
    distance = LpDistance(normalize_embeddings=False)
    loss = TripletMarginLoss(margin=margin, smooth_loss=soft, distance=distance, reducer=MeanReducer())
    miner = BatchHardMiner(distance=distance)
    return lambda rows, labels: loss(rows, labels, miner(rows, labels) if mined else None)


def cases() -> list[Case]:
    """Return the comparisons; the squared form of lifted is the library's."""
    lifted = LiftedStructureLoss(neg_margin=1, pos_margin=0, distance=LpDistance(normalize_embeddings=False))
    return [
        Case("batch_hard(margin=soft)", triplets(soft=True, mined=True), 1.5),
        Case("batch_hard(margin=0.2)", triplets(soft=False, mined=True), 1.5),
        Case("batch_all(margin=soft)", triplets(soft=True), 5),
        Case("batch_all(margin=0.2)", triplets(soft=False), 5),
        Case("lifted(margin=1, pairs=all, negatives=other_identities, form=squared)", lifted, 50),
    ]


def batch(images: int) -> tuple[Tensor, Tensor]:
    """Return embeddings around a centre for each identity, closer to each other than a margin, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) // K
    centres = torch.randn(images // K, DIM, generator=generator)
    return (centres[labels] + torch.randn(images, DIM, generator=generator)) / DIM**0.5, labels


def step(criterion: Criterion, rows: Tensor, labels: Tensor, block: int = 1) -> tuple[float, float]:
    """Return the CPU seconds of one forward and backward pass, averaged over a block, and the loss."""
    leaf = rows.clone().requires_grad_()
    began = time.process_time()
    for _ in range(block):
        leaf.grad = None
        value = criterion(leaf, labels)
        value.backward()
    return (time.process_time() - began) / block, value.item()


def peak_mib() -> float:
    """Return the peak resident memory of this process since the last reset, in MiB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def ours_of(case: Case, images: int) -> Criterion:
    """Return our loss of a case."""
    loss = reidbench.build("loss", case.spec, reidbench.TrainInfo(embedding_dim=DIM, num_pids=images // K))
    return lambda rows, labels: loss(rows, labels).total


def peak_of(criterion: Criterion, images: int) -> float:
    """Return the peak memory of one forward and backward pass above that of the process before it, in MiB."""
    step(criterion, *batch(16))  # imports and one-time allocations
    rows, labels = batch(images)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mib()
    step(criterion, rows, labels)
    return peak_mib() - before


def peak_apart(number: int, side: str, images: int) -> float:
    """Return the peak of one side of a case in its own process, so that it reuses no memory freed by another."""
    command = [sys.executable, __file__, "--peak", str(number), side, str(images)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def available_gib() -> float:
    """Return the available memory of the machine, in GiB."""
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable"))
    return int(line.split()[1]) / 2**20


def compare(case: Case, ours: Criterion, images: int, seconds: float, block: int) -> None:
    """Time pairs of blocks until ``seconds`` have passed, at most 200, and print the medians."""
    rows, labels = batch(images)
    for criterion in (ours, case.theirs):
        step(criterion, *batch(16))
    pairs: list[tuple[float, float]] = []
    began = time.perf_counter()
    while not pairs or (time.perf_counter() - began < seconds and len(pairs) < 200):
        mine, theirs = step(ours, rows, labels, block), step(case.theirs, rows, labels, block)
        pairs.append((mine[0], theirs[0]))
    ratio = statistics.median(their_seconds / our_seconds for our_seconds, their_seconds in pairs)
    medians = [1000 * statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"{images:4d}  {case.spec}\n      ours {medians[0]:.2f} ms, library {medians[1]:.2f} ms, ratio {ratio:.1f} of "
        f"required {case.required} ({'ok' if ratio >= case.required else 'MISSED'}); {len(pairs)} pairs; values differ "
        f"by {abs(mine[1] - theirs[1]):.1e} of {mine[1]:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--seconds", type=float, default=20, help="seconds for each comparison")
    parser.add_argument("--block", type=int, default=10, help="steps of one side before the other")
    parser.add_argument("--peak", nargs=3, metavar=("CASE", "SIDE", "IMAGES"), help="print one peak (internal)")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # is read when torch is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    if options.peak:
        number, side, images = int(options.peak[0]), options.peak[1], int(options.peak[2])
        print(peak_of(ours_of(cases()[number], images) if side == "ours" else cases()[number].theirs, images))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), K = {K}, D = {DIM}, float32, CPU")
    for images in options.images:
        for number, case in enumerate(cases()):
            try:
                ours = ours_of(case, images)
            except reidbench.OptionError as error:
                print(f"{images:4d}  {case.spec}\n      skipped: {error}")
                continue
            if case.spec.startswith("lifted") and images == 512 and available_gib() < LIFTED_GIB:
                print(f"{images:4d}  {case.spec}\n      skipped: the library's takes up to {LIFTED_GIB} GiB of memory")
                continue
            compare(case, ours, images, options.seconds, options.block)
            if images == 512:
                peaks = [peak_apart(number, side, images) for side in ("ours", "library")]
                print(f"      peak memory: ours {peaks[0]:.0f} MiB, library {peaks[1]:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
