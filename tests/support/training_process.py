"""The program of test_distributed, run alone or by torchrun: one training in float64 for each loss."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import reidbench
from reidbench import Backbone, IntArray, Loss, LossValue, Preprocess, Recipe, Samples, TrainInfo, TrainView
from reidbench.errors import ReidbenchError
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from reidbench.utils.processes import join
from tests.support.images import write_noise

PIDS = 8
CPU = torch.device("cpu")


class Double(Backbone):
    """A network in float64, so that two processes differ from one only by the order of sums."""

    def __init__(self, inner: Backbone) -> None:
        super().__init__()
        self.inner = inner.double()
        self.embedding_dim, self.preprocess = inner.embedding_dim, inner.preprocess
        self.feature_sizes = {"squares": inner.embedding_dim}

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.double())

    def training_features(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self(images)
        return {"squares": embedding.square(), "embedding": embedding}


class Mining(Loss):
    """Samples rounds with the current network, sets a buffer, and uses random numbers in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(0))

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        embedded = view.embed(np.arange(len(view.labels)))
        self.centre = embedded.mean(0).clone()
        order = torch.argsort(embedded.norm(dim=1)).numpy()
        return [order[:11], order[5:12]]  # neither is a multiple of two

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        weights = torch.rand(len(embeddings), dtype=torch.float64)
        terms = (1 - (embeddings - self.centre).square().sum(1)).square() * weights
        return LossValue(terms.mean(), {"loss": terms}, {"centre": self.centre.norm()})


class Noise(Backbone):
    """Returns the random numbers of its process."""

    embedding_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(16, 8)
        self.linear = nn.Linear(3 * 16 * 8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)) * 0 + torch.rand(len(images), 2)


class Alone(Loss):
    """Fails in one process alone, as where memory runs out."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if os.environ.get("RANK") == "1":
            raise torch.OutOfMemoryError("cannot allocate anything. In this process")
        return embeddings.square().sum(1)


class Nan(Loss):
    """A loss that is nan."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.sum(1) * torch.nan


OWN: dict[str, type[Loss]] = {"mining": Mining, "alone": Alone, "nan": Nan}


def people(folder: Path) -> Samples:
    names = [f"{index}.png" for index in range(PIDS * 3)]
    if not (folder / names[-1]).exists():
        write_noise(folder, names)
    return Samples.of_images(folder, names, [1 + index // 3 for index in range(len(names))], [1] * len(names))


def main(folder: Path, backbone: str, steps: int, losses: list[str]) -> None:
    torch.set_num_threads(1)
    world = join()
    samples = world.in_turn(lambda: people(folder))
    recipe = Recipe(steps=steps, decay_start=steps // 2, learning_rate=1e-4, p=5, k=3)
    machine = local_machine(cache=folder / "cache", device="cpu", threads=1, checkpoint_seconds=1e9, world=world)
    for name in losses:
        # Each process begins with other weights: those of the first count.
        torch.manual_seed(world.rank)
        network = Noise() if backbone == "noise" else Double(reidbench.build("backbone", backbone))
        sizes = {**network.feature_sizes, "embedding": network.embedding_dim}
        info = TrainInfo(embedding_dim=network.embedding_dim, num_pids=PIDS, feature_sizes=sizes)
        loss = OWN[name]() if name in OWN else reidbench.build("loss", name, info)
        place = folder / f"{name.replace('/', '.')}-{world.size}"
        try:
            train(network, loss.double(), recipe, samples, seed=3, folder=place, machine=machine)
        except ReidbenchError as error:
            sys.exit(f"{type(error).__name__} in {world.rank}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
