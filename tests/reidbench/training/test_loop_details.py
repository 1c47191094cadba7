"""The loop step by step: what the optimizer, the network and the loss get at each, and what outlives a stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from reidbench.data.samples import Samples
from reidbench.errors import Interrupted, TrainingError
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import PixelStore
from reidbench.plugins.interfaces import Backbone, Loss, Preprocess, TrainView
from reidbench.training.checkpoint import WEIGHTS, TrainingSummary, latest_step, read_summary
from reidbench.training.loop import train
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import pk_round
from reidbench.training.signals import SIGNALS
from reidbench.utils.arrays import IntArray
from reidbench.utils.machine import local_machine
from reidbench.utils.random_streams import stream, torch_seed
from tests.support.batches import training_batch
from tests.support.logs import assert_same_log

CPU = torch.device("cpu")
RECIPE = Recipe(steps=6, decay_start=3, learning_rate=1e-2, p=2, k=2)
SEED = 7
# Neither in order nor without gaps: as data sets number their people.
PIDS = (30, 5, 900, 9)
SORTED = [5, 9, 30, 900]
CAMS = [4, 5, 6]


class Net(Backbone):
    """A batch norm, whose statistics only move in training mode, and where asked a dropout."""

    embedding_dim = 4

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.preprocess = Preprocess(height=16, width=8)
        self.convolution = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(4 * 7 * 3, 4)
        self.trained_on: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.trained_on.append(images.clone())
        out: Tensor = self.linear(self.dropout(self.norm(self.convolution(images)).flatten(1)))
        return out


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


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(12)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (20, 10, 3), dtype=np.uint8)).save(folder / name)
    return Samples.of_images(folder, names, [pid for pid in PIDS for _ in CAMS], CAMS * len(PIDS))


def fit(
    net: Backbone,
    loss: Loss,
    samples: Samples,
    folder: Path,
    *,
    recipe: Recipe = RECIPE,
    seed: int = SEED,
    checkpoint_seconds: float = 1e9,
) -> TrainingSummary:
    machine = local_machine(device="cpu", threads=1, checkpoint_seconds=checkpoint_seconds, log=print)
    return train(net, loss, recipe, samples, seed=seed, folder=folder, machine=machine)


def decoded(samples: Samples, height: int, width: int) -> PixelStore:
    return open_pixels(samples, height, width, local_machine(device="cpu", threads=1))


def made(loss: type[Head] = Head, dropout: float = 0.0, **options: Any) -> tuple[Net, Head]:
    """Return a network and a loss with the same weights at every call."""
    torch.manual_seed(1)
    return Net(dropout), loss(**options)


def same(one: nn.Module, two: nn.Module) -> None:
    theirs = two.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


# --- what a step is --------------------------------------------------------------------------------------------------
# The schedule of RECIPE, written out: flat for three updates, then a thousandth would be reached after three more.
RATES = [1e-2, 1e-2, 1e-2, 1e-2, 1e-2 * 0.001 ** (1 / 3), 1e-2 * 0.001 ** (2 / 3)]
BETAS = [(0.9, 0.999)] * 3 + [(0.5, 0.999)] * 3
OWN_RATE = 3e-3  # 0.3 of the recipe's


def by_hand(net: Net, loss: Head, samples: Samples) -> None:
    """Train as RECIPE says, each part of a step said in its own words; the temperature has a rate of its own."""
    label_of = {pid: label for label, pid in enumerate(sorted(set(samples.pids.tolist())))}
    labels = np.array([label_of[pid] for pid in samples.pids.tolist()])
    pixels = decoded(samples, 18, 9)
    optimizer = torch.optim.Adam(
        [
            {"params": list(net.parameters())},
            {"params": list(loss.head.parameters())},
            {"params": [loss.temperature]},
        ]
    )
    net.train()
    loss.train()
    # Four identities, two in a batch: every round is two steps.
    for step in range(6):
        if step % 2 == 0:
            batches = pk_round(labels, 2, 2, stream(SEED, "round", step // 2))
        units = batches[step % 2]
        torch.manual_seed(torch_seed(SEED, "step", step, 0))
        images = training_batch(pixels, samples, units, net.preprocess, crop=True, flip=True, seed=SEED, step=step)
        optimizer.zero_grad()
        loss(net(images), torch.from_numpy(labels[units])).mean().backward()
        for group, ratio in zip(optimizer.param_groups, (1, 1, OWN_RATE / 1e-2), strict=True):
            group["lr"] = RATES[step] * ratio
            group["betas"] = BETAS[step]
        optimizer.step()


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_training_is_the_loop_written_by_hand_bit_for_bit(dropout: float, samples: Samples, tmp_path: Path) -> None:
    net, loss = made(dropout=dropout, own_rate=OWN_RATE)
    fit(net, loss, samples, tmp_path)
    net_by_hand, loss_by_hand = made(dropout=dropout, own_rate=OWN_RATE)
    before = net_by_hand.linear.weight.clone()
    by_hand(net_by_hand, loss_by_hand, samples)
    assert not torch.equal(net.linear.weight, before)
    same(net, net_by_hand)
    same(loss, loss_by_hand)


def test_every_group_has_the_rate_and_the_betas_of_its_step(samples: Samples, tmp_path: Path) -> None:
    net, loss = made(own_rate=OWN_RATE)
    seen: list[list[tuple[int, float, tuple[float, float]]]] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.append([(len(g["params"]), g["lr"], g["betas"]) for g in optimizer.param_groups])

    hook = register_optimizer_step_pre_hook(note)
    try:
        fit(net, loss, samples, tmp_path)
    finally:
        hook.remove()
    assert len(seen) == RECIPE.steps
    for groups, rate, betas in zip(seen, RATES, BETAS, strict=True):
        assert [count for count, _, _ in groups] == [len(list(net.parameters())), 2, 1]
        assert [own for _, own, _ in groups] == pytest.approx([rate, rate, rate * OWN_RATE / 1e-2], rel=1e-12)
        assert [own for _, _, own in groups] == [betas] * 3


def test_betas_of_a_losss_own_stay_and_those_of_others_still_change(samples: Samples, tmp_path: Path) -> None:
    class Slow(Head):
        def param_groups(self) -> list[dict[str, object]]:
            return [{"params": list(self.head.parameters()), "betas": (0.7, 0.95)}, {"params": [self.temperature]}]

    net, loss = made(Slow)
    seen: list[list[tuple[float, float]]] = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([group["betas"] for group in optimizer.param_groups])
    )
    try:
        fit(net, loss, samples, tmp_path)
    finally:
        hook.remove()
    assert seen == [[betas, (0.7, 0.95), betas] for betas in BETAS]


def test_what_needs_no_gradient_stays_as_it_was(samples: Samples, tmp_path: Path) -> None:
    net, loss = made()
    net.convolution.weight.requires_grad_(False)
    loss.temperature.requires_grad_(False)
    before = net.convolution.weight.clone()
    fit(net, loss, samples, tmp_path)
    assert torch.equal(net.convolution.weight, before)
    assert loss.temperature.item() == 1.0


# --- modes -----------------------------------------------------------------------------------------------------------


class Drops(Fixed):
    """A loss with a dropout, which asks for embeddings before every round, as mining losses do."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.dropped: list[int] = []
        self.embedded: list[Tensor] = []

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        self.embedded.append(view.embed(np.array([1, 0])))
        return super().next_round(view, number)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.dropped.append(int((self.dropout(torch.ones(1000)) == 0).sum()))
        return super().forward(embeddings, labels)


