"""classification: values against cross entropy by hand, and the layer."""

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


@settings(max_examples=25)
@given(images=st.integers(1, 12), size=st.integers(1, 6), pids=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_the_loss_is_the_cross_entropy_of_one_linear_layer(images, size, pids, seed):
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


@settings(max_examples=15)
@given(smoothing=st.floats(0, 0.99), pids=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_label_smoothing_is_uniform_over_identities(smoothing, pids, seed):
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


def test_dropout_has_its_rate():
    loss, embeddings = Classification(TrainInfo(400, 7), dropout=0.25), torch.ones(7, 400, requires_grad=True)
    loss(embeddings, torch.arange(7)).total.backward()
    assert 50 < int((embeddings.grad[0] == 0).sum()) < 150


@pytest.mark.parametrize("target", ["uniform", "extra", "pseudo"])
def test_images_without_identity_by_loops(target):
    """The terms and the gradients of [42]: p - onehot for an identity, p - 1/K for LSRO."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(9, 5, dtype=torch.float64, generator=generator)
    for labels in ([0, -1, 3, 3, -1, 1, 2, -1, 0], [-1] * 9):  # a batch of such images alone too
        torch.manual_seed(0)
        loss = Classification(TrainInfo(embedding_dim=5, num_pids=4), unlabelled=target).double()
        classes = 4 + (target == "extra")
        value = loss(rows, torch.tensor(labels))
        value.total.backward()
        weight, bias = (parameter.tolist() for parameter in loss.parameters())
        assert len(bias) == classes
        gradient, right = [0.0] * classes, 0
        for row, label, term in zip(rows.tolist(), labels, value.per_item["loss"].tolist(), strict=True):
            logits = [
                sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)
            ]
            shares = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
            best, share = logits.index(max(logits)), 1.0
            goal = [float(place == label) for place in range(classes)]
            if label < 0:
                goal = [float(place == (4 if target == "extra" else best)) for place in range(classes)]
                goal, share = ([1 / 4] * 4, 1.0) if target == "uniform" else (goal, 0.1 if target == "pseudo" else 1.0)
            right += best == label
            assert term == pytest.approx(-share * sum(g * math.log(p) for g, p in zip(goal, shares, strict=True)))
            gradient = [sum_ + share * (p - g) / 9 for sum_, p, g in zip(gradient, shares, goal, strict=True)]
        assert loss.classifier.bias.grad.tolist() == pytest.approx(gradient, abs=1e-12)
        assert value.scalars["accuracy"].item() == pytest.approx(right / max(1, sum(label >= 0 for label in labels)))
