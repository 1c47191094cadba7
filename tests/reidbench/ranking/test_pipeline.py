"""Embeddings to a ranking: fitted where the metric learns, re-ranked on request, in their own precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reidbench import IntArray, Metric, PluginError, Reranker, build
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.ranking.scores import average_precision
from tests.support.rankings import rank_units


def sample_units(seed: int, count: int, far: float = 0.0) -> UnitEmbeddings:
    """Float64 embeddings around ``far``, which float32 cannot tell apart where it is large."""
    generator = np.random.default_rng(seed)
    pids = generator.integers(1, 9, count)
    centres = np.random.default_rng(5).normal(size=(9, 6))
    rows = centres[pids] + generator.normal(scale=0.7, size=(count, 6)) + far
    return UnitEmbeddings(torch.from_numpy(rows), pids, generator.integers(1, 4, count))


def scored(ranking):
    return average_precision(ranking, "market")


@pytest.mark.parametrize("rerank", [None, "k_reciprocal(k1=5, k2=2)"])
@pytest.mark.parametrize("metric", ["euclidean", "xqda(normalize=false, pairs=all)"])
def test_float64_keeps_its_precision(metric, rerank):
    def ranking(far):
        query, gallery, train = sample_units(0, 20, far), sample_units(1, 90, far), sample_units(2, 60, far)
        reranker = None if rerank is None else build("reranker", rerank)
        return rank_units(query, gallery, build("metric", metric), reranker, train).ranking

    near, far = scored(ranking(0.0)), scored(ranking(3e4))
    np.testing.assert_allclose(far, near, atol=1e-9)
    assert 0.2 < near.mean() < 1


class Doubled(Metric):
    """Twice the Euclidean distance, by a projection that notes what it is called with."""

    normalize = True

    def __init__(self) -> None:
        self.scale, self.calls = 0.0, list[Tensor]()

    def fit(self, embeddings: Tensor, pids: IntArray, cams: IntArray) -> None:
        self.scale = 2.0

    def project(self, embeddings: Tensor) -> Tensor:
        self.calls.append(embeddings)
        return torch.cat([embeddings * self.scale, torch.zeros(len(embeddings), 1, dtype=embeddings.dtype)], dim=1)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class Plain(Reranker):
    def blocks(self, query, gallery, metric, rows):
        yield from (metric.distances(block, gallery) for block in torch.split(query, rows))


@pytest.mark.parametrize("reranker", [None, Plain()])
def test_each_unit_is_projected_once(reranker):
    query, gallery, train = sample_units(0, 20), sample_units(1, 300), sample_units(2, 60)
    metric = Doubled()
    rankings = rank_units(query, gallery, metric, reranker, train)
    expected = rank_units(query, gallery, build("metric", "euclidean(normalize=true)"), None, None)
    np.testing.assert_array_equal(rankings.ranking.ranks, expected.ranking.ranks)
    np.testing.assert_allclose(rankings.ranking.distances, 2 * expected.ranking.distances, rtol=1e-12)
    calls = torch.cat(metric.calls)
    units = torch.nn.functional.normalize(torch.cat([query.embeddings, gallery.embeddings]))
    assert torch.cdist(units, calls).min(dim=1).values.max() < 1e-6
    assert len(calls) == len(units)


def test_projections_of_other_shapes_are_refused(monkeypatch):
    monkeypatch.setattr(Doubled, "project", lambda _, rows: rows[:, : 2 + len(rows) % 2])
    units = sample_units(0, 257)
    with pytest.raises(PluginError, match=r"Doubled.*project"):
        rank_units(units, units, Doubled(), None, units)