def test_network_and_loss_train_in_training_mode_also_after_an_embedding(samples: Samples, tmp_path: Path) -> None:
    net, loss = made(Drops)
    net.eval()
    loss.eval()
    fit(net, loss, samples, tmp_path)
    assert isinstance(loss, Drops)
    assert int(net.norm.num_batches_tracked) == RECIPE.steps, "training moves the statistics, embedding does not"
    assert (net.norm.running_mean != 0).all()
    assert len(loss.dropped) == RECIPE.steps
    assert all(300 < dropped < 700 for dropped in loss.dropped)


def test_a_loss_is_shown_the_evaluated_network_without_gradient(samples: Samples, tmp_path: Path) -> None:
    net, loss = made(Drops)
    fit(net, loss, samples, tmp_path)
    assert isinstance(loss, Drops)
    fresh, _ = made(Drops)
    fresh.eval()
    centre = decoded(samples, 18, 9).pixels[[1, 0], 1:17, 0:8]
    expected = fresh(centre.permute(0, 3, 1, 2).float() / 255)
    assert torch.allclose(loss.embedded[0], expected, atol=1e-5)
    assert not any(embedded.requires_grad for embedded in loss.embedded)
    assert not torch.allclose(loss.embedded[0], loss.embedded[-1], atol=1e-4), "it is the present network"


# --- images and labels -----------------------------------------------------------------------------------------------


