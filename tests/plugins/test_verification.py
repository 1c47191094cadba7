"""verification and I+V: cross entropy by hand, pair rounds, heads that train, and trainings that go on exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.classification import Classification
from reidbench_losses.verification import (
    Difference,
    IdentificationVerification,
    Verification,
    compared,
    pair_round,
    register_losses,
)
from torch import Tensor

from reidbench import Loss, OptionError, TrainInfo, TrainingError
from reidbench.training.checkpoint import WEIGHTS
from tests.support.tiny_training import INFO as TRAINED
from tests.support.tiny_training import assert_exact, fit, view_of

INFO = TrainInfo(embedding_dim=5, num_pids=7)
BOTH = [Verification, IdentificationVerification]


def cross_entropy(x: list[float], layer: torch.nn.Linear, label: int) -> float:
    logits = [
        sum(w * v for w, v in zip(weights, x, strict=True)) + bias
        for weights, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]
    return math.log(sum(math.exp(logit - logits[label]) for logit in logits))


def batch(pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2 * pairs, 5, dtype=torch.float64, generator=generator)
    return embeddings, torch.randint(0, 2, (2 * pairs,), generator=generator)


@pytest.mark.parametrize("difference", ["squared", "absolute"])
@settings(max_examples=15, deadline=None)
@given(pairs=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_the_loss_is_the_cross_entropy_of_same_or_different(difference: Difference, pairs: int, seed: int) -> None:
    torch.manual_seed(seed)
    loss = Verification(INFO, difference=difference).double()
    embeddings, labels = batch(pairs, seed)
    value = loss(embeddings, labels)
    rows, terms, right = embeddings.tolist(), [], 0
    for first in range(pairs):
        second = first + pairs
        x = [a - b for a, b in zip(rows[first], rows[second], strict=True)]
        x = [v * v if difference == "squared" else abs(v) for v in x]
        terms.append(cross_entropy(x, loss.verifier, int(labels[first] == labels[second])))
        right += terms[-1] < math.log(2)
    torch.testing.assert_close(value.per_item["loss"], torch.tensor(terms, dtype=torch.float64), rtol=0, atol=1e-9)
    assert value.total.item() == pytest.approx(sum(terms) / pairs, abs=1e-9)
    assert value.scalars["accuracy"].item() == pytest.approx(right / pairs)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_i_and_v_is_the_sum_of_both(weight: float) -> None:
    torch.manual_seed(3)
    loss = IdentificationVerification(INFO, weight=weight)
    torch.manual_seed(3)
    identification, verification = Classification(INFO), Verification(INFO)
    embeddings, labels = batch(6, 1)
    one, two, both = (part.double()(embeddings, labels) for part in (identification, verification, loss))
    torch.testing.assert_close(both.total, one.total + weight * two.total)
    assert {name: len(terms) for name, terms in both.per_item.items()} == {"identification": 12, "verification": 6}
    torch.testing.assert_close(both.per_item["verification"], two.per_item["loss"])
    torch.testing.assert_close(both.per_item["identification"], one.per_item["loss"])
    assert both.scalars["identification"].equal(one.total)
    assert both.scalars["verification_accuracy"].equal(two.scalars["accuracy"])
    assert not both.scalars["verification"].requires_grad


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=8).filter(lambda x: max(x) > 1),
    p=st.integers(1, 6),
    k=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_a_round_is_half_of_pairs_of_one_identity(counts: list[int], p: int, k: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)[np.random.default_rng(seed).permutation(sum(counts))]
    batches = pair_round(view_of(labels, p=p, k=k, seed=seed), "it")
    pairs = max(2, p * k // 2)
    able = sum(count for count in counts if count > 1)
    assert len(batches) == max(1, able // pairs)
    first_ones = np.concatenate([units[:pairs] for units in batches])
    assert np.unique(first_ones, return_counts=True)[1].max() <= -(-len(first_ones) // able)
    for units in batches:
        first, second = units.reshape(2, pairs)
        same = labels[first] == labels[second]
        assert same.tolist() == [True] * (pairs // 2) + [False] * (pairs - pairs // 2)
        assert (first != second).all()


def test_every_pair_can_come() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    drawn: set[tuple[int, int]] = set()
    for number in range(150):
        for units in pair_round(view_of(labels, p=2, k=2, number=number), "it"):
            drawn |= set(zip(*units.reshape(2, -1).tolist(), strict=True))
    assert drawn == {(a, b) for a in range(5) for b in range(6) if a != b}, "2 alone is only ever a second image"


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
@pytest.mark.parametrize("kind", BOTH)
def test_data_without_pairs_is_refused(kind: type[Loss], labels: list[int]) -> None:
    with pytest.raises(TrainingError, match=r"^(identification_)?verification: none of the 3 images to draw from"):
        kind(INFO).next_round(view_of(labels), 0)


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(TrainingError, match="verification: a batch of 3 images is no stack of pairs"):
        Verification(INFO)(torch.randn(3, 5), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("difference", ["squared", "absolute"])
@pytest.mark.parametrize("kind", BOTH)
def test_coincident_pairs_have_a_finite_gradient(kind: type[Verification], difference: Difference) -> None:
    embeddings = torch.full((8, 5), 0.7, requires_grad=True)
    kind(INFO, difference=difference)(embeddings, torch.arange(8) % 4).total.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_at_least_float32(dtype: torch.dtype, kind: type[Loss]) -> None:
    torch.manual_seed(0)
    loss, labels = kind(INFO), torch.arange(8) % 3
    embeddings = torch.randn(8, 5).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    total = loss(embeddings, labels).total
    assert total.dtype == wide
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(embeddings, labels).total.equal(total)
    assert compared(embeddings, torch.tensor([[0, 1]]), "absolute").dtype == wide


@pytest.mark.parametrize("kind", BOTH)
def test_dropout_works_in_training_only(kind: type[Verification]) -> None:
    torch.manual_seed(0)
    loss, plain = kind(INFO, dropout=0.5), kind(INFO)
    plain.load_state_dict(loss.state_dict())
    embeddings, labels = torch.randn(8, 5), torch.arange(8) % 3
    assert not loss(embeddings, labels).total.equal(plain(embeddings, labels).total)
    loss.eval()
    assert loss(embeddings, labels).total.equal(plain(embeddings, labels).total)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dropout": 1.0}, "dropout must be from 0 to below 1, got 1"), ({"weight": -1}, "weight must be at least 0")],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=f"identification_verification: {message}"):
        IdentificationVerification(INFO, **options)
    if "dropout" in options:
        with pytest.raises(OptionError, match=f"^verification: {message}"):
            Verification(INFO, **options)


@pytest.mark.parametrize("kind", BOTH)
def test_a_training_is_repeated_and_gone_on_with_exactly(kind: type[Verification], tmp_path: Path) -> None:
    assert_exact(lambda: kind(TRAINED, dropout=0.3), tmp_path)


def test_heads_train_and_are_thrown_away(tmp_path: Path) -> None:
    import safetensors.torch

    net, loss, _ = fit(lambda: IdentificationVerification(TRAINED), tmp_path / "run")
    torch.manual_seed(1)
    type(net)()
    fresh = IdentificationVerification(TRAINED)
    assert len(list(loss.parameters())) == 4
    for trained, untrained in zip(loss.parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(trained, untrained)
    kept = safetensors.torch.load_file(tmp_path / "run" / WEIGHTS)
    assert kept.keys() == net.state_dict().keys()


def test_descending_the_loss_tells_pairs_apart() -> None:
    torch.manual_seed(0)
    loss = Verification(INFO)
    embeddings = torch.randn(24, 5, requires_grad=True)
    labels = torch.cat([torch.arange(12) % 4, torch.cat([torch.arange(6), torch.arange(6) + 3]) % 4])
    optimizer = torch.optim.Adam([embeddings, *loss.parameters()], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(embeddings, labels).total.backward()
        optimizer.step()
    value = loss(embeddings, labels)
    assert value.total < 0.1
    assert value.scalars["accuracy"] == 1


def test_what_the_runner_reads() -> None:
    losses = register_losses()
    found = {name: (kind(INFO).metric, kind(INFO).pool) for name, kind in losses.items()}
    assert found == {"verification": (None, "mean"), "identification_verification": (None, "max")}
