"""The loop: exact resume at any step, seeded draws, loss in float32, rounds of a loss's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.errors import Interrupted, PluginError
from reidbench.plugins.interfaces import Backbone, Loss, LossValue, Preprocess, TrainView
from reidbench.training import signals as stopping
from reidbench.training.checkpoint import load_weights, read_summary
from reidbench.training.loop import evaluate_loss, train
from reidbench.training.monitor import COLUMNS
from reidbench.training.optimizer import learning_rate
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import sample_round
from reidbench.utils.arrays import IntArray
from reidbench.utils.machine import local_machine
from tests.support.logs import assert_same_log, read_log

RECIPE = Recipe(steps=9, decay_start=5, learning_rate=1e-2, p=3, k=2)
CPU = torch.device("cpu")


class Net(Backbone):
    """Convolution, batch norm and dropout: weights, buffers and draws to carry over a stop."""

    embedding_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(height=16, width=8)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten(), nn.LazyLinear(4)
        )
        self.layers(torch.zeros(2, 3, 16, 8))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out


class Spread(Loss):
    """A loss with a weight of its own and, where asked, rounds of its own."""

    def __init__(self, own_rounds: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.own_rounds = own_rounds
        self.seen: list[float] = []

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        centre = embeddings.mean(0, keepdim=True)
        terms = (self.scale - (embeddings - centre).square().sum(1)).square()
        return LossValue(terms.mean(), {"loss": terms}, {"scale, of all": self.scale.detach()})

    def next_round(self, view: TrainView, number: int) -> list[IntArray] | None:
        if not self.own_rounds:
            return None
        self.seen.append(float(view.embed(np.arange(3)).sum()))
        order = view.generator.permutation(len(view.labels))
        return [order[:4], order[4:10]]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(12)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (20, 10, 3), dtype=np.uint8)).save(folder / name)
    return Samples.of_images(folder, names, [pid for pid in (3, 5, 8, 9) for _ in range(3)], [1, 2, 3] * 4)


def run(samples: Samples, folder: Path, own_rounds: bool = False, stop_at: int | None = None) -> tuple[Net, Spread]:
    torch.manual_seed(1)
    net, loss = Net(), Spread(own_rounds)
    if stop_at is None:
        train(
            net,
            loss,
            RECIPE,
            samples,
            seed=7,
            folder=folder,
            machine=local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print),
        )
        return net, loss
    done = 0

    class StopAfter(stopping.StopRequest):
        @property
        def requested(self) -> bool:
            nonlocal done
            done += 1
            return done >= stop_at

        @requested.setter
        def requested(self, value: bool) -> None:
            pass

    original = stopping.StopRequest
    stopping.StopRequest = StopAfter  # type: ignore[misc]
    try:
        with pytest.raises(Interrupted, match=f"stopped at step {stop_at} of 9"):
            train(
                net,
                loss,
                RECIPE,
                samples,
                seed=7,
                folder=folder,
                machine=local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print),
            )
    finally:
        stopping.StopRequest = original  # type: ignore[misc]
    return net, loss


@pytest.mark.parametrize("own_rounds", [False, True])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 8])
def test_a_training_resumed_at_any_step_ends_bit_for_bit_alike(
    own_rounds: bool, stop_at: int, samples: Samples, tmp_path: Path
) -> None:
    whole, _ = run(samples, tmp_path / "whole", own_rounds)
    run(samples, tmp_path / "parts", own_rounds, stop_at)
    assert read_summary(tmp_path / "parts") is None
    parts, _ = run(samples, tmp_path / "parts", own_rounds)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    assert_same_log(tmp_path / "whole", tmp_path / "parts")
    summary = read_summary(tmp_path / "parts")
    assert summary is not None
    assert summary.resumed_at == stop_at


def test_the_kept_weights_are_the_trained_ones(samples: Samples, tmp_path: Path) -> None:
    net, _ = run(samples, tmp_path)
    fresh = Net()
    load_weights(fresh, tmp_path)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])


def test_the_schedule_is_what_the_optimizer_gets(samples: Samples, tmp_path: Path) -> None:
    run(samples, tmp_path)
    rates = read_log(tmp_path)["learning_rate"]
    np.testing.assert_array_equal(rates, [learning_rate(RECIPE, step) for step in range(9)])


def test_the_log_has_what_the_loss_reports(samples: Samples, tmp_path: Path) -> None:
    _, loss = run(samples, tmp_path)
    log = read_log(tmp_path)
    own = ["step", "learning_rate", "loss", "images_per_second", "scale, of all"]
    assert list(log) == [*own, *COLUMNS, "items"]
    assert log["step"].tolist() == list(range(9))
    assert log["scale, of all"][0] == 1.0
    assert log["scale, of all"][-1] != loss.scale.item(), "it is what the step began with"
    assert not np.isnan(np.stack([log[name] for name in COLUMNS])).any()
    assert log["items"].shape == (9, 128)
    np.testing.assert_allclose(np.nanmean(log["items"], axis=1), log["loss"], rtol=1e-2)
    np.testing.assert_allclose(log["item_mean"], log["loss"], rtol=1e-6)


def test_the_gradient_norm_is_that_of_network_and_loss(samples: Samples, tmp_path: Path) -> None:
    class Reporter(Spread):
        def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
            value = super().forward(embeddings, labels)
            gradients = torch.autograd.grad(value.total, [*net.parameters(), self.scale], retain_graph=True)
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            return LossValue(value.total, value.per_item, {"norm": norm})

    torch.manual_seed(1)
    net = Net()
    train(
        net,
        Reporter(False),
        RECIPE,
        samples,
        seed=7,
        folder=tmp_path,
        machine=local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print),
    )
    log = read_log(tmp_path)
    np.testing.assert_allclose(log["gradient_norm"], log["norm"], rtol=1e-5)


def test_a_net_that_collapses_is_told_from_one_that_recovers(samples: Samples, tmp_path: Path) -> None:
    class Point(Net):
        """Packs everything into one point at the steps of ``packs``."""

        def __init__(self, packs: range) -> None:
            super().__init__()
            self.packs, self.done = packs, 0

        def forward(self, images: Tensor) -> Tensor:
            out = super().forward(images)
            self.done += self.training
            return out * 1e-6 + 1 if self.done - 1 in self.packs else out

    def verdict(name: str, packs: range) -> tuple[str, int]:
        train(
            Point(packs),
            Spread(False),
            RECIPE,
            samples,
            seed=7,
            folder=tmp_path / name,
            machine=local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print),
        )
        said = read_summary(tmp_path / name)
        assert said is not None
        return said.verdict, said.packed_steps

    assert verdict("never", range(0)) == ("healthy", 0)
    assert verdict("recovers", range(2, 8)) == ("packed", 6)
    assert verdict("ends so", range(6, 9)) == ("collapsed", 3)


def test_the_losss_own_weights_are_trained(samples: Samples, tmp_path: Path) -> None:
    _, loss = run(samples, tmp_path)
    assert loss.scale.item() != 1.0


def view(labels: list[int]) -> TrainView:
    def no_embedding(units: IntArray) -> Tensor:
        raise AssertionError("not asked for")

    return TrainView(np.array(labels), 2, 2, np.random.default_rng(0), no_embedding)


@pytest.mark.parametrize("batches", [[], [np.array([], dtype=np.int64)], [np.array([0, 4])], [np.array([-1])]])
def test_a_round_that_is_none_is_the_plugins_fault(batches: list[IntArray]) -> None:
    loss = Spread(False)
    loss.next_round = lambda view, number: batches  # type: ignore[method-assign]
    with pytest.raises(PluginError, match=r"Spread.*next_round must return at least one batch of units in 0\.\.3"):
        sample_round(loss, RECIPE, view([0, 0, 1, 1]), 0)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_loss_sees_float32_or_float64(given: torch.dtype, computed: torch.dtype) -> None:
    seen = []

    class Watch(Loss):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            seen.append(embeddings.dtype)
            return embeddings.sum(1)

    value = evaluate_loss(Watch(), torch.ones(3, 2, dtype=given), torch.zeros(3, dtype=torch.int64))
    assert seen == [computed]
    assert value.total.dtype == computed


def test_a_tensor_of_terms_is_their_mean_and_a_scalar_is_itself() -> None:
    class Returns(Loss):
        def __init__(self, value: object) -> None:
            super().__init__()
            self.value = value

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return self.value  # type: ignore[return-value]

    batch = torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)
    assert evaluate_loss(Returns(torch.tensor([1.0, 3.0])), *batch).total.item() == 2.0
    assert evaluate_loss(Returns(torch.tensor(5.0)), *batch).total.item() == 5.0
    for wrong in (torch.zeros(2, 2), 1.0, None, LossValue(total=torch.zeros(2))):
        with pytest.raises(PluginError, match=r"Returns.*forward must return"):
            evaluate_loss(Returns(wrong), *batch)


def test_another_thread_count_on_resume_is_announced_and_kept(samples: Samples, tmp_path: Path) -> None:
    run(samples, tmp_path, stop_at=4)
    said: list[str] = []
    torch.manual_seed(1)
    train(
        Net(),
        Spread(False),
        RECIPE,
        samples,
        seed=7,
        folder=tmp_path,
        machine=local_machine(device="cpu", threads=2, checkpoint_seconds=1e9, log=said.append),
    )
    assert "threads 1 before, 2 now" in said[1]
    summary = read_summary(tmp_path)
    assert summary is not None
    assert [part.threads for part in summary.environments] == [1, 2]


def test_weights_that_two_layers_share_are_kept_and_come_back(samples: Samples, tmp_path: Path) -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.twin = self.layers[0]

    net = Tied()
    # A checkpoint at every step.
    machine = local_machine(device="cpu", threads=1, checkpoint_seconds=0)
    train(net, Spread(False), RECIPE, samples, seed=7, folder=tmp_path, machine=machine)  # fmt: skip
    other = Tied()
    load_weights(other, tmp_path)
    assert all(
        torch.equal(one, two) for one, two in zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_groups_own_betas_stay_its_own(samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[tuple[float, float]]] = []

    class Recorder(torch.optim.Adam):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            seen.append([group["betas"] for group in self.param_groups])
            super().step(closure)

    class Own(Spread):
        def param_groups(self) -> list[dict[str, object]]:
            return [{"params": [self.scale], "betas": (0.1, 0.2)}]

    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    train(
        Net(),
        Own(False),
        RECIPE,
        samples,
        seed=7,
        folder=tmp_path,
        machine=local_machine(device="cpu", threads=1, checkpoint_seconds=1e9, log=print),
    )
    assert [groups[0][0] for groups in seen] == [0.9] * 5 + [0.5] * 4
    assert {groups[1] for groups in seen} == {(0.1, 0.2)}