def images_of(samples: Samples, folder: Path, **changes: Any) -> list[Tensor]:
    """Return the images of every step of a training whose batches are all alike."""
    recipe = Recipe(**{**vars(RECIPE), **{name: v for name, v in changes.items() if name != "seed"}})
    net, loss = made(Fixed)
    fit(net, loss, samples, folder, recipe=recipe, seed=changes.get("seed", SEED))
    return net.trained_on


@pytest.mark.parametrize("kind", ["crop", "flip"])
def test_every_step_and_seed_has_its_own_augmentation(kind: str, samples: Samples, tmp_path: Path) -> None:
    only = {"crop": kind == "crop", "flip": kind == "flip"}
    first = images_of(samples, tmp_path / "first", **only)
    again = images_of(samples, tmp_path / "again", **only)
    other = images_of(samples, tmp_path / "other", seed=SEED + 1, **only)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert all(not torch.equal(first[i], first[j]) for i in range(RECIPE.steps) for j in range(i))


def test_without_crop_and_flip_an_image_is_always_itself(samples: Samples, tmp_path: Path) -> None:
    images = images_of(samples, tmp_path, crop=False, flip=False)
    pixels = decoded(samples, 16, 8).pixels.permute(0, 3, 1, 2).float() / 255
    assert len(images) == RECIPE.steps
    for batch in images:
        torch.testing.assert_close(batch, pixels, rtol=0, atol=1e-6)


def test_labels_count_the_sorted_identities_whatever_their_numbers(samples: Samples, tmp_path: Path) -> None:
    net, loss = made(Fixed)
    fit(net, loss, samples, tmp_path)
    expected = [SORTED.index(pid) for pid in samples.pids.tolist()]
    assert sorted(set(expected)) == [0, 1, 2, 3]
    for labels in loss.labels:
        assert labels.dtype == torch.int64
        assert labels.tolist() == expected
    assert isinstance(loss, Fixed)
    for view in loss.views:
        assert view.labels.tolist() == expected
        assert (view.p, view.k) == (RECIPE.p, RECIPE.k)


def test_images_and_labels_of_a_batch_belong_together(samples: Samples, tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "crop": False, "flip": False})
    net, loss = made()
    fit(net, loss, samples, tmp_path, recipe=recipe)
    pixels = decoded(samples, 16, 8).pixels.permute(0, 3, 1, 2).float() / 255
    for images, labels in zip(net.trained_on, loss.labels, strict=True):
        units = [int((pixels - image).abs().amax((1, 2, 3)).argmin()) for image in images]
        assert labels.tolist() == [SORTED.index(samples.pids[unit]) for unit in units]
        assert sorted(labels.tolist().count(label) for label in set(labels.tolist())) == [2, 2]


# --- draws -----------------------------------------------------------------------------------------------------------


class Draws(Head):
    """Draws from everything that a loss may draw from; ``greedy`` draws more of it and makes its rounds longer."""

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


def draws(samples: Samples, folder: Path, greedy: bool, seed: int = SEED) -> Draws:
    net, loss = made(Draws, greedy=greedy)
    fit(net, loss, samples, folder, seed=seed)
    assert isinstance(loss, Draws)
    return loss


def test_what_is_drawn_depends_on_seed_and_round_or_step_alone(samples: Samples, tmp_path: Path) -> None:
    modest, greedy = (draws(samples, tmp_path / str(greedy), greedy) for greedy in (False, True))
    assert len(modest.of_rounds) == 6
    assert len(greedy.of_rounds) == 3, "its rounds are twice as long, so they begin at other steps"
    assert modest.of_rounds[:3] == greedy.of_rounds
    assert modest.of_steps == greedy.of_steps
    for drawn in zip(*modest.of_rounds, strict=True):
        assert len(set(drawn)) == len(drawn), "every round has its own"
    assert len(set(modest.of_steps)) == 6
    other = draws(samples, tmp_path / "other", False, seed=SEED + 1)
    for own, others in (*zip(modest.of_rounds, other.of_rounds, strict=True),):
        assert own[0] != others[0]
        assert own[1] != others[1]
    assert not set(modest.of_steps) & set(other.of_steps)


def test_the_callers_draws_do_not_reach_a_training(samples: Samples, tmp_path: Path) -> None:
    one = draws(samples, tmp_path / "one", False)
    net, loss = made(Draws)
    torch.rand(17)
    np.random.default_rng().random()
    fit(net, loss, samples, tmp_path / "two")
    assert isinstance(loss, Draws)
    assert (loss.of_rounds, loss.of_steps) == (one.of_rounds, one.of_steps)


# --- stops -----------------------------------------------------------------------------------------------------------


