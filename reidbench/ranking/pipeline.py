"""From one embedding per unit to rankings: for runs and for embeddings of other programs alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from reidbench.data.positives_and_exclusions import Positives
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.errors import check_tensor, contract_error, plugin_call
from reidbench.plugins.interfaces import Metric, Reranker, learns, owner_of
from reidbench.ranking.checked_metric import CheckedMetric
from reidbench.ranking.rank import rank, rank_distances, unit_rows
from reidbench.ranking.rankings import Rankings
from reidbench.utils.arrays import in_memory
from reidbench.utils.threads import workers

# Rows of a re-ranked distance block: 64 rows of 519,732 floats are 127 MiB.
RERANK_ROWS = 64
PIECE = 256  # rows that a metric projects at once


def rank_embeddings(
    query: UnitEmbeddings,
    gallery: UnitEmbeddings,
    metric: Metric,
    reranker: Reranker | None,
    train: UnitEmbeddings | None,
    positives: Positives,
) -> Rankings:
    """Return the rankings of all queries, in the precision of the embeddings.

    A metric that learns is fitted on ``train``, once; ``positives`` are those of the queries. Raises DataError,
    OptionError, and PluginError for what metric and re-ranker return.
    """
    if learns(metric):
        assert train is not None
        rows = in_memory(train.embeddings, owner_of(metric))
        with plugin_call(owner_of(metric), "fit"):
            metric.fit(unit_rows(rows) if metric.normalize else rows, train.pids, train.cams)
    checked = CheckedMetric(metric)
    if type(metric).project is not Metric.project:
        query, gallery = _projected(query, checked), _projected(gallery, checked)
        checked.normalize = False
    if reranker is not None:
        rows, others = (in_memory(side.embeddings, owner_of(reranker)) for side in (query, gallery))
        blocks = reranked_blocks(reranker, rows, others, checked, len(query.pids))
        return rank_distances(blocks, positives)
    return rank(query.embeddings, gallery.embeddings, positives, checked)


def _projected(units: UnitEmbeddings, metric: CheckedMetric) -> UnitEmbeddings:
    """Return units with the rows [n, K] float64 that a metric compares, piece by piece; raises PluginError."""
    pieces = torch.split(in_memory(units.embeddings, metric.plugin_item), PIECE)
    rows = list(pieces)

    def project(number: int) -> None:
        piece = pieces[number].double()
        rows[number] = metric.project(unit_rows(piece) if metric.normalize else piece)

    with workers() as crew:
        crew.each(project, range(len(pieces)))
    return replace(units, embeddings=torch.cat(rows))


def reranked_blocks(
    reranker: Reranker, query: Tensor, gallery: Tensor, metric: Metric, queries: int, rows: int = RERANK_ROWS
) -> Iterator[Tensor]:
    """Yield a re-ranker's distances [r, ng]; raises PluginError where they are not those of every query once."""
    owner, done = owner_of(reranker), 0
    with plugin_call(owner, "blocks"):
        for block in reranker.blocks(query, gallery, metric, rows):
            what = f"the block of distances from query {done} on"
            check_tensor(owner, what, block, (None, len(gallery)), (torch.float32, torch.float64))
            done += len(block)
            if done > queries or not len(block):
                raise contract_error(owner, what, f"of 1 to {queries - done + len(block)} queries", block)
            yield block
    if done != queries:
        raise contract_error(owner, "blocks", f"distances of {queries} queries", done)
