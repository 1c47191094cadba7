"""Embeddings to a ranking: fitted where the metric learns, re-ranked on request, in their own precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reidbench import build
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import average_precision

RULES = ("junk", "same_camera")


def sample_units(seed: int, count: int, far: float = 0.0) -> UnitEmbeddings:
    """Float64 embeddings around ``far``, which float32 cannot tell apart where it is large."""
    generator = np.random.default_rng(seed)
    pids = generator.integers(1, 9, count)
    centres = np.random.default_rng(5).normal(size=(9, 6))
    rows = centres[pids] + generator.normal(scale=0.7, size=(count, 6)) + far
    return UnitEmbeddings(torch.from_numpy(rows), pids, generator.integers(1, 4, count))


def scored(ranking: Ranking) -> np.ndarray:
    return average_precision(ranking, "market")


@pytest.mark.parametrize("rerank", [None, "k_reciprocal(k1=5, k2=2)"])
@pytest.mark.parametrize("metric", ["euclidean", "xqda(normalize=false, pairs=all)"])
def test_float64_keeps_its_precision(metric: str, rerank: str | None) -> None:
    def ranking(far: float) -> Ranking:
        query, gallery, train = sample_units(0, 20, far), sample_units(1, 90, far), sample_units(2, 60, far)
        reranker = None if rerank is None else build("reranker", rerank)
        return rank_embeddings(query, gallery, build("metric", metric), reranker, train, RULES).ranking

    near, far = scored(ranking(0.0)), scored(ranking(3e4))
    np.testing.assert_allclose(far, near, atol=1e-9)
    assert 0.2 < near.mean() < 1