class Signals(Draws):
    """Asks the process to stop while a certain step is under way."""

    def __init__(self, stop_at: int | None, which: signal.Signals = signal.SIGINT, greedy: bool = False) -> None:
        super().__init__(greedy)
        self.stop_at, self.which = stop_at, which

    def at(self, step: int) -> None:
        if step == self.stop_at:
            os.kill(os.getpid(), self.which)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_heads_buffers_and_draws_of_a_loss_outlive_a_stop(
    stop_at: int, greedy: bool, samples: Samples, tmp_path: Path
) -> None:
    whole_net, whole = made(Signals, dropout=0.3, stop_at=None, greedy=greedy)
    fit(whole_net, whole, samples, tmp_path / "whole")
    net, loss = made(Signals, dropout=0.3, stop_at=stop_at, greedy=greedy)
    with pytest.raises(Interrupted, match=f"stopped at step {stop_at + 1} of 6"):
        fit(net, loss, samples, tmp_path / "parts")
    assert latest_step(tmp_path / "parts") == stop_at + 1

    torch.manual_seed(99)  # other weights than those that the first part began with
    net, loss = Net(0.3), Signals(None, greedy=greedy)
    assert not torch.equal(loss.head.weight, whole.head.weight)
    trained = fit(net, loss, samples, tmp_path / "parts")
    assert trained.resumed_at == stop_at + 1
    same(net, whole_net)
    same(loss, whole)
    assert int(loss.calls) == RECIPE.steps, "the buffer goes on where it stood"
    assert len(loss.labels) == RECIPE.steps - stop_at - 1, "no step is done twice"
    assert_same_log(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_in_the_last_step_leaves_a_finished_training(
    which: signal.Signals, samples: Samples, tmp_path: Path
) -> None:
    whole_net, whole = made(Signals, stop_at=None)
    fit(whole_net, whole, samples, tmp_path / "whole")
    net, loss = made(Signals, stop_at=RECIPE.steps - 1, which=which)
    with pytest.raises(Interrupted, match="after the last step"):
        fit(net, loss, samples, tmp_path / "stopped")
    said = read_summary(tmp_path / "stopped")
    assert said is not None
    assert said.steps == RECIPE.steps
    assert latest_step(tmp_path / "stopped") == 0
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert_same_log(tmp_path / "stopped", tmp_path / "whole")


def test_signals_mean_afterwards_what_they_meant_before(samples: Samples, tmp_path: Path) -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError("the training takes its own signals")

    before = {number: signal.signal(number, mine) for number in SIGNALS}
    try:
        net, loss = made(Signals, stop_at=1)
        with pytest.raises(Interrupted):
            fit(net, loss, samples, tmp_path)
        assert [signal.getsignal(number) for number in before] == [mine] * len(SIGNALS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Breaks(Head):
    """Ends the training the hard way, with no chance to save anything."""

    def __init__(self, at_step: int) -> None:
        super().__init__()
        self.at_step = at_step

    def at(self, step: int) -> None:
        if step == self.at_step:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(("every", "kept"), [(0.0, 4), (1e9, 0)])
def test_checkpoints_come_as_often_as_asked(every: float, kept: int, samples: Samples, tmp_path: Path) -> None:
    net, loss = made(Breaks, at_step=4)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(net, loss, samples, tmp_path, checkpoint_seconds=every)
    assert latest_step(tmp_path) == kept
    assert read_summary(tmp_path) is None


# --- a loss that is no number ----------------------------------------------------------------------------------------


class Diverges(Head):
    """Gives something that is no number from a certain step on."""

    def __init__(self, at_step: int, value: float) -> None:
        super().__init__()
        self.at_step, self.value = at_step, value

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        terms = super().forward(embeddings, labels)
        return terms * self.value if int(self.calls) > self.at_step else terms


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_step_rate_and_identities(
    value: float, samples: Samples, tmp_path: Path
) -> None:
    net, loss = made(Diverges, at_step=4, value=value)
    with pytest.raises(TrainingError) as caught:
        fit(net, loss, samples, tmp_path)
    identities = sorted({SORTED[label] for label in loss.labels[-1].tolist()})
    assert len(identities) == RECIPE.p
    for part in (f"Diverges ({__name__}) is {value} at step 4 ", "learning rate 0.001", f"identities {identities}"):
        assert part in str(caught.value)
    assert len(loss.labels) == 5, "it ends there"
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters()), "no update from it"
    assert read_summary(tmp_path) is None
    assert not (tmp_path / WEIGHTS).exists()
