"""From one embedding a unit to a ranking: for runs and for embeddings made elsewhere alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reidbench.interfaces import Metric, Reranker, learns
from reidbench.ranking import rank, rank_distances, unit_rows
from reidbench.values import IntArray, Ranking

# Rows of a re-ranked distance block: 64 rows of 519,732 floats are 127 MiB.
RERANK_ROWS = 64


@dataclass(frozen=True, eq=False)
class Embedded:
    """Units with one embedding each [n, D] float32 or float64 (or none), their ``pids`` and ``cams`` int64 [n]."""

    embeddings: Tensor
    pids: IntArray
    cams: IntArray


def compare(
    query: Embedded,
    gallery: Embedded,
    metric: Metric,
    reranker: Reranker | None,
    known: Embedded | None,
    exclude: tuple[str, ...],
) -> Ranking:
    """Return where the positives of every query stand, in the precision of the embeddings.

    A metric that learns is fitted on ``known``, once; ``exclude`` names rules as in ``rank``. Raises DataError and
    OptionError.
    """
    if learns(metric):
        assert known is not None
        metric.fit(unit_rows(known.embeddings) if metric.normalize else known.embeddings, known.pids, known.cams)
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    if reranker is None:
        return rank(query.embeddings, gallery.embeddings, *ids, metric, exclude=exclude)
    blocks = reranker.blocks(query.embeddings, gallery.embeddings, metric, RERANK_ROWS)
    return rank_distances(blocks, *ids, exclude=exclude)
