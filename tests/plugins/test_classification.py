"""classification: values against cross entropy by hand, and the layer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.classification import Classification

from reidbench import TrainInfo


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


@settings(max_examples=15, deadline=None)
@given(smoothing=st.floats(0, 0.99), pids=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_label_smoothing_is_uniform_over_identities(smoothing: float, pids: int, seed: int) -> None:
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


def test_dropout_is_for_training_only() -> None:
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
