"""What watching a training costs: the monitor's time in a step over the step's own, measured directly.

    python benchmarks/monitor.py

LuNet at 64x32 with batch hard, 32 x 4 images, on the CPU; the required share is 0.3 %.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import reidbench
from reidbench.training.monitor import Monitor
from reidbench.training.optimizer import gradient_norm

REQUIRED_PERCENT = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    backbone = reidbench.build("backbone", "lunet(height=64, width=32)").train()
    loss = reidbench.build("loss", "batch_hard", reidbench.TrainInfo(embedding_dim=128, num_pids=32))
    optimizer = torch.optim.Adam(backbone.parameters())
    images, labels = torch.rand(128, 3, 64, 32), torch.arange(32).repeat_interleave(4)
    monitor = Monitor(asked.steps, 0, torch.device("cpu"))
    steps, watched = [], []
    for step in range(asked.steps):
        began = time.perf_counter()
        embeddings = backbone(images)
        value = loss(embeddings, labels)
        optimizer.zero_grad(set_to_none=True)
        value.total.backward()
        looked = time.perf_counter()
        monitor.record(step, value, embeddings, gradient_norm(optimizer))
        seen = time.perf_counter()
        optimizer.step()
        steps.append(time.perf_counter() - began - (seen - looked))
        watched.append(seen - looked)
    # The first step warms up; of the others the median, since the machine may be shared.
    step_time, watch_time = statistics.median(steps[1:]), statistics.median(watched[1:])
    share = 100 * watch_time / step_time
    print(f"step {1000 * step_time:.0f} ms, monitor {1000 * watch_time:.2f} ms on {asked.threads} threads")
    print(f"share {share:.2f} % (required: at most {REQUIRED_PERCENT} %)")


if __name__ == "__main__":
    main()
