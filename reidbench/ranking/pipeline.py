"""From one embedding per unit to rankings: for runs and for embeddings of other programs alike."""

from __future__ import annotations

from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.plugins.interfaces import Metric, Reranker, learns
from reidbench.ranking.rank import rank, rank_distances, unit_rows
from reidbench.ranking.rankings import Rankings

# Rows of a re-ranked distance block: 64 rows of 519,732 floats are 127 MiB.
RERANK_ROWS = 64


def rank_embeddings(
    query: UnitEmbeddings,
    gallery: UnitEmbeddings,
    metric: Metric,
    reranker: Reranker | None,
    train: UnitEmbeddings | None,
    exclude: tuple[str, ...],
) -> Rankings:
    """Return the rankings of all queries, in the precision of the embeddings.

    A metric that learns is fitted on ``train``, once; ``exclude`` names rules as in ``rank``. Raises DataError and
    OptionError.
    """
    if learns(metric):
        assert train is not None
        metric.fit(unit_rows(train.embeddings) if metric.normalize else train.embeddings, train.pids, train.cams)
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    if reranker is not None:
        blocks = reranker.blocks(query.embeddings, gallery.embeddings, metric, RERANK_ROWS)
        return rank_distances(blocks, *ids, exclude=exclude)
    return rank(query.embeddings, gallery.embeddings, *ids, metric, exclude=exclude)
