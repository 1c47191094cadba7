"""lifted and lifted_generalized: slow loops, finite differences, which pairs there are, and odd batches."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import Distance
from reidbench_losses.lifted import (
    Form,
    Lifted,
    LiftedGeneralized,
    Negatives,
    all_pairs,
    disjoint_pairs,
    lifted_generalized_terms,
    lifted_terms,
    register_losses,
)

from reidbench import Loss, OptionError, TrainInfo, TrainingError, TrainView, stream
from tests.plugins.test_distances import DISTANCES, slowly

INFO = TrainInfo(embedding_dim=4, num_pids=8)
LABELS = st.lists(st.integers(-3, 4), min_size=3, max_size=20).filter(lambda x: 1 < len(set(x)) < len(x))
BOTH = (Lifted, LiftedGeneralized)


def batch(size: int, seed: int, grid: bool = False) -> torch.Tensor:
    embeddings = torch.randn(size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return embeddings.round() + 0.25 if grid else embeddings  # ties and twins


@pytest.mark.parametrize("form", ["hinge", "squared"])
@pytest.mark.parametrize("negatives", ["other_identities", "all"])
@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=15, deadline=None)
@given(labels=LABELS, margin=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_pairs_and_terms_are_those_of_loops(
    distance: Distance, negatives: Negatives, form: Form, labels: list[int], margin: float, seed: int
) -> None:
    embeddings, images = batch(len(labels), seed, grid=seed % 2 == 0), range(len(labels))
    rows = embeddings.tolist()
    pairs = [[a, p] for a in images for p in images if a < p and labels[a] == labels[p]]
    expected = []
    for a, p in pairs:
        pushing = [n for n in images if (n not in (a, p) if negatives == "all" else labels[n] != labels[a])]
        total = sum(math.exp(margin - slowly(rows[i], rows[n], distance)) for n in pushing for i in (a, p))
        term = max(0.0, slowly(rows[a], rows[p], distance) + math.log(total))
        expected.append(term**2 / 2 if form == "squared" else term)
    of = torch.tensor(labels)
    assert all_pairs(of[:, None] == of).tolist() == pairs
    found = lifted_terms(embeddings, of, torch.tensor(pairs), margin, distance, negatives=negatives, form=form)
    assert found.tolist() == pytest.approx(expected, rel=1e-11, abs=1e-11)
    value = Lifted(INFO, margin=margin, distance=distance, negatives=negatives, form=form)(embeddings, of)
    assert value.per_item["loss"].equal(found)
    assert value.total.item() == pytest.approx(sum(expected) / len(expected), abs=1e-11)


@pytest.mark.parametrize("include_anchor", [True, False])
@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=15, deadline=None)
@given(labels=LABELS, margin=st.floats(0, 2), seed=st.integers(0, 2**31), grid=st.booleans())
def test_generalized_terms_are_those_of_loops(
    distance: Distance, include_anchor: bool, labels: list[int], margin: float, seed: int, grid: bool
) -> None:
    embeddings, images = batch(len(labels), seed, grid), range(len(labels))
    rows = embeddings.tolist()
    expected = []
    for a in images:
        positives = [p for p in images if labels[p] == labels[a] and (include_anchor or p != a)]
        pull = sum(math.exp(slowly(rows[a], rows[p], distance) if p != a else 0) for p in positives) or 1.0
        push = sum(math.exp(margin - slowly(rows[a], rows[n], distance)) for n in images if labels[n] != labels[a])
        expected.append(max(0.0, math.log(pull) + math.log(push)))
    of = torch.tensor(labels)
    found = lifted_generalized_terms(embeddings, of, margin, distance, include_anchor=include_anchor)
    assert found.tolist() == pytest.approx(expected, rel=1e-11, abs=1e-11)
    loss = LiftedGeneralized(INFO, margin=margin, distance=distance, include_anchor=include_anchor)
    assert loss(embeddings, of).total.item() == pytest.approx(sum(expected) / len(expected), abs=1e-11)


@given(labels=st.lists(st.integers(-2, 3), min_size=1, max_size=30))
def test_disjoint_pairs_leave_at_most_one_image_of_an_identity(labels: list[int]) -> None:
    found = disjoint_pairs(torch.tensor(labels)).tolist()
    images = [image for pair in found for image in pair]
    assert len(set(images)) == len(images)
    assert all(labels[a] == labels[p] and a < p for a, p in found)
    left = Counter(labels) - Counter(labels[image] for image in images)
    assert all(left[label] == count % 2 for label, count in Counter(labels).items())


def test_disjoint_pairs_come_in_the_order_of_the_batch() -> None:
    assert disjoint_pairs(torch.tensor([7, 4, 7, 7, 4, 7, 7])).tolist() == [[1, 4], [0, 2], [3, 5]]
    embeddings, labels = batch(7, 0), torch.tensor([7, 4, 7, 7, 4, 7, 7])
    value = Lifted(INFO, pairs="disjoint")(embeddings, labels)
    expected = lifted_terms(embeddings, labels, torch.tensor([[1, 4], [0, 2], [3, 5]]), 0.2)
    assert value.per_item["loss"].equal(expected)


def test_triplets_are_its_own_rounds_and_give_one_pair_each() -> None:
    labels = np.arange(60) // 3
    view = TrainView(labels, 6, 3, stream(0, "round", 0), lambda units: torch.zeros(len(units), 1))
    loss = Lifted(INFO, pairs="triplets", negatives="all")
    batches = loss.next_round(view, 0)
    assert batches is not None
    assert [len(units) for units in batches] == [18] * 3
    drawn = torch.from_numpy(labels[batches[0]])
    embeddings = batch(18, 3)
    terms = loss(embeddings, drawn).per_item["loss"]
    pairs = torch.stack([torch.arange(6), torch.arange(6, 12)], dim=1)
    assert terms.equal(lifted_terms(embeddings, drawn, pairs, 0.2, negatives="all"))
    with pytest.raises(TrainingError, match=r"lifted: a batch must be B anchors"):
        loss(embeddings, drawn.flip(0))
    assert Lifted(INFO).next_round(view, 0) is None


@pytest.mark.parametrize(
    "loss",
    [
        *(Lifted(INFO, distance=d, negatives=n, form=f) for d in DISTANCES for n in ("all", "other_identities")
          for f in ("hinge", "squared")),
        *(LiftedGeneralized(INFO, distance=d, include_anchor=i) for d in DISTANCES for i in (True, False)),
    ],
    ids=lambda loss: "-".join(str(value) for value in vars(loss).values() if isinstance(value, str | bool)),
)  # fmt: skip
def test_gradients(loss: Loss) -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3, 0])
    embeddings = batch(8, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: loss(rows, labels).total, embeddings)
    collapsed = torch.full((72, 128), 0.7, requires_grad=True)
    value = loss(collapsed, torch.arange(72) // 4)
    (slope,) = torch.autograd.grad(value.total, collapsed)
    assert value.total.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_huge_embeddings_do_not_overflow(loss: type[Loss], scale: float) -> None:
    embeddings = (batch(8, 0).float() * scale).requires_grad_()
    total = loss(INFO)(embeddings, torch.arange(8) // 2).total
    (slope,) = torch.autograd.grad(total, embeddings)
    assert total.isfinite()
    assert slope.isfinite().all()
    exact = loss(INFO)(embeddings.detach().double(), torch.arange(8) // 2).total
    assert total.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_at_least_float32(loss: type[Loss], dtype: torch.dtype) -> None:
    embeddings = batch(8, 0).to(dtype).requires_grad_()
    value = loss(INFO)(embeddings, torch.arange(8) // 2)
    (slope,) = torch.autograd.grad(value.total, embeddings)
    assert value.total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert slope.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(INFO)(embeddings, torch.arange(8) // 2).total.equal(value.total)


@pytest.mark.parametrize("loss", BOTH)
def test_order_of_the_batch_does_not_matter(loss: type[Loss]) -> None:
    embeddings, labels = batch(12, 0, grid=True), torch.arange(12) // 3
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert loss(INFO)(embeddings, labels).total.item() == pytest.approx(
        loss(INFO)(embeddings[order], labels[order]).total.item(), rel=1e-12
    )


@pytest.mark.parametrize(("name", "loss"), register_losses().items())
def test_what_it_refuses(name: str, loss: type[Loss]) -> None:
    with pytest.raises(TrainingError, match=f"{name}: no anchor has a positive"):
        loss(INFO)(torch.randn(4, 2), torch.arange(4))
    with pytest.raises(TrainingError, match=f"{name}: no anchor has a negative"):
        loss(INFO)(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(OptionError, match=rf"{name}: margin must be at least 0; got -0\.1"):
        loss(INFO, margin=-0.1)


@pytest.mark.parametrize("loss", BOTH)
def test_nan_reaches_the_loss(loss: type[Loss]) -> None:
    embeddings = torch.randn(4, 2)
    embeddings[0, 0] = math.nan
    assert loss(INFO)(embeddings, torch.tensor([0, 0, 1, 1])).total.isnan()


def test_what_the_runner_reads() -> None:
    for name, factory in register_losses().items():
        loss = factory(INFO)
        assert (name, loss.metric, loss.pool) in (
            ("lifted", None, "mean"),
            ("lifted_generalized", None, "mean"),
        )
        assert loss.param_groups() == []
