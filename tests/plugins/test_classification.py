"""classification: cross entropy by hand, precision, and a head that trains and belongs to the loss."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.classification import Classification, register_losses

from reidbench import OptionError, TrainInfo
from tests.support.tiny_training import INFO as TRAINED
from tests.support.tiny_training import RECIPE, assert_exact


def build(embedding_dim: int = 5, num_pids: int = 7, seed: int = 0) -> Classification:
    torch.manual_seed(seed)
    return Classification(TrainInfo(embedding_dim=embedding_dim, num_pids=num_pids))


@settings(max_examples=25, deadline=None)
@given(images=st.integers(1, 12), size=st.integers(1, 6), pids=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_the_loss_is_the_cross_entropy_of_one_linear_layer(images: int, size: int, pids: int, seed: int) -> None:
    loss = build(size, pids, seed).double()
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, size, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, pids, (images,), generator=generator)
    value = loss(embeddings, labels)

    weight, bias = (parameter.tolist() for parameter in loss.parameters())
    terms, right = [], 0
    for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        logits = [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
        terms.append(math.log(sum(math.exp(logit - logits[label]) for logit in logits)))
        right += logits[label] == max(logits)
    torch.testing.assert_close(value.per_item["loss"], torch.tensor(terms, dtype=torch.float64), rtol=0, atol=1e-12)
    assert value.total.item() == pytest.approx(sum(terms) / images, abs=1e-12)
    assert value.scalars["accuracy"].item() == pytest.approx(right / images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_even_under_autocast(dtype: torch.dtype) -> None:
    loss = build()
    embeddings = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    labels = torch.arange(6)
    expected = loss(embeddings.float(), labels).total
    assert expected.dtype == torch.float32
    assert loss(embeddings, labels).total.equal(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(embeddings, labels).total.equal(expected)


def test_double_embeddings_stay_double() -> None:
    assert build()(torch.randn(6, 5, dtype=torch.float64), torch.arange(6)).total.dtype == torch.float64


def test_the_head_trains_with_the_loss() -> None:
    loss = build()
    (group,) = loss.param_groups()
    assert [tuple(parameter.shape) for parameter in group["params"]] == [(7, 5), (7,)]
    embeddings = torch.randn(7, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    labels = torch.arange(7)
    optimizer = torch.optim.Adam([embeddings, *group["params"]], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(embeddings, labels).total.backward()
        optimizer.step()
    value = loss(embeddings, labels)
    assert value.total.item() < 0.1
    assert value.scalars["accuracy"].item() == 1


def test_the_head_is_drawn_from_torchs_generator() -> None:
    assert build(seed=3).classifier.weight.equal(build(seed=3).classifier.weight)
    assert not build(seed=3).classifier.weight.equal(build(seed=4).classifier.weight)


def test_what_the_runner_reads() -> None:
    loss = register_losses()["classification"](TrainInfo(embedding_dim=5, num_pids=7))
    assert (loss.metric, loss.pool) == (None, "max")


@settings(max_examples=15, deadline=None)
@given(smoothing=st.floats(0, 0.99), pids=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_label_smoothing_shares_the_weight_among_all_identities(smoothing: float, pids: int, seed: int) -> None:
    torch.manual_seed(seed)
    loss = Classification(TrainInfo(embedding_dim=3, num_pids=pids), label_smoothing=smoothing).double()
    embeddings, labels = torch.randn(4, 3, dtype=torch.float64), torch.randint(0, pids, (4,))
    value = loss(embeddings, labels)
    for row, label, term in zip(embeddings.tolist(), labels.tolist(), value.per_item["loss"].tolist(), strict=True):
        weight, bias = (parameter.tolist() for parameter in loss.parameters())
        logits = [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
        whole = math.log(sum(math.exp(logit) for logit in logits))
        shares = [smoothing / pids + (1 - smoothing) * (place == label) for place in range(pids)]
        expected = sum(share * (whole - logit) for share, logit in zip(shares, logits, strict=True))
        assert term == pytest.approx(expected, abs=1e-9)


def test_dropout_hides_entries_of_the_embedding_in_training_only() -> None:
    info = TrainInfo(embedding_dim=400, num_pids=7)
    torch.manual_seed(0)
    loss, plain = Classification(info, dropout=0.5), Classification(info)
    plain.load_state_dict(loss.state_dict())
    embeddings, labels = torch.ones(7, 400, requires_grad=True), torch.arange(7)
    total = loss(embeddings, labels).total
    total.backward()
    assert embeddings.grad is not None
    assert 150 < int((embeddings.grad[0] == 0).sum()) < 250
    assert not total.equal(plain(embeddings, labels).total)
    loss.eval()
    assert loss(embeddings, labels).total.equal(plain(embeddings, labels).total)


@pytest.mark.parametrize("name", ["label_smoothing", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"classification: {name} must be from 0 to below 1, got {value}"):
        Classification(TrainInfo(embedding_dim=5, num_pids=7), **{name: value})


def test_a_training_is_repeated_and_gone_on_with_exactly(tmp_path: Path) -> None:
    recipe = replace(RECIPE, batches="shuffled", optimizer="adadelta", learning_rate=1.0)
    assert_exact(lambda: Classification(TRAINED, label_smoothing=0.1, dropout=0.3), tmp_path, recipe)


def test_coincident_embeddings_have_a_finite_gradient() -> None:
    embeddings = torch.zeros(6, 5, requires_grad=True)
    build()(embeddings, torch.arange(6)).total.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
