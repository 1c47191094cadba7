"""k-reciprocal re-ranking against the authors' scripts and against sets and loops."""

import numpy as np
import pytest
import torch

import reidbench
from reidbench import Metric
from reidbench.errors import DataError, OptionError
from reidbench.ranking.scores import score
from tests.support.oracles import oracle
from tests.support.rankings import rank_distances

SETTINGS = ["k1=20, k2=6, lam=0.3", "k1=7, k2=3, lam=0.5", "k1=12, k2=1, lam=0.2"]


class Differences(Metric):
    """The Euclidean distance without factors."""

    def distances(self, a, b):
        return (a[:, None] - b[None]).square().sum(dim=2).sqrt()


def rerank(options: str, query, gallery, metric: Metric, rows: int = 64) -> np.ndarray:
    reranker = reidbench.build("reranker", f"k_reciprocal({options})")
    blocks = list(reranker.blocks(torch.as_tensor(query), torch.as_tensor(gallery), metric, rows))
    assert all(len(block) <= rows and block.dtype == torch.float32 for block in blocks)
    return torch.cat(blocks).numpy()


def euclidean() -> Metric:
    return reidbench.build("metric", "euclidean")


def by_sets(squares: np.ndarray, queries: int, k1: int, k2: int, lam: float, half: int) -> np.ndarray:
    """Return the re-ranked distances from squared distances [N, N], with sets and loops, in float64."""
    count = len(squares)
    largest = squares.max(axis=1, keepdims=True)
    original = squares / np.where(largest > 0, largest, 1)
    order = np.argsort(squares, axis=1, kind="stable")

    def mutual(unit: int, size: int) -> set[int]:
        return {int(other) for other in order[unit, :size] if unit in order[other, :size]}

    weights = np.zeros((count, count))
    for unit in range(count):
        own = mutual(unit, k1 + 1)
        expanded = set(own)
        for other in own:
            candidates = mutual(other, half)
            if 3 * len(candidates & own) > 2 * len(candidates):
                expanded |= candidates
        members = sorted(expanded)
        weights[unit, members] = np.exp(-original[unit, members])
        weights[unit] /= weights[unit].sum()
    weights = np.array([weights[order[unit, :k2]].mean(axis=0) for unit in range(count)])
    overlap = np.array([np.minimum(weights[unit], weights[queries:]).sum(axis=1) for unit in range(queries)])
    return (1 - lam) * (1 - overlap / (2 - overlap)) + lam * original[:queries, queries:]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("rounding", ["matlab", "python"])
@pytest.mark.parametrize("metric", ["with factors", "without"])
def test_re_ranked_distances_are_those_of_the_authors(options, rounding, metric):
    data = oracle("rerank_dev")
    used = euclidean() if metric == "with factors" else Differences()
    distances = rerank(f"{options}, rounding={rounding}", data["qf"], data["gf"], used, rows=7)
    k1, k2, lam = (part.split("=")[1].replace(".", "p") for part in options.split(", "))
    key = f"{rounding}_k1_{k1}_k2_{k2}_lam_{lam}"
    np.testing.assert_allclose(distances, data[f"{key}_dist"], atol=5e-6)
    ranking = rank_distances([distances], data["q_pid"], data["q_cam"], data["g_pid"], data["g_cam"])
    scores = score(ranking, len(data["gf"]))
    assert scores.map_market == pytest.approx(float(data[f"{key}_mAP"]), abs=1e-6)
    np.testing.assert_allclose(list(scores.cmc.values()), data[f"{key}_rank1_5_10_20"], atol=1e-9)


@pytest.mark.parametrize(
    ("k1", "k2", "lam", "rounding", "half"),
    [(20, 6, 0.3, "matlab", 11), (3, 2, 0.0, "matlab", 2), (3, 2, 0.0, "python", 3), (1, 1, 1.0, "matlab", 1)],
)
def test_sparse_rows_equal_sets_and_loops_with_many_ties(k1, k2, lam, rounding, half):
    points = np.random.default_rng(0).integers(-2, 3, (60, 3)).astype(np.float32)
    squares = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=2)
    options = f"k1={k1}, k2={k2}, lam={lam}, rounding={rounding}"
    expected = by_sets(squares, 12, k1, k2, lam, half)
    for rows in (1, 5, 64):
        distances = rerank(options, points[:12], points[12:], euclidean(), rows)
        np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_rows_of_unit_length_where_the_metric_asks_for_it():
    points = np.random.default_rng(1).normal(size=(40, 5))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    metric = reidbench.build("metric", "euclidean(normalize=true)")
    expected = rerank("k1=6", unit[:9], unit[9:], euclidean())
    np.testing.assert_allclose(rerank("k1=6", points[:9], points[9:], metric), expected, atol=1e-6)


def test_equal_embeddings_and_fewer_units_than_neighbours():
    same = np.full((8, 4), 0.3, dtype=np.float32)
    distances = rerank("k1=20, k2=9", same[:3], same[3:], euclidean())
    np.testing.assert_array_equal(distances, np.zeros((3, 5), dtype=np.float32))
    points = np.random.default_rng(2).normal(size=(7, 4))
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    expected = by_sets(squares, 2, 20, 9, 0.3, 11)
    np.testing.assert_allclose(rerank("k1=20, k2=9", points[:2], points[2:], euclidean()), expected, atol=1e-6)


def test_wrong_options_and_distances_are_errors():
    for options in ("k1=0", "k2=0", "lam=1.5", "lam=-0.1", "rounding=octave"):
        with pytest.raises(OptionError):
            reidbench.build("reranker", f"k_reciprocal({options})")

    class Negative(Differences):
        def distances(self, a, b):
            return super().distances(a, b) - 1

    points = np.random.default_rng(3).normal(size=(9, 2))
    with pytest.raises(DataError, match="Negative: has negative distances and no factors"):
        rerank("k1=2", points[:3], points[3:], Negative())
