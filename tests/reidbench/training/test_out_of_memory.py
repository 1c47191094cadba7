"""What a training takes and has: counted by hand, and a real end of memory under a real limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reidbench.errors import TrainingError
from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.training import precision as memory
from reidbench.training.precision import kept_bytes, ran_out, says_what_to_lower, training_bytes
from reidbench.training.recipe import Recipe
from tests.support.paths import CHECKOUT

CPU = torch.device("cpu")
RECIPE = Recipe(steps=1, decay_start=1, learning_rate=1.0, p=18, k=4)


class Net(Backbone):
    """Two linear layers with a ReLU between: for the backward pass they keep their input and the ReLU's result."""

    embedding_dim = 4

    def __init__(self, height: int = 32, width: int = 16, hidden: int = 1000) -> None:
        super().__init__()
        self.preprocess = Preprocess(height, width)
        self.pixels = 3 * height * width
        self.first, self.last = nn.Linear(self.pixels, hidden), nn.Linear(hidden, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(images.flatten(1)).relu())
        return out


def test_what_an_image_keeps_is_counted_once_and_without_weights() -> None:
    net = Net()
    assert kept_bytes(net) == 4 * (net.pixels + 1000)
    weights = 4 * (net.pixels * 1000 + 1000 + 1000 * 4 + 4)
    assert training_bytes(net, 10) == int(4 * weights + 1.25 * 10 * 4 * (net.pixels + 1000))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_only_an_end_of_memory_is_one(error: Exception, expected: bool) -> None:
    assert ran_out(error) is expected
    with (
        pytest.raises(TrainingError if expected else type(error)),
        says_what_to_lower(Net(), RECIPE, CPU, images=72),
    ):
        raise error


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (
            0.5,
            r"needs about .* GiB, and .* GiB were free; lower the recipe's p to 9, or .* height and width to 16 and 8",
        ),
        (0.02, "were free; lower the backbone's height and width to 8 and 8$"),
        (2.0, "so the loss takes the rest, or other programs did; lower the recipe's p to 9$"),
    ],
)
def test_it_says_what_to_lower_and_to_what(share: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    states = 3 * sum(parameter.nbytes for parameter in net.parameters())
    free = states + int(share * 1.25 * 72 * kept_bytes(net)) + 1
    monkeypatch.setattr(memory, "free_on", lambda device: free)
    with (
        pytest.raises(TrainingError, match=f"out of memory on cpu: no more; .*{said}"),
        says_what_to_lower(net, RECIPE, CPU, images=72),
    ):
        raise torch.OutOfMemoryError("no more. Of course a long text follows")


UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from reidbench import Loss, Recipe, Samples
from reidbench.utils.machine import local_machine
from reidbench.training.loop import train
from tests.reidbench.training.test_out_of_memory import Net

class Spread(Loss):
    def forward(self, embeddings, labels):
        return -embeddings.square().sum(1)

folder = Path(sys.argv[1])
names = [f"{index}.png" for index in range(40)]
for name in names:
    Image.fromarray(np.zeros((256, 128, 3), dtype=np.uint8)).save(folder / name)
samples = Samples.of_images(folder, names, list(range(1, 41)), [1] * 40)
torch.set_num_threads(1)
status = Path("/proc/self/status").read_text()
now = int(status.split("VmSize:")[1].split()[0]) * 1024
limit = now + 900 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
recipe = Recipe(steps=2, decay_start=1, learning_rate=1e-3, p=40, k=40, crop=False)
machine = local_machine(device="cpu", threads=1, log=print)
train(Net(256, 128, 50), Spread(), recipe, samples, seed=0, folder=folder / "run", machine=machine)
"""


def test_a_real_end_of_memory_is_explained(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path)], capture_output=True, text=True, check=False,
        cwd=CHECKOUT,
    )  # fmt: skip
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "OutOfMemory: out of memory on cpu: " in last, ended.stderr[-2000:]
    assert "can't allocate memory" in last
    assert "a batch of p=40 x k=40 images of 256x128 needs about" in last
    assert "lower the recipe's p to " in last
    lowered = int(last.split("recipe's p to ")[1].split(",")[0])
    assert 0 < lowered < 40
