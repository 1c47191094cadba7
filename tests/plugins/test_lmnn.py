"""lmnn: values against loops, fixed target neighbours, and groups."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.lmnn import LMNN, grouped_targets, lmnn_terms, target_neighbours

from reidbench import TrainingError
from tests.support.losses import DISTANCES, INFO, slow_distance
from tests.support.tiny_training import COUNTS, view_of

LABELS = [number for number, count in enumerate(COUNTS) for _ in range(count)]


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=25)
@given(
    labels=st.lists(st.integers(-2, 3), min_size=3, max_size=16).filter(lambda x: 1 < len(set(x)) < len(x)),
    neighbours=st.integers(1, 3),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
)
def test_neighbours_and_terms_are_those_of_loops(distance, labels, neighbours, seed, grid):
    embeddings = torch.randn(len(labels), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    embeddings = embeddings.round() + 0.25 if grid else embeddings  # ties and equal rows
    rows = embeddings.tolist()
    targets = target_neighbours(embeddings, np.array(labels), neighbours, distance)
    pulls, pushes = [], []
    for anchor, label in enumerate(labels):
        others = [i for i in range(len(labels)) if labels[i] == label and i != anchor]
        distances = {i: round(slow_distance(rows[anchor], rows[i], distance), 12) for i in others}
        expected = sorted(others, key=lambda i: (distances[i], i))[:neighbours]
        indices = [i for i in targets[anchor].tolist() if i >= 0]
        assert [distances[i] for i in indices] == [distances[i] for i in expected]
        assert targets[anchor].tolist() == [*indices, *[-1] * (neighbours - len(indices))]
        assert len(set(indices)) == len(indices)
        for target in indices:
            near = slow_distance(rows[anchor], rows[target], distance)
            pulls.append(near)
            for other in range(len(labels)):
                if labels[other] != label:
                    pushes.append(max(0.0, 0.7 + near - slow_distance(rows[anchor], rows[other], distance)))
    pull, push = lmnn_terms(embeddings, torch.tensor(labels), torch.from_numpy(targets), 0.7, distance)
    torch.testing.assert_close(pull, torch.tensor(pulls, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(push, torch.tensor(pushes, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_equally_close_neighbours_are_in_input_order():
    targets = target_neighbours(torch.zeros(5, 2), np.array([1, 0, 1, 1, 0]), 2, "euclidean")
    assert targets.tolist() == [[2, 3], [4, -1], [0, 3], [0, 2], [1, -1]]


def embeddings_of(seed):
    return torch.randn(len(LABELS), 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_a_round_is_a_pass_over_groups(neighbours):
    loss = LMNN(INFO, neighbours=neighbours)
    expected = target_neighbours(embeddings_of(0), np.array(LABELS), neighbours, "euclidean")
    batches = loss.next_round(view_of(LABELS, lambda units: embeddings_of(0)[units]), 0)
    size = neighbours + 2
    assert {len(batch) for batch in batches} == {12 // size * size}
    groups = np.concatenate(batches).reshape(-1, size)
    assert len(set(groups[:, 0].tolist())) == len(groups), "no anchor is repeated"
    assert len(groups) == 23 // (12 // size) * (12 // size), "23 images have a positive"
    for anchor, *targets, other in groups.tolist():
        own = [target for target in expected[anchor].tolist() if target >= 0]
        assert targets == [own[index % len(own)] for index in range(neighbours)]
        assert LABELS[other] != LABELS[anchor]
    for batch in batches:
        labels = torch.from_numpy(np.array(LABELS)[batch])
        targets = grouped_targets(labels, neighbours)
        assert targets[::size].tolist() == [list(range(a + 1, a + 1 + neighbours)) for a in range(0, len(labels), size)]
        assert (targets >= 0).sum() == len(labels) // size * neighbours


def test_every_image_can_be_a_negative():
    loss = LMNN(INFO)
    sampled: set[int] = set()
    for number in range(40):
        view = view_of(LABELS, lambda units: embeddings_of(0)[units], number=number)
        sampled |= {int(unit) for batch in loss.next_round(view, number) for unit in batch[2::3]}
    assert sampled == set(range(len(LABELS))), "also the one without a positive"


def test_target_neighbours_stay_those_of_the_first_round():
    loss = LMNN(INFO, neighbours=2)
    loss.next_round(view_of(LABELS, lambda units: embeddings_of(0)[units]), 0)
    before = loss.targets.copy()
    loss.next_round(view_of(LABELS, number=1), 1)  # this view refuses to embed
    np.testing.assert_array_equal(loss.targets, before)
    assert not np.array_equal(before, target_neighbours(embeddings_of(1), np.array(LABELS), 2, "euclidean"))
    resumed = LMNN(INFO, neighbours=2)
    resumed.load_state_dict(loss.state_dict())
    resumed.next_round(view_of(LABELS, number=1), 1)
    np.testing.assert_array_equal(resumed.targets, before)


def test_the_loss_of_a_known_batch():
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [9.0], [5.0], [0.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])  # anchors 0 and 3, their targets 1 and 4, others 2 and 5
    value = LMNN(INFO, mu=0.25, margin=6.0)(embeddings, labels)
    assert value.per_item["pull"].tolist() == pytest.approx([1.0, 4.0])
    # 6 + 1 - |0 - 3|, - |0 - 9|, - |0 - 5|; 6 + 4 - |9 - 0|, - |9 - 1|, - |9 - 0.5|.
    assert value.per_item["push"].tolist() == pytest.approx([4.0, 0.0, 2.0, 1.0, 2.0, 1.5], abs=1e-5)
    assert value.total.item() == pytest.approx(0.75 * 2.5 + 0.25 * 10.5 / 6)
    assert value.scalars["pull"].item() == pytest.approx(2.5)
    assert value.scalars["push"].item() == pytest.approx(1.75)


@pytest.mark.parametrize("labels", [[0, 0, 1, 0], [0, 1, 0, 0, 1, 0], [0, 0, 0], [0, 0, 1, 1, 1, 1]])
def test_a_batch_in_another_order_is_refused(labels):
    with pytest.raises(TrainingError, match="lmnn: a batch must be groups of an anchor, its 1 target neighbours"):
        LMNN(INFO)(torch.randn(len(labels), 2), torch.tensor(labels))


def test_terms_without_anchors_or_negatives_are_refused():
    embeddings, no_targets = torch.randn(3, 2), torch.full((3, 1), -1)
    with pytest.raises(TrainingError, match="none of the 3 images of the batch has a target neighbour"):
        lmnn_terms(embeddings, torch.tensor([0, 0, 1]), no_targets)
    with pytest.raises(TrainingError, match="no anchor has a negative, as all 3 images"):
        lmnn_terms(embeddings, torch.tensor([0, 0, 0]), torch.tensor([[1], [0], [0]]))
