"""Embeddings, or distances, that were made elsewhere: the same scores, exactly as for a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reidbench.data.protocol import Protocol
from reidbench.embedding.pooling import UnitEmbeddings, pool_units
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.plugins.interfaces import Metric, learns
from reidbench.ranking.camera_matrix import camera_scores, own_rows
from reidbench.ranking.hdf5 import read_hdf5
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rank import rank_distances
from reidbench.ranking.rankings import Ranking, Rankings
from reidbench.ranking.scores import Scores, average_precision, first_match, score
from reidbench.utils.arrays import IntArray, read_arrays, read_matrix

Triple = tuple[Any, Any, Any]
HDF5 = (".h5", ".hdf5")
ARRAYS = ("embeddings", "pids", "cams", "starts")
BLOCK_ROWS = 64  # of a matrix of distances: 64 rows of 519,732 float64 are 254 MiB


@dataclass(frozen=True)
class Evaluation:
    """How embeddings are scored: specs of metric and re-ranker, and what the protocol says.

    ``metric`` "auto" is the command line's default; ``normalize`` None is the metric's own.
    """

    metric: str = "auto"
    rerank: str = "none"
    exclude: tuple[str, ...] = ("junk", "same_camera")
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    normalize: bool | None = None

    @classmethod
    def of(cls, protocol: Protocol, metric: str, rerank: str, normalize: bool | None) -> Evaluation:
        """Return how a protocol scores."""
        return cls(metric, rerank, protocol.exclude, protocol.ranks, normalize)


def evaluate(
    query: Triple,
    gallery: Triple,
    *,
    train: Triple | None = None,
    metric: str = "auto",
    rerank: str = "none",
) -> Scores:
    """Return the scores of embeddings made elsewhere, as Market-1501 is scored, camera pairs among them.

    ``query``, ``gallery`` and ``train`` (for metrics that are learned) are triples of arrays: embeddings [n, D] float32
    or float64, pids [n] and cams [n] whole numbers; pid -1 is junk, 0 a distractor. ``metric`` and ``rerank`` are
    specs. Raises DataError, naming the row, and
    OptionError.
    """
    parts = [
        None if triple is None else embedded(dict(zip(("embeddings", "pids", "cams"), triple, strict=True)), name)
        for name, triple in (("query", query), ("gallery", gallery), ("train", train))
    ]
    assert parts[0] is not None
    assert parts[1] is not None
    how = Evaluation(metric, rerank)
    return scores_of(compare_embedded(parts[0], parts[1], parts[2], how), parts[0], parts[1], how)


def embedded(arrays: dict[str, Any], name: str, pool: Literal["mean", "max"] = "mean") -> UnitEmbeddings:
    """Return checked arrays as one embedding a unit; ``starts`` [n + 1], where given, are pooled.

    Raises DataError, naming ``name``, array and row, where something is missing, of another kind, or not finite.
    """
    missing = [key for key in ("embeddings", "pids", "cams") if key not in arrays]
    if missing:
        raise DataError(f"{name}: lacks the array {' and '.join(missing)}; it has {', '.join(arrays) or 'none'}")
    rows = np.asarray(arrays["embeddings"])
    if rows.ndim != 2 or rows.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(f"{name}: embeddings must be float32 or float64 [n, D], got {rows.dtype} {list(rows.shape)}")
    if not rows.size:
        raise DataError(f"{name}: embeddings are empty, of shape {list(rows.shape)}")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise DataError(f"{name}: row {int(np.argmin(finite))} of the embeddings is not finite")
    pids, cams = (_whole(arrays[key], f"{name}: {key}") for key in ("pids", "cams"))
    tensor = torch.from_numpy(np.array(rows))
    if "starts" in arrays:
        starts = _whole(arrays["starts"], f"{name}: starts")
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(rows) or (np.diff(starts) < 1).any():
            raise DataError(f"{name}: starts must rise from 0 to the number of rows ({len(rows)})")
        tensor = pool_units(tensor, starts, pool)
    for key, values in (("pids", pids), ("cams", cams)):
        if len(values) != len(tensor):
            raise DataError(f"{name}: expected {len(tensor)} {key}, one for each unit, got {len(values)}")
    return UnitEmbeddings(tensor, pids, cams)


def _whole(values: Any, named: str) -> IntArray:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{named} must be whole numbers [n], got {array.dtype} {list(array.shape)}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise DataError(f"{named} has a number above 2^63 - 1")
    return array.astype(np.int64)


def compare_embedded(
    query: UnitEmbeddings, gallery: UnitEmbeddings, train: UnitEmbeddings | None, how: Evaluation
) -> Rankings:
    """Return where the positives of every query stand; raises DataError and OptionError."""
    metric = _metric(how)
    if learns(metric) and train is None:
        raise OptionError(f"metric {how.metric}: is learned; give the training embeddings too (--train)")
    if train is not None and not learns(metric):
        raise OptionError(
            f"metric {how.metric}: learns nothing, so there is nothing for --train to change; leave it out"
        )
    reranker = load().resolve("reranker", how.rerank).build()
    return rank_embeddings(query, gallery, metric, reranker, train, how.exclude)


def compare_matrix(matrix: NDArray[Any], query: UnitEmbeddings, gallery: UnitEmbeddings, how: Evaluation) -> Rankings:
    """Return the same from a matrix of distances [queries, gallery], smaller is closer; it may be mapped."""
    if matrix.shape != (len(query.pids), len(gallery.pids)):
        raise DataError(
            f"distances: expected {len(query.pids)} rows (queries) of {len(gallery.pids)} columns (gallery), got "
            f"{matrix.shape[0]} of {matrix.shape[1]}"
        )
    if matrix.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DataError(f"distances: expected float32 or float64, got {matrix.dtype}")
    blocks = (np.array(matrix[first : first + BLOCK_ROWS]) for first in range(0, len(matrix), BLOCK_ROWS))
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    return rank_distances(blocks, *ids, exclude=how.exclude)


def scores_of(found: Rankings, query: UnitEmbeddings, gallery: UnitEmbeddings, how: Evaluation) -> Scores:
    """Return the scores, those of camera pairs among them.

    In the latter the query itself leaves the gallery; where units have embeddings it is the unit that equals it.
    """
    cams = query.cams, gallery.cams
    own = own_rows(query.embeddings, gallery.embeddings, found.with_junk, *cams)
    cameras = camera_scores(found.with_junk, *cams, own).as_dict()
    return replace(score(found.ranking, len(gallery.pids), how.ranks), cameras=cameras)


def _metric(how: Evaluation) -> Metric:
    text = str(command_defaults()["auto_metric"]) if how.metric == "auto" else how.metric
    metric = load().resolve("metric", text).build()
    if not isinstance(metric, Metric):
        raise OptionError(f"metric {text}: its factory returned {type(metric).__name__}, not a Metric")
    if how.normalize is not None:
        metric.normalize = how.normalize
    return metric


def per_query(ranking: Ranking) -> dict[str, NDArray[Any]]:
    """Return both average precisions [nq] float64 and the 0-based rank of the first match [nq] int64, -1 if none."""
    return {
        "ap_market": average_precision(ranking, "market"),
        "ap_step": average_precision(ranking, "step"),
        "first": first_match(ranking),
    }


def read_embedded(
    file: Path, pool: Literal["mean", "max"], *, ids_only: bool = False, listed: Path | None = None
) -> UnitEmbeddings:
    """Return the units in a file; with ``ids_only`` its embeddings may be missing, ``listed`` is the CSV of an .h5.

    Raises DataError and OptionError.
    """
    arrays = read_hdf5(file, listed) if file.suffix in HDF5 else read_arrays(file, ARRAYS)
    if listed is not None and file.suffix not in HDF5:
        raise OptionError(f"{listed}: only an .h5 file needs a CSV, not {file}")
    if not ids_only:
        return embedded(arrays, str(file), pool)
    if missing := [key for key in ("pids", "cams") if key not in arrays]:
        raise DataError(f"{file}: lacks the array {' and '.join(missing)}; it has {', '.join(arrays) or 'none'}")
    pids, cams = (_whole(arrays[key], f"{file}: {key}") for key in ("pids", "cams"))
    if len(pids) != len(cams) or not len(pids):
        raise DataError(f"{file}: expected one cam for each of 1 or more pids, got {len(cams)} for {len(pids)}")
    return UnitEmbeddings(torch.empty(len(pids), 0), pids, cams)


def evaluate_files(
    query: Path,
    gallery: Path,
    train: Path | None,
    distances: Path | None,
    pool: Literal["mean", "max"],
    how: Evaluation,
    *,
    lists: Mapping[str, Path | None] | None = None,
) -> tuple[Scores, Ranking, IntArray]:
    """Return the scores, the ranking and the queries' pids of files; ``distances`` replaces the embeddings.

    ``lists`` are the CSV files of "query", "gallery" and "train" where those are .h5. Raises as the above.
    """
    csv = lists or {}
    asked = read_embedded(query, pool, ids_only=distances is not None, listed=csv.get("query"))
    searched = read_embedded(gallery, pool, ids_only=distances is not None, listed=csv.get("gallery"))
    if distances is not None:
        given = {
            "--metric": how.metric != "auto",
            "--rerank": how.rerank != "none",
            "--train": train is not None,
            "--normalize" if how.normalize else "--no-normalize": how.normalize is not None,
        }
        if refused := [option for option, is_given in given.items() if is_given]:
            raise OptionError(
                f"--distances are ranked as they are, so there is nothing for {' and '.join(refused)} to change; "
                f"leave {'it' if len(refused) == 1 else 'them'} out, or give embeddings instead of --distances"
            )
        found = compare_matrix(read_matrix(distances), asked, searched, how)
    else:
        known = read_embedded(train, pool, listed=csv.get("train")) if train is not None else None
        found = compare_embedded(asked, searched, known, how)
    if not len(found.ranking.ranks):
        raise DataError(
            f"{query}: no query has a match in {gallery}: no gallery item has the pid of a query and another camera"
        )
    return scores_of(found, asked, searched, how), found.ranking, asked.pids
