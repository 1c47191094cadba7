"""lmnn: slow loops, target neighbours that stay, groups, and a training that goes on exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import Distance
from reidbench_losses.lmnn import LMNN, grouped_targets, lmnn_terms, register_losses, target_neighbours
from torch import Tensor

from reidbench import OptionError, TrainInfo, TrainingError
from tests.support.tiny_training import COUNTS, RECIPE, assert_exact, fit, view_of

INFO = TrainInfo(embedding_dim=4, num_pids=8)
LABELS = [number for number, count in enumerate(COUNTS) for _ in range(count)]


def between(a: list[float], b: list[float], distance: Distance) -> float:
    if distance == "cosine":
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared if distance == "sqeuclidean" else math.sqrt(squared)


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(-2, 3), min_size=3, max_size=16).filter(lambda x: 1 < len(set(x)) < len(x)),
    neighbours=st.integers(1, 3),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
)
def test_neighbours_and_terms_are_those_of_loops(
    distance: Distance, labels: list[int], neighbours: int, seed: int, grid: bool
) -> None:
    embeddings = torch.randn(len(labels), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    embeddings = embeddings.round() + 0.25 if grid else embeddings  # ties and twins
    rows = embeddings.tolist()
    targets = target_neighbours(embeddings, np.array(labels), neighbours, distance)
    pulls, pushes = [], []
    for anchor, label in enumerate(labels):
        others = [i for i in range(len(labels)) if labels[i] == label and i != anchor]
        apart = {i: round(between(rows[anchor], rows[i], distance), 12) for i in others}
        expected = sorted(others, key=lambda i: (apart[i], i))[:neighbours]
        found = [i for i in targets[anchor].tolist() if i >= 0]
        assert [apart[i] for i in found] == [apart[i] for i in expected]
        assert targets[anchor].tolist() == [*found, *[-1] * (neighbours - len(found))]
        assert len(set(found)) == len(found)
        for target in found:
            near = between(rows[anchor], rows[target], distance)
            pulls.append(near)
            for other in range(len(labels)):
                if labels[other] != label:
                    pushes.append(max(0.0, 0.7 + near - between(rows[anchor], rows[other], distance)))
    pull, push = lmnn_terms(embeddings, torch.tensor(labels), torch.from_numpy(targets), 0.7, distance)
    torch.testing.assert_close(pull, torch.tensor(pulls, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(push, torch.tensor(pushes, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_equally_close_neighbours_stand_in_the_order_of_the_images() -> None:
    targets = target_neighbours(torch.zeros(5, 2), np.array([1, 0, 1, 1, 0]), 2, "euclidean")
    assert targets.tolist() == [[2, 3], [4, -1], [0, 3], [0, 2], [1, -1]]


def embeddings_of(seed: int) -> Tensor:
    return torch.randn(len(LABELS), 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_a_round_is_a_pass_over_groups_of_anchor_neighbours_and_another_identity(neighbours: int) -> None:
    loss = LMNN(INFO, neighbours=neighbours)
    known = target_neighbours(embeddings_of(0), np.array(LABELS), neighbours, "euclidean")
    batches = loss.next_round(view_of(LABELS, lambda units: embeddings_of(0)[units]), 0)
    size = neighbours + 2
    assert {len(batch) for batch in batches} == {12 // size * size}
    groups = np.concatenate(batches).reshape(-1, size)
    assert len(set(groups[:, 0].tolist())) == len(groups), "no anchor comes twice"
    assert len(groups) == 23 // (12 // size) * (12 // size), "23 images are not alone with their identity"
    for anchor, *targets, other in groups.tolist():
        own = [target for target in known[anchor].tolist() if target >= 0]
        assert targets == [own[place % len(own)] for place in range(neighbours)]
        assert LABELS[other] != LABELS[anchor]
    for batch in batches:
        labels = torch.from_numpy(np.array(LABELS)[batch])
        targets = grouped_targets(labels, neighbours)
        assert targets[::size].tolist() == [list(range(a + 1, a + 1 + neighbours)) for a in range(0, len(labels), size)]
        assert (targets >= 0).sum() == len(labels) // size * neighbours


def test_every_image_can_be_the_one_of_another_identity() -> None:
    loss = LMNN(INFO)
    drawn: set[int] = set()
    for number in range(40):
        view = view_of(LABELS, lambda units: embeddings_of(0)[units], number=number)
        drawn |= {int(batch[place]) for batch in loss.next_round(view, number) for place in range(2, len(batch), 3)}
    assert drawn == set(range(len(LABELS))), "also the one that is alone with its identity"


def test_target_neighbours_are_those_of_the_first_round_for_ever() -> None:
    loss = LMNN(INFO, neighbours=2)
    loss.next_round(view_of(LABELS, lambda units: embeddings_of(0)[units]), 0)
    before = loss.targets.copy()
    loss.next_round(view_of(LABELS, number=1), 1)  # whose view refuses to embed
    np.testing.assert_array_equal(loss.targets, before)
    assert not np.array_equal(before, target_neighbours(embeddings_of(1), np.array(LABELS), 2, "euclidean"))
    gone_on = LMNN(INFO, neighbours=2)
    gone_on.load_state_dict(loss.state_dict())
    gone_on.next_round(view_of(LABELS, number=1), 1)
    np.testing.assert_array_equal(gone_on.targets, before)


def test_the_loss_of_a_known_batch() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [9.0], [5.0], [0.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])  # anchors 0 and 3, their targets 1 and 4, others 2 and 5
    value = LMNN(INFO, mu=0.25, margin=6.0)(embeddings, labels)
    assert value.per_item["pull"].tolist() == [1.0, 4.0]
    # 6 + 1 - |0 - 3|, - |0 - 9|, - |0 - 5|; 6 + 4 - |9 - 0|, - |9 - 1|, - |9 - 0.5|.
    assert value.per_item["push"].tolist() == [4.0, 0.0, 2.0, 1.0, 2.0, 1.5]
    assert value.total.item() == pytest.approx(0.75 * 2.5 + 0.25 * 10.5 / 6)
    assert (value.scalars["pull"].item(), value.scalars["push"].item()) == (2.5, 1.75)


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean", "cosine"])
def test_a_collapsed_batch_has_a_finite_gradient(distance: Distance) -> None:
    embeddings = torch.full((72, 16), 0.7, requires_grad=True)
    labels = torch.tensor([0, 0, 1]).repeat(24)
    value = LMNN(INFO, distance=distance)(embeddings, labels)
    value.total.backward()
    assert value.total.item() == pytest.approx(0.5)
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_at_least_float32(dtype: torch.dtype) -> None:
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    total = LMNN(INFO)(embeddings, torch.tensor([0, 0, 1]).repeat(2)).total
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LMNN(INFO)(embeddings, torch.tensor([0, 0, 1]).repeat(2)).total.equal(total)


@pytest.mark.parametrize("labels", [[0, 0, 1, 0], [0, 1, 0, 0, 1, 0], [0, 0, 0], [0, 0, 1, 1, 1, 1]])
def test_a_batch_in_another_order_is_refused(labels: list[int]) -> None:
    with pytest.raises(TrainingError, match="lmnn: a batch must be groups of an anchor, its 1 target neighbours"):
        LMNN(INFO)(torch.randn(len(labels), 2), torch.tensor(labels))


def test_terms_without_anchors_or_negatives_are_refused() -> None:
    embeddings, nobody = torch.randn(3, 2), torch.full((3, 1), -1)
    with pytest.raises(TrainingError, match="none of the 3 images of the batch has a target neighbour"):
        lmnn_terms(embeddings, torch.tensor([0, 0, 1]), nobody)
    with pytest.raises(TrainingError, match="no anchor has a negative, as all 3 images"):
        lmnn_terms(embeddings, torch.tensor([0, 0, 0]), torch.tensor([[1], [0], [0]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": 1.5}, "mu must be from 0 to 1, got 1.5"),
        ({"margin": -1.0}, "margin must be at least 0, got -1.0"),
        ({"neighbours": 0}, "neighbours must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=f"lmnn: {message}"):
        LMNN(INFO, **options)  # type: ignore[arg-type]


def test_a_training_is_repeated_and_gone_on_with_exactly(tmp_path: Path) -> None:
    loss = assert_exact(lambda: LMNN(INFO, neighbours=2), tmp_path)
    assert isinstance(loss, LMNN)
    assert loss.targets.shape == (len(LABELS), 2)


def test_the_neighbours_of_a_training_are_the_untrained_networks(tmp_path: Path) -> None:
    from dataclasses import replace

    _, first, _ = fit(lambda: LMNN(INFO), tmp_path / "short", recipe=replace(RECIPE, steps=1, decay_start=1))
    _, last, _ = fit(lambda: LMNN(INFO), tmp_path / "long", recipe=replace(RECIPE, learning_rate=0.5))
    assert isinstance(first, LMNN)
    assert isinstance(last, LMNN)
    np.testing.assert_array_equal(first.targets, last.targets)


def test_descending_the_loss_brings_neighbours_together_and_others_away() -> None:
    embeddings = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.stack([torch.arange(10) % 5, torch.arange(10) % 5, (torch.arange(10) + 1) % 5], dim=1).flatten()
    loss = LMNN(INFO)
    optimizer = torch.optim.Adam([embeddings], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(embeddings, labels).total.backward()
        optimizer.step()
    value = loss(embeddings, labels)
    assert value.scalars["pull"] < 0.2
    assert value.scalars["push"] < 0.05


def test_what_the_runner_reads() -> None:
    loss = register_losses()["lmnn"](INFO)
    assert (loss.metric, loss.pool) == (None, "mean")
    assert loss.param_groups() == []
