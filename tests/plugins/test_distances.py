"""The distances of the losses: exact despite rounding, and finite gradients where rows coincide."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_losses.distances import between, may_be_hardest, pairwise

from tests.support.losses import DISTANCES, slow_distance


def gradient(embeddings, distance):
    rows = embeddings.clone().requires_grad_()
    pairwise(rows, distance).sum().backward()
    return rows.grad


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=25)
@given(rows=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_distances_are_those_of_a_loop(distance, rows, size, seed):
    embeddings = torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    listed = embeddings.tolist()
    expected = torch.tensor([[slow_distance(a, b, distance) for b in listed] for a in listed], dtype=torch.float64)
    torch.testing.assert_close(pairwise(embeddings, distance), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
@settings(max_examples=25)
@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1), seed=st.integers(0, 2**31))
def test_distances_of_given_pairs_are_those_of_a_loop(distance, pairs, seed):
    embeddings = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    listed, (first, second) = embeddings.tolist(), torch.tensor(pairs).T
    expected = [slow_distance(listed[a], listed[b], distance) for a, b in pairs]
    assert between(embeddings, first, second, distance).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("clusters", [2, 20])  # 2: most pairs are close, another branch
@pytest.mark.parametrize("distance", DISTANCES)
def test_tight_clusters_far_from_the_origin_are_exact(distance, clusters):
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn(clusters, 8, dtype=torch.float64, generator=generator) + 20
    near = 1e-3 * torch.randn(40, 8, dtype=torch.float64, generator=generator)
    narrow = (centres.repeat(40 // clusters, 1) + near).float()
    exact = narrow.double()
    rows = torch.nn.functional.normalize(exact) / 2**0.5 if distance == "cosine" else exact
    differences = rows[:, None] - rows[None, :]
    expected = differences.norm(dim=2) if distance == "euclidean" else differences.square().sum(dim=2)
    distances = pairwise(narrow, distance)
    torch.testing.assert_close(distances.double(), expected, rtol=5e-2 if distance == "cosine" else 2e-5, atol=0)
    slopes, wide = gradient(narrow, distance).double(), gradient(exact, distance)
    assert (slopes - wide).norm() < (1e-2 if distance == "cosine" else 1e-4) * wide.norm()


@pytest.mark.parametrize("distance", DISTANCES)
def test_few_candidates_include_the_hardest_pairs(distance):
    embeddings = torch.randn(200, 128, generator=torch.Generator().manual_seed(8)) + 3
    same = torch.arange(200)[:, None] // 4 == torch.arange(200) // 4
    exact = pairwise(embeddings.double(), distance)
    for candidates, hardest in zip(
        may_be_hardest(embeddings, same, distance),
        (exact.masked_fill(~same, -1).argmax(dim=1), exact.masked_fill(same, 1e9).argmin(dim=1)),
        strict=True,
    ):
        assert 200 <= len(candidates) < 240
        assert set(enumerate(hardest.tolist())) <= set(map(tuple, candidates.tolist()))


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_rows_have_distance_0_and_close_ones_do_not(distance):
    # 40 rows: above 25 the expanded form would be off by the square root of the norms' rounding.
    embeddings = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)) + 30
    embeddings[7] = embeddings[3]
    embeddings[8] = embeddings[3] * (1 + 1e-5)
    embeddings[8, 0] += 1e-3
    distances = pairwise(embeddings, distance)
    assert distances[3, 7] == 0
    assert (distances.diagonal() == 0).all()
    assert (distances >= 0).all()
    exact = pairwise(embeddings.double(), distance)
    # Cosine rounds its unit rows; the others subtract what came in.
    tolerance = 2e-2 if distance == "cosine" else 1e-6
    assert distances[3, 8].item() == pytest.approx(exact[3, 8].item(), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", DISTANCES)
def test_coincident_rows_have_no_gradient(distance, dtype):
    embeddings = torch.randn(30, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    assert (gradient(embeddings[:1].expand(30, 5), distance) == 0).all()
    embeddings[1] = embeddings[0]
    equal = gradient(embeddings, distance)
    assert equal.isfinite().all()
    torch.testing.assert_close(equal[0], equal[1])


def test_the_cosine_distance_of_a_row_of_zeros():
    embeddings = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    distances = pairwise(embeddings, "cosine")
    torch.testing.assert_close(distances[0], torch.tensor([0.0, 0.0, 0.5, 0.5]))
    slopes = gradient(embeddings, "cosine")
    assert slopes.isfinite().all()
    assert slopes.abs().max() < 10  # no division by a tiny norm
