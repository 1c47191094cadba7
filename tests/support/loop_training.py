"""What the tests of the loop train: a loss with a head and buffers, on four identities with three images each."""

import numpy as np
import torch
from torch import Tensor, nn

from reidbench import IntArray, Loss, Recipe, Samples, TrainView
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from tests.support.images import write_noise
from tests.support.tiny_training import Net

RECIPE = Recipe(steps=6, decay_start=3, learning_rate=1e-2, p=2, k=2)
SEED = 7
# Neither sorted nor without gaps, as in real datasets.
PIDS = (30, 5, 900, 9)
SORTED_PIDS = [5, 9, 30, 900]
CAMS = [4, 5, 6]


class Head(Loss):
    """A classifier on the embeddings, with a running mean besides; the base of all losses here.

    ``at(step)`` is called in every forward, so that a test can do something at a certain step.
    """

    def __init__(self, own_rate: float | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer("running", torch.zeros(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.own_rate = own_rate
        self.labels: list[Tensor] = []

    def param_groups(self) -> list[dict[str, object]]:
        if self.own_rate is None:
            return super().param_groups()
        own = {"params": [self.temperature], "lr": self.own_rate}
        return [{"params": list(self.head.parameters())}, own]

    def at(self, step: int) -> None:
        pass

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.at(int(self.calls))
        self.labels.append(labels)
        self.calls += 1
        self.running.mul_(0.9).add_(0.1 * embeddings.detach().mean(0))
        logits = self.head(embeddings + self.running) * self.temperature
        return nn.functional.cross_entropy(logits, labels, reduction="none")


class Fixed(Head):
    """Rounds of a single batch that holds every unit in order, and notes of what each round was given."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[TrainView] = []

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        self.views.append(view)
        return [np.arange(len(view.labels))]


class Sampling(Head):
    """Samples from every generator that a loss may use; ``greedy`` samples more and has longer rounds."""

    def __init__(self, greedy: bool = False) -> None:
        super().__init__()
        self.greedy = greedy
        self.of_rounds: list[tuple[float, float]] = []
        self.of_steps: list[float] = []

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        self.of_rounds.append((float(view.generator.random()), float(torch.rand(()))))
        units = view.generator.permutation(len(view.labels))
        if self.greedy:
            torch.rand(number + 5)
        return [units[:6], units[6:]] if self.greedy else [units[torch.randperm(len(units)).numpy()][:6]]

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        weights = torch.rand(len(embeddings))
        self.of_steps.append(float(weights[0]))
        if self.greedy:
            torch.rand(7)
        return super().forward(embeddings, labels) * weights


def four_identities(folder):
    """Return 12 images of noise of four identities."""
    names = [f"{index}.png" for index in range(12)]
    write_noise(folder, names)
    return Samples.of_images(folder, names, [pid for pid in PIDS for _ in CAMS], CAMS * len(PIDS))


def fit(net, loss, samples, folder, *, recipe=RECIPE, seed=SEED, checkpoint_seconds=1e9):
    machine = local_machine(device="cpu", threads=1, checkpoint_seconds=checkpoint_seconds, log=print)
    return train(net, loss, recipe, samples, seed=seed, folder=folder, machine=machine)


def build(loss: type[Head] = Head, dropout: float = 0.0, **options) -> tuple[Net, Head]:
    """Return a network and a loss with the same weights at every call."""
    torch.manual_seed(1)
    return Net(dropout=dropout), loss(**options)


def assert_same_state(one: nn.Module, two: nn.Module) -> None:
    theirs = two.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
