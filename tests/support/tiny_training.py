"""Trainings of seconds on images of noise, repeated and resumed bit for bit, and the doubles that tests train."""

import os
import signal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidbench import Backbone, IntArray, Loss, LossValue, Preprocess, Recipe, Samples, TrainInfo, TrainView, stream
from reidbench.errors import Interrupted
from reidbench.training.loop import train
from reidbench.utils.machine import local_machine
from tests.support.images import write_noise
from tests.support.logs import assert_same_log

CPU = torch.device("cpu")
# One identity is seen once, one twice; the others as often as a batch asks for, or more.
COUNTS = (1, 2, 5, 6, 4, 6)
INFO = TrainInfo(embedding_dim=4, num_pids=len(COUNTS))
RECIPE = Recipe(steps=7, decay_start=4, learning_rate=1e-2, p=3, k=4)


class Net(Backbone):
    """A convolution, a batch norm and a dropout; sends SIGINT to this process at the training step ``stop_at``.

    ``batches``: the images of every training step.
    """

    embedding_dim = 4

    def __init__(self, stop_at: int | None = None, dropout: float = 0.2) -> None:
        super().__init__()
        self.preprocess = Preprocess(height=16, width=8)
        self.convolution = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(4 * 7 * 3, 4)
        self.stop_at = stop_at
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self._note(images)
        return self.linear(self.dropout(self.norm(self.convolution(images)).flatten(1)))

    @torch.compiler.disable(reason="a signal is no part of a network")
    def _note(self, images: Tensor) -> None:
        if len(self.batches) == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        self.batches.append(images.clone())


class Spread(Loss):
    """A loss with a weight of its own that logs a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        centre = embeddings.mean(0, keepdim=True)
        terms = (self.scale - (embeddings - centre).square().sum(1)).square()
        return LossValue(terms.mean(), {"loss": terms}, {"scale, of all": self.scale.detach()})


def noise(folder):
    """Return 24 images of noise of six identities."""
    pids = [pid for pid, count in enumerate(COUNTS, start=1) for _ in range(count)]
    names = [f"{index}.png" for index in range(len(pids))]
    if not folder.exists():
        write_noise(folder, names)
    return Samples.of_images(folder, names, pids, [1] * len(pids))


def fit(make, folder, *, recipe=RECIPE, stop_at=None):
    """Train on images of noise with a network and a loss that are the same at every call."""
    torch.manual_seed(1)
    net, loss = Net(stop_at), make()
    samples = noise(folder.parent / "noise")
    machine = local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print)
    return net, loss, train(net, loss, recipe, samples, seed=7, folder=folder, machine=machine)


def assert_exact(make, folder, recipe=RECIPE):
    """Assert that a training ends in the same weights, state and log if it is repeated, or resumed once or twice."""
    net, loss, _ = fit(make, folder / "whole", recipe=recipe)
    state = net.state_dict() | {f"loss.{name}": tensor for name, tensor in loss.state_dict().items()}
    for stops in ((), (0,), (2, 1)):
        name = f"parts{len(stops)}"
        for stop_at in stops:
            with pytest.raises(Interrupted):
                fit(make, folder / name, recipe=recipe, stop_at=stop_at)
        other_net, other_loss, _ = fit(make, folder / name, recipe=recipe)
        other = other_net.state_dict() | {f"loss.{key}": tensor for key, tensor in other_loss.state_dict().items()}
        assert state.keys() == other.keys()
        for key, tensor in state.items():
            assert torch.equal(tensor, other[key]), key
        assert_same_log(folder / "whole", folder / name)
    return loss


def view_of(labels, embed=None, *, p=3, k=4, number=0, seed=0):
    """Return the view with which a loss samples a round; without ``embed`` embedding is an error."""

    def not_asked_for(units: IntArray) -> Tensor:
        raise AssertionError("no embeddings are needed")

    known = np.asarray(labels, dtype=np.int64)
    generator = stream(seed, "round", number)
    return TrainView(known, p, k, generator, embed or not_asked_for)
