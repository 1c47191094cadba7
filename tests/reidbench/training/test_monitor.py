"""The log of a training: percentiles, the sample of terms, packed steps and collapse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reidbench.plugins.interfaces import LossValue
from reidbench.training.monitor import COLUMNS, LOGGED_ITEMS, Monitor, percentiles
from reidbench.training.optimizer import learning_rate
from tests.support.logs import read_log
from tests.support.loop_training import fit as fit_loop
from tests.support.tiny_training import RECIPE, Net, Spread, fit

CPU = torch.device("cpu")


def monitored(embeddings: torch.Tensor, terms: torch.Tensor | None = None, seed: int = 0) -> Monitor:
    """Return a monitor that has recorded one step."""
    monitor = Monitor(1, seed, CPU)
    value = LossValue(torch.tensor(2.0), {} if terms is None else {"loss": terms})
    monitor.record(0, value, embeddings, (torch.tensor(3.0), torch.tensor(2.0)))
    return monitor


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_percentiles_are_values_of_the_input(values):
    found = percentiles(torch.tensor(values)).tolist()
    ordered = sorted(values)
    assert (found[0], found[-1]) == (ordered[0], ordered[-1])
    assert found == sorted(found)
    assert set(found) <= set(ordered)


def test_statistics_equal_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(21, 5, generator=generator)
    terms = torch.tensor([0.0, 1e-6, 0.5, 1.5] * 5 + [2.0])
    arrays = monitored(embeddings, terms).arrays()
    one_by_one = [float((embeddings[i] - embeddings[j]).norm()) for i in range(21) for j in range(i)]
    for name, values in (
        ("item", terms.tolist()),
        ("norm", [float(row.norm()) for row in embeddings]),
        ("entry", embeddings.flatten().tolist()),
        ("distance", one_by_one),
    ):
        ordered = sorted(values)
        for percentile in (0, 5, 50, 95, 100):
            expected = ordered[round(percentile * (len(ordered) - 1) / 100)]
            assert arrays[f"{name}_{percentile}"][0] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert arrays["gradient_norm"][0] == 3
    assert arrays["active"][0] == pytest.approx(11 / 21)
    assert arrays["item_mean"][0] == pytest.approx(float(terms.mean()))


def test_items_are_all_terms_or_a_seeded_sample():
    embeddings = torch.randn(4, 3)
    few = monitored(embeddings, torch.arange(5.0)).arrays()["items"][0]
    assert few[:5].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(few[5:]).all()
    many = torch.arange(1000.0)
    first = monitored(embeddings, many).arrays()["items"][0]
    assert len(set(first.tolist())) == LOGGED_ITEMS
    assert np.array_equal(first, monitored(embeddings, many).arrays()["items"][0])
    assert not np.array_equal(first, monitored(embeddings, many, seed=1).arrays()["items"][0])


def test_a_loss_without_terms_counts_as_active():
    arrays = monitored(torch.randn(4, 3)).arrays()
    assert (arrays["active"][0], arrays["item_50"][0]) == (1, 2)


def test_terms_beyond_half_precision_are_clamped():
    assert monitored(torch.randn(4, 3), torch.tensor([1e9])).arrays()["items"][0, 0] == 65504


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_packed_compares_distances_with_norms(scale):
    centre, noise = torch.ones(1, 8), torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert monitored(scale * (centre + 1e-5 * noise)).packed(0, 1)
    assert monitored(scale * (centre + 1e-1 * noise)).packed(0, 1).item() is False
    assert monitored(scale * noise).packed(0, 1).item() is False


def test_embeddings_of_zeros_are_packed():
    assert monitored(torch.zeros(5, 3)).packed(0, 1)


def run_of(packed: list[bool]) -> Monitor:
    monitor = Monitor(len(packed), 0, CPU)
    spread = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for step, flag in enumerate(packed):
        monitor.record(
            step, LossValue(torch.tensor(1.0)), torch.ones(6, 4) if flag else spread, (torch.tensor(1.0),) * 2
        )
    return monitor


def test_collapse_is_judged_by_the_last_steps():
    recovered = run_of([False] * 20 + [True] * 60 + [False] * 20)
    assert recovered.packed(50, 51)
    assert (recovered.verdict(100), recovered.packed_steps(100)) == ("packed", 60)
    assert run_of([False] * 90 + [True] * 10).verdict(100) == "collapsed"
    assert run_of([False] * 91 + [True] * 9).verdict(100) == "packed"
    assert run_of([True] * 99 + [False]).verdict(100) == "packed"
    assert run_of([True]).verdict(1) == "collapsed"
    assert run_of([False] * 5).verdict(5) == "healthy"


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ([0.0, 0.0, 0.0], "no_gradient"),
        ([3e-7, 2e-7, 0.0], "no_gradient"),  # what rounding makes of a constant loss
        ([0.0, 0.3, 0.0], "healthy"),  # a hinge that most batches satisfy
        ([0.3, 0.0, 0.0], "healthy"),  # learned until nothing was left
        ([0.0, 0.0, torch.nan], "healthy"),  # not finite is another fault
    ],
)
def test_no_gradient_means_none_in_any_step(network, expected):
    monitor = Monitor(3, 0, CPU)
    for step, norm in enumerate(network):
        norms = torch.tensor(1.0), torch.tensor(norm)  # a head's gradient teaches the network nothing
        monitor.record(step, LossValue(torch.tensor(1.0)), torch.randn(6, 4), norms)
        assert ("no gradient" in monitor.describe(step, frozen=False)) == (norm < 1e-6)
    assert monitor.verdict(3) == expected


def test_column_names_are_unique():
    assert len(set(COLUMNS)) == len(COLUMNS) == 24


# --- the log of a training -------------------------------------------------------------------------------------------


def test_the_log_holds_the_values_of_the_loss(tmp_path):
    _, loss, _ = fit(Spread, tmp_path / "run")
    log = read_log(tmp_path / "run")
    own = ["step", "learning_rate", "loss", "images_per_second", "scale, of all"]
    assert list(log) == [*own, *COLUMNS, "items"]
    assert log["step"].tolist() == list(range(RECIPE.steps))
    assert log["learning_rate"].tolist() == [learning_rate(RECIPE, step) for step in range(RECIPE.steps)]
    assert log["scale, of all"][0] == 1.0
    assert log["scale, of all"][-1] != loss.scale.item(), "it is the value before the update"
    assert not np.isnan(np.stack([log[name] for name in COLUMNS])).any()
    assert log["items"].shape == (RECIPE.steps, 128)
    np.testing.assert_allclose(np.nanmean(log["items"], axis=1), log["loss"], rtol=1e-2)
    np.testing.assert_allclose(log["item_mean"], log["loss"], rtol=1e-6)


def test_the_gradient_norm_is_that_of_network_and_loss(samples, tmp_path):
    class Reporter(Spread):
        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossValue:
            value = super().forward(embeddings, labels)
            gradients = torch.autograd.grad(value.total, [*net.parameters(), self.scale], retain_graph=True)
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            return LossValue(value.total, value.per_item, {"norm": norm})

    net = Net()
    fit_loop(net, Reporter(), samples, tmp_path)
    log = read_log(tmp_path)
    np.testing.assert_allclose(log["gradient_norm"], log["norm"], rtol=1e-5)


def test_a_frozen_network_under_a_head_has_no_gradient(samples, tmp_path):
    net = Net()
    summary = fit_loop(net.requires_grad_(requires_grad=False), Spread(), samples, tmp_path)
    assert summary.verdict == "no_gradient"
    log = read_log(tmp_path)
    assert (log["gradient_norm"] > 0).all()
    assert not log["network_gradient_norm"].any()


@pytest.mark.parametrize(
    ("steps", "expected"), [(range(0), ("healthy", 0)), (range(2, 5), ("packed", 3)), (range(4, 6), ("collapsed", 2))]
)
def test_a_collapse_is_told_from_a_recovery(steps, expected, samples, tmp_path):
    class Packing(Net):
        """Maps all images to nearly one point at some steps."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = super().forward(images)
            return out * 1e-6 + 1 if len(self.batches) - 1 in steps else out

    summary = fit_loop(Packing(), Spread(), samples, tmp_path)
    assert (summary.verdict, summary.packed_steps) == expected
