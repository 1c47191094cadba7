"""Available memory, and a real end of memory in a training and in an embedding under a real limit."""

import subprocess
import sys

import pytest
import torch

from reidbench.errors import OutOfMemory
from reidbench.utils.device import available_memory, out_of_memory_advice
from tests.support.paths import CHECKOUT

CPU = torch.device("cpu")


def test_processes_share_the_machines_memory(monkeypatch):
    whole = available_memory(CPU)
    assert 2**20 < whole < 2**50
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert available_memory(CPU) < whole / 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2 GiB. A long text follows"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_only_an_end_of_memory_gets_advice(error, expected):
    with pytest.raises(OutOfMemory if expected else type(error)) as caught, out_of_memory_advice(CPU, "lower p"):
        raise error
    assert ("out of memory on cpu" in str(caught.value)) == ("lower p" in str(caught.value)) == expected
    assert "long text" not in str(caught.value)


UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from reidbench import Backbone, Loss, Preprocess, Recipe
from reidbench.embedding.extract import embed_images
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from tests.support.images import noise_images

class Net(Backbone):
    embedding_dim = 4

    def __init__(self):
        super().__init__()
        self.preprocess = Preprocess(256, 128)
        self.convolution = torch.nn.Conv2d(3, 4, 1)

    def forward(self, images):
        out = self.convolution(images)
        for _ in range(40):
            out = torch.cat([out, out.relu()])[: max(len(out), 4000)]
        return out[: len(images)].mean(dim=(2, 3))

class Spread(Loss):
    def forward(self, embeddings, labels):
        return -embeddings.square().sum(1)

folder, what = Path(sys.argv[1]), sys.argv[2]
samples, net, machine = noise_images(folder / "images", [1] * 40), Net(), local_machine(device="cpu", threads=1)
torch.set_num_threads(1)
status = Path("/proc/self/status").read_text()
limit = int(status.split("VmSize:")[1].split()[0]) * 1024 + 900 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if what == "embed":
    embed_images(net, samples, "original", machine, "embedding")
else:
    recipe = Recipe(steps=2, decay_start=1, learning_rate=1e-3, p=40, k=10, crop=False)
    train(net, Spread(), recipe, samples, seed=0, folder=folder / "run", machine=machine)
"""


@pytest.mark.parametrize(
    ("what", "advice"), [("train", "p=40 x k=10 images of 256x128"), ("embed", "height and width")]
)
def test_real_end_of_memory_is_explained(tmp_path, what, advice):
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path), what]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "OutOfMemory: out of memory on cpu: " in last, ended.stderr[-2000:]
    assert "can't allocate memory" in last
    assert "lower " in last
    assert advice in last
