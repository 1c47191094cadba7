"""From one embedding a unit to a ranking: for runs and for embeddings made elsewhere alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.samples import JUNK
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.errors import DataError
from reidbench.plugins.interfaces import Metric, Reranker, learns
from reidbench.ranking.rank import rank, rank_distances, unit_rows
from reidbench.ranking.rankings import Ranking
from reidbench.utils.arrays import IntArray

# Rows of a re-ranked distance block: 64 rows of 519,732 floats are 127 MiB.
RERANK_ROWS = 64


JUNK_RULE = "junk"


@dataclass(frozen=True, eq=False)
class Compared:
    """The ``ranking`` of a protocol and, where ``cameras`` were asked for, the same ``with_junk`` left in.

    The official matrix of cameras is made of the second.
    """

    ranking: Ranking
    with_junk: Ranking | None = None


def compare(
    query: UnitEmbeddings,
    gallery: UnitEmbeddings,
    metric: Metric,
    reranker: Reranker | None,
    known: UnitEmbeddings | None,
    exclude: tuple[str, ...],
    *,
    cameras: bool = False,
) -> Compared:
    """Return where the positives of every query stand, in the precision of the embeddings.

    A metric that learns is fitted on ``known``, once; ``exclude`` names rules as in ``rank``. Raises DataError and
    OptionError.
    """
    if learns(metric):
        assert known is not None
        metric.fit(unit_rows(known.embeddings) if metric.normalize else known.embeddings, known.pids, known.cams)
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    if reranker is not None:
        blocks = reranker.blocks(query.embeddings, gallery.embeddings, metric, RERANK_ROWS)
        return compare_distances(blocks, *ids, exclude=exclude, cameras=cameras)

    def ranked(rules: tuple[str, ...]) -> Ranking:
        return rank(query.embeddings, gallery.embeddings, *ids, metric, exclude=rules)

    ranking, others = ranked(exclude), _without_junk_rule(gallery.pids, exclude)
    if not cameras:
        return Compared(ranking)
    return Compared(ranking, ranking if others == exclude else ranked(others))


def compare_distances(
    blocks: Iterable[Tensor | NDArray[Any]],
    query_pids: IntArray,
    query_cams: IntArray,
    gallery_pids: IntArray,
    gallery_cams: IntArray,
    *,
    exclude: tuple[str, ...],
    cameras: bool = False,
) -> Compared:
    """Return the same from rows of distances in query order, all queries once; each block is looked at once."""
    others = _without_junk_rule(gallery_pids, exclude)
    if others == exclude or not cameras:
        ranking = rank_distances(blocks, query_pids, query_cams, gallery_pids, gallery_cams, exclude=exclude)
        return Compared(ranking, ranking if cameras else None)
    found: dict[tuple[str, ...], list[Ranking]] = {exclude: [], others: []}
    first = 0
    for block in blocks:
        rows = slice(first, first + len(block))
        for rules, parts in found.items():
            ids = (query_pids[rows], query_cams[rows], gallery_pids, gallery_cams)
            parts.append(rank_distances([block], *ids, exclude=rules))
        first += len(block)
    if first != len(query_pids):
        raise DataError(f"distances for {first} queries, expected {len(query_pids)}: every query needs one row")
    return Compared(*map(Ranking.joined, found.values()))


def _without_junk_rule(gallery_pids: IntArray, exclude: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(rule for rule in exclude if rule != JUNK_RULE) if (gallery_pids == JUNK).any() else exclude
