"""Score embeddings, or distances, of other programs exactly as a run is scored; read their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reidbench.data.protocol import EXCLUSION_RULES, RANKS, Protocol
from reidbench.embedding.pooling import UnitEmbeddings, pool_units
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.plugins.interfaces import Metric, learns
from reidbench.ranking.camera_matrix import camera_scores, own_rows
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rank import rank_distances
from reidbench.ranking.rankings import Ranking, Rankings
from reidbench.ranking.scores import Scores, average_precision, first_match, score
from reidbench.utils.arrays import IntArray, read_arrays, read_matrix

Triple = tuple[Any, Any, Any]
ARRAYS = ("embeddings", "pids", "cams", "starts")
BLOCK_ROWS = 64  # of a matrix of distances: 64 rows of 519,732 float64 are 254 MiB


@dataclass(frozen=True)
class Evaluation:
    """How embeddings are scored.

    Fields:
        metric: spec of the metric; "auto" is the default of the command line.
        rerank: spec of the re-ranker, or "none".
        exclude: exclusion rules of the protocol.
        ranks: the k of rank-k.
        normalize: whether rows get unit length; None leaves that to the metric.
    """

    metric: str = "auto"
    rerank: str = "none"
    exclude: tuple[str, ...] = EXCLUSION_RULES
    ranks: tuple[int, ...] = RANKS
    normalize: bool | None = None

    @classmethod
    def of(cls, protocol: Protocol, metric: str, rerank: str, normalize: bool | None) -> Evaluation:
        """Return how a protocol scores."""
        return cls(metric, rerank, protocol.exclude, protocol.ranks, normalize)


def evaluate(
    query: Triple, gallery: Triple, *, train: Triple | None = None, metric: str = "auto", rerank: str = "none"
) -> Scores:
    """Return the scores of embeddings of another program by the rules of Market-1501, with the camera matrix.

    ``query``, ``gallery`` and ``train`` (for metrics that are learned) are triples of arrays: embeddings [n, D] float32
    or float64, integer pids [n] and cams [n]; pid -1 is junk, 0 a distractor. ``metric`` and ``rerank`` are specs.
    Raises DataError, naming the row, and OptionError.
    """
    query_units, gallery_units = (
        check_units(dict(zip(ARRAYS, triple, strict=False)), name)
        for name, triple in (("query", query), ("gallery", gallery))
    )
    train_units = None if train is None else check_units(dict(zip(ARRAYS, train, strict=False)), "train")
    how = Evaluation(metric, rerank)
    return scores_of(rank_units(query_units, gallery_units, train_units, how), query_units, gallery_units, how)


def check_units(arrays: Mapping[str, Any], name: str, pool: Literal["mean", "max"] = "mean") -> UnitEmbeddings:
    """Return checked arrays as one embedding per unit; ``starts`` [n + 1], where given, are pooled.

    Raises DataError, naming ``name``, array and row, where an array is missing, of another dtype or shape, or not
    finite.
    """
    _require(arrays, ("embeddings", "pids", "cams"), name)
    rows = np.asarray(arrays["embeddings"])
    if rows.ndim != 2 or rows.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(f"{name}: embeddings must be float32 or float64 [n, D], got {rows.dtype} {list(rows.shape)}")
    if not rows.size:
        raise DataError(f"{name}: embeddings are empty, of shape {list(rows.shape)}")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise DataError(f"{name}: row {int(np.argmin(finite))} of the embeddings is not finite")
    pids, cams = (_integers(arrays[key], f"{name}: {key}") for key in ("pids", "cams"))
    tensor = torch.from_numpy(np.array(rows))
    if "starts" in arrays:
        starts = _integers(arrays["starts"], f"{name}: starts")
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(rows) or (np.diff(starts) < 1).any():
            raise DataError(f"{name}: starts must rise from 0 to the number of rows ({len(rows)})")
        tensor = pool_units(tensor, starts, pool)
    for key, values in (("pids", pids), ("cams", cams)):
        if len(values) != len(tensor):
            raise DataError(f"{name}: expected {len(tensor)} {key}, one for each unit, got {len(values)}")
    return UnitEmbeddings(tensor, pids, cams)


def _require(arrays: Mapping[str, Any], names: tuple[str, ...], file: str) -> None:
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{file}: lacks the array {' and '.join(missing)}; it has {', '.join(arrays) or 'none'}")


def _integers(values: Any, name: str) -> IntArray:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name} must be integers [n], got {array.dtype} {list(array.shape)}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise DataError(f"{name} has a number above 2^63 - 1")
    return array.astype(np.int64)


def rank_units(
    query: UnitEmbeddings, gallery: UnitEmbeddings, train: UnitEmbeddings | None, how: Evaluation
) -> Rankings:
    """Return the rankings of embeddings; raises DataError and OptionError."""
    text = str(command_defaults()["auto_metric"]) if how.metric == "auto" else how.metric
    metric = load().resolve("metric", text).build()
    if not isinstance(metric, Metric):
        raise OptionError(f"metric {text}: its factory returned {type(metric).__name__}, not a Metric")
    if how.normalize is not None:
        metric.normalize = how.normalize
    if learns(metric) and train is None:
        raise OptionError(f"metric {how.metric}: is learned; give the training embeddings too (--train)")
    if train is not None and not learns(metric):
        raise OptionError(f"metric {how.metric}: is not learned, so --train has no effect; leave it out")
    reranker = load().resolve("reranker", how.rerank).build()
    return rank_embeddings(query, gallery, metric, reranker, train, how.exclude)


def rank_matrix(matrix: NDArray[Any], query: UnitEmbeddings, gallery: UnitEmbeddings, how: Evaluation) -> Rankings:
    """Return the rankings of a matrix of distances [queries, gallery], smaller is closer; it may be memory-mapped."""
    expected = (len(query.pids), len(gallery.pids))
    if matrix.shape != expected:
        raise DataError(
            f"distances: expected {expected[0]} rows (queries) of {expected[1]} columns (gallery), got "
            f"{matrix.shape[0]} of {matrix.shape[1]}"
        )
    if matrix.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(f"distances: expected float32 or float64, got {matrix.dtype}")
    blocks = (np.array(matrix[first : first + BLOCK_ROWS]) for first in range(0, len(matrix), BLOCK_ROWS))
    return rank_distances(blocks, query.pids, query.cams, gallery.pids, gallery.cams, exclude=how.exclude)


def scores_of(rankings: Rankings, query: UnitEmbeddings, gallery: UnitEmbeddings, how: Evaluation) -> Scores:
    """Return the scores with the camera matrix; there the query is the gallery unit with an equal embedding, if any."""
    cams = query.cams, gallery.cams
    own = own_rows(query.embeddings, gallery.embeddings, rankings.with_junk, *cams)
    cameras = camera_scores(rankings.with_junk, *cams, own).as_dict()
    return replace(score(rankings.ranking, len(gallery.pids), how.ranks), cameras=cameras)


def per_query(ranking: Ranking) -> dict[str, NDArray[Any]]:
    """Return both average precisions [nq] float64 and the rank of the first positive [nq] int64, from 0; -1 if none."""
    return {
        "ap_market": average_precision(ranking, "market"),
        "ap_step": average_precision(ranking, "step"),
        "first": first_match(ranking),
    }


def evaluate_files(
    query: Path,
    gallery: Path,
    train: Path | None,
    distances: Path | None,
    pool: Literal["mean", "max"],
    how: Evaluation,
) -> tuple[Scores, Ranking, IntArray]:
    """Return the scores, the ranking and the queries' pids of files; ``distances`` replaces the embeddings.

    Raises DataError and OptionError.
    """
    given = {
        "--metric": how.metric != "auto",
        "--rerank": how.rerank != "none",
        "--train": train is not None,
        "--normalize" if how.normalize else "--no-normalize": how.normalize is not None,
    }
    if refused := [option for option, is_given in given.items() if is_given and distances]:
        raise OptionError(
            f"{' and '.join(refused)}: cannot be combined with --distances, which are ranked as they are; leave "
            f"{'it' if len(refused) == 1 else 'them'} out, or give embeddings instead of --distances"
        )
    with_embeddings = distances is None
    query_units = read_units(query, pool, with_embeddings=with_embeddings)
    gallery_units = read_units(gallery, pool, with_embeddings=with_embeddings)
    if distances is not None:
        rankings = rank_matrix(read_matrix(distances), query_units, gallery_units, how)
    else:
        train_units = read_units(train, pool) if train is not None else None
        rankings = rank_units(query_units, gallery_units, train_units, how)
    if not len(rankings.ranking.ranks):
        raise DataError(
            f"{query}: no query has a positive in {gallery}: no gallery item has a query's pid and another camera"
        )
    return scores_of(rankings, query_units, gallery_units, how), rankings.ranking, query_units.pids


def read_units(file: Path, pool: Literal["mean", "max"], *, with_embeddings: bool = True) -> UnitEmbeddings:
    """Return the units of a file, with embeddings [n, 0] where they are not needed; raises DataError."""
    arrays = read_arrays(file, ARRAYS)
    if with_embeddings:
        return check_units(arrays, str(file), pool)
    _require(arrays, ("pids", "cams"), str(file))
    pids, cams = (_integers(arrays[key], f"{file}: {key}") for key in ("pids", "cams"))
    if len(pids) != len(cams) or not len(pids):
        raise DataError(f"{file}: expected one cam for each of 1 or more pids, got {len(cams)} for {len(pids)}")
    return UnitEmbeddings(torch.empty(len(pids), 0), pids, cams)
