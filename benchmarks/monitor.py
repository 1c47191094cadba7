"""The cost of the monitor: its time in a step relative to the step's own.

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
from reidbench.training.optimizer import gradient_norms

REQUIRED_PERCENT = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    backbone = reidbench.build("backbone", "lunet(height=64, width=32)").train()
    loss = reidbench.build("loss", "batch_hard", reidbench.TrainInfo(embedding_dim=128, num_pids=32))
    optimizer = torch.optim.Adam(backbone.parameters())
    images, labels = torch.rand(128, 3, 64, 32), torch.arange(32).repeat_interleave(4)
    monitor = Monitor(arguments.steps, 0, torch.device("cpu"))
    steps, monitored = [], []
    for step in range(arguments.steps):
        began = time.perf_counter()
        embeddings = backbone(images)
        value = loss(embeddings, labels)
        optimizer.zero_grad(set_to_none=True)
        value.total.backward()
        started = time.perf_counter()
        monitor.record(step, value, embeddings, gradient_norms(optimizer))
        ended = time.perf_counter()
        optimizer.step()
        steps.append(time.perf_counter() - began - (ended - started))
        monitored.append(ended - started)
    # The median without the first step, since other work may share the machine.
    step_time, monitor_time = statistics.median(steps[1:]), statistics.median(monitored[1:])
    share = 100 * monitor_time / step_time
    print(f"step {1000 * step_time:.0f} ms, monitor {1000 * monitor_time:.2f} ms on {arguments.threads} threads")
    print(f"share {share:.2f} % (required: at most {REQUIRED_PERCENT} %)")


if __name__ == "__main__":
    main()
