"""Score embeddings, or distances, of other programs exactly as a run is scored."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.positives_and_exclusions import NO_POSITIVE, Positives
from reidbench.data.protocol import MARKET_RULES, RANK_SCORES, SAME_CAMERA_RULE, SELF_RULE
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.errors import DataError, OptionError, checked
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.plugins.interfaces import Metric, PairMetric, Reranker, learns
from reidbench.ranking.camera_matrix import camera_scores, own_rows
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rank import rank_distances, refuse_not_finite
from reidbench.ranking.rankings import Ranking, Rankings
from reidbench.ranking.scores import Scores, average_precision, first_match, intervals, score
from reidbench.utils.arrays import IntArray, MappedRows, read_arrays, read_matrix
from reidbench.utils.untrusted_files import open_regular

Arrays = tuple[Any, Any] | tuple[Any, Any, Any]
ARRAYS = ("embeddings", "pids", "cams")
HEADER = "path,pid,camid"  # of the list beside a shard
BLOCK_ROWS = 64  # of a matrix of distances: 64 rows of 519,732 float64 are 254 MiB


@dataclass(frozen=True)
class Evaluation:
    """How embeddings are scored.

    Fields:
        metric: spec of the metric; "auto" is the default of the command line.
        rerank: spec of the re-ranker, or "none".
        exclude: exclusion rules of the protocol.
        rank_scores: names of the scores of the ranks.
        primary: the score that leaderboards rank by.
        cameras: whether cameras are known.
    """

    metric: str = "auto"
    rerank: str = "none"
    exclude: tuple[str, ...] = MARKET_RULES
    rank_scores: tuple[str, ...] = RANK_SCORES
    primary: str = ""
    cameras: bool = True


def evaluate(
    query: Arrays,
    gallery: Arrays | None = None,
    *,
    train: Arrays | None = None,
    metric: str = "auto",
    rerank: str = "none",
) -> Scores:
    """Return the scores of embeddings of another program by the rules of Market-1501.

    With them come intervals, both average precisions of each query, and the camera matrix.
    ``query``, ``gallery`` (by default the queries themselves) and ``train`` (for metrics that are learned) are tuples:
    embeddings [n, D], pids [n] and cams [n], each a list, an array or a tensor on any device. float64 embeddings are
    scored as such, all others as float32. pids and cams are whole numbers; pid -1 is junk, 0 a distractor. Where all
    cams are None or left out, nothing is excluded by camera and there is no camera matrix. Where queries and gallery
    are one array, each query's own row is excluded from its ranking: ``own_rows`` of the result counts them. ``metric``
    and ``rerank`` are specs. Raises DataError, naming array and row, and OptionError.
    """
    gallery = query if gallery is None else gallery
    sides = {"query": query, "gallery": gallery} | ({} if train is None else {"train": train})
    arrays = {name: _by_name(side, name) for name, side in sides.items()}
    if len({each["cams"] is None for each in arrays.values()}) > 1:
        raise DataError(f"cams: None for a part of {', '.join(arrays)}; give the cameras of all of them, or of none")
    units = {name: check_units(each, name) for name, each in arrays.items()}
    one, other = (arrays[name]["embeddings"] for name in ("query", "gallery"))
    how = Evaluation(metric, rerank, cameras=arrays["query"]["cams"] is not None)
    if one is not other and not how.cameras and np.may_share_memory(_array(one, "query"), _array(other, "gallery")):
        advice = "give each gallery row a camera of its own, and each query that of its row"
        raise DataError(f"query and gallery: are parts of one array, so a query may be its own positive; {advice}")
    return score_units(units["query"], units["gallery"], one is other, how, units.get("train"))[0]


def _by_name(part: Any, name: str) -> dict[str, Any]:
    if not isinstance(part, tuple | list) or len(part) not in (2, 3):
        kind = f"{len(part)} values" if isinstance(part, tuple | list) else type(part).__name__
        raise DataError(f"{name}: expected (embeddings, pids) or (embeddings, pids, cams), got {kind}")
    return dict(zip(ARRAYS, (*part, None), strict=False))


def check_units(arrays: Mapping[str, Any], name: str) -> UnitEmbeddings:
    """Return checked arrays as the embeddings of units.

    Raises DataError, naming ``name``, array and row, where one is of another dtype or shape, or not finite.
    """
    rows = _array(arrays["embeddings"], f"{name}: embeddings")
    if rows.ndim != 2 or rows.dtype.kind != "f" or rows.itemsize > 8:
        raise DataError(f"{name}: embeddings must be float32 or float64 [n, D], got {rows.dtype} {list(rows.shape)}")
    if not rows.size:
        raise DataError(f"{name}: embeddings are empty, of shape {list(rows.shape)}")
    refuse_not_finite(rows, f"{name}: embeddings: row", 0)
    tensor = torch.from_numpy(np.array(rows, dtype=np.float64 if rows.itemsize == 8 else np.float32, order="C"))
    return UnitEmbeddings(tensor, *_labels(arrays, name, len(tensor)))


def _labels(arrays: Mapping[str, Any], name: str, count: int | None = None) -> tuple[IntArray, IntArray]:
    """Return pids and cams [n]; where cameras are unknown, every unit has one of its own."""
    pids = _integers(arrays["pids"], f"{name}: pids")
    count = len(pids) if count is None else count
    cams = np.arange(count) if arrays["cams"] is None else _integers(arrays["cams"], f"{name}: cams")
    for key, values in (("pids", pids), ("cams", cams)):
        if len(values) != count or not count:
            raise DataError(f"{name}: expected {count or 'some'} {key}, one for each unit, got {len(values)}")
    return pids, cams


def _array(values: Any, name: str) -> NDArray[Any]:
    """Return what a caller gave as a numpy array, bfloat16 as float32."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        if np.ma.is_masked(values):
            raise ValueError("values are masked")
        return np.asarray(values)
    except Exception as error:  # lists of unequal lengths, and whatever arrays of other libraries raise
        raise DataError(f"{name} must be a list, an array or a tensor of numbers: {error}") from None


def _integers(values: Any, name: str) -> IntArray:
    array = _array(values, name)
    if array.dtype.kind == "f" and not str(getattr(values, "dtype", "")).endswith("float16"):  # which rounds above 256
        exact = np.abs(array) <= 1 / np.finfo(array.dtype).eps
        array = array.astype(np.int64) if (exact & (array == np.rint(array))).all() else array
    if array.ndim != 1 or array.dtype.kind not in "iu":
        advice = {"U": "; number them with numpy.unique", "f": " that does not hold exact whole numbers"}
        found = f"{array.dtype} {list(array.shape)}{advice.get(array.dtype.kind, '')}"
        raise DataError(f"{name} must be integers [n], got {found}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise DataError(f"{name} has a number above 2^63 - 1")
    return array.astype(np.int64)


def score_units(
    query: UnitEmbeddings,
    gallery: UnitEmbeddings,
    same: bool,
    how: Evaluation,
    train: UnitEmbeddings | None = None,
    matrix: NDArray[Any] | None = None,
    *,
    source: str = "query and gallery",
) -> tuple[Scores, Ranking]:
    """Return the scores and the ranking of embeddings, or of a ``matrix`` of distances.

    ``same``: whether query i is gallery unit i, so that it is excluded from its own ranking whatever the rules; under
    the rule "self" this must be so, and equal pids and cams suffice. ``source`` names queries and gallery in errors.
    Raises OptionError, and DataError, also where no query has a positive.
    """
    labels = query.pids, query.cams, gallery.pids, gallery.cams
    if SELF_RULE in how.exclude and not same:
        same = all(map(np.array_equal, labels[:2], labels[2:]))
        if not same:
            reason = "the protocol excludes each query from its own ranking"
            advice = "give one file for both, or files of equal pids and cams in one order"
            raise DataError(f"{source}: {reason}, and these hold other units; {advice}")
    own = np.arange(len(query.pids)) if same else np.full(len(query.pids), -1)
    rules = [rule for rule in how.exclude if how.cameras or rule != SAME_CAMERA_RULE]
    positives = Positives.find(*labels, (*rules, SELF_RULE), own)
    rankings = rank_units(query, gallery, train, how, positives) if matrix is None else rank_matrix(matrix, positives)
    ranking = rankings.ranking
    if not len(ranking.ranks):
        raise DataError(f"{source}: {NO_POSITIVE}")
    scores = replace(
        score(ranking, len(gallery.pids), how.rank_scores),
        own_rows=same * len(own),
        intervals=intervals(ranking, query.pids, how.rank_scores, how.primary),
        per_query={
            "ap_market": average_precision(ranking, "market"),
            "ap_step": average_precision(ranking, "step"),
            "first": first_match(ranking),
        },
    )
    if how.cameras:
        if not same and matrix is None:  # in the camera matrix an equal row is the query itself
            own = own_rows(query, gallery, positives)
        cameras = camera_scores(rankings.with_junk, query.cams, gallery.cams, own)
        scores = replace(scores, cameras=cameras.as_dict())
    return scores, ranking


def rank_units(
    query: UnitEmbeddings, gallery: UnitEmbeddings, train: UnitEmbeddings | None, how: Evaluation, positives: Positives
) -> Rankings:
    """Return the rankings of embeddings; raises DataError and OptionError."""
    text = str(command_defaults()["auto_metric"]) if how.metric == "auto" else how.metric
    spec, reranking = load().resolve("metric", text), load().resolve("reranker", how.rerank)
    metric = checked(spec.owner, spec.build(), Metric)
    if isinstance(metric, PairMetric):
        raise OptionError(f"metric {how.metric}: compares pairs by a network, which no file holds; give --distances")
    if learns(metric) and train is None:
        raise OptionError(f"metric {how.metric}: is learned; give the training embeddings too (--train)")
    if train is not None and not learns(metric):
        raise OptionError(f"metric {how.metric}: is not learned, so --train has no effect; leave it out")
    reranker = checked(reranking.owner, reranking.build(), Reranker) if reranking.plugin_items else None
    return rank_embeddings(query, gallery, metric, reranker, train, positives)


def rank_matrix(matrix: NDArray[Any], positives: Positives) -> Rankings:
    """Return the rankings of a matrix of distances [queries, gallery], smaller is closer; it may be memory-mapped."""
    expected = [len(positives.ranked), len(positives.candidates) + len(positives.junk)]
    if list(matrix.shape) != expected:
        raise DataError(f"distances: expected {expected} (queries, gallery), got {list(matrix.shape)}")
    blocks = (np.array(matrix[first : first + BLOCK_ROWS]) for first in range(0, len(matrix), BLOCK_ROWS))
    return rank_distances(blocks, positives)


def evaluate_files(
    query: Path, gallery: Path | Sequence[Path], train: Path | None, distances: Path | None, how: Evaluation
) -> tuple[Scores, Ranking]:
    """Return the scores and the ranking of files; ``distances`` replaces the embeddings.

    A ``gallery`` of several files is one of shards, as for ``read_shards``. Raises DataError and OptionError.
    """
    query_units = read_units(query, distances is None)
    gallery_units = read_units(gallery, distances is None) if isinstance(gallery, Path) else read_shards(gallery)
    train_units = read_units(train) if train is not None else None
    same = isinstance(gallery, Path) and query.samefile(gallery)
    matrix = read_matrix(distances) if distances is not None else None
    source = f"{query} and {gallery if isinstance(gallery, Path) else gallery[0].parent}"
    return score_units(query_units, gallery_units, same, how, train_units, matrix, source=source)


def read_units(file: Path, with_embeddings: bool = True) -> UnitEmbeddings:
    """Return the units of a file, with embeddings [n, 0] where they are not needed; raises DataError."""
    if with_embeddings:
        return check_units(read_arrays(file, ARRAYS), str(file))
    pids, cams = _labels(read_arrays(file, ARRAYS[1:]), str(file))
    return UnitEmbeddings(torch.empty(len(pids), 0), pids, cams)


def read_shards(files: Sequence[Path]) -> UnitEmbeddings:
    """Return the units of ``.npy`` files, in their order; each row is a unit, and stays in its file.

    Beside each file is a list of the same name, ``.csv``, with path, pid and camid for each row. Raises DataError as
    ``MappedRows``, and where a list does not fit its embeddings.
    """
    rows = MappedRows(files)
    labels = np.empty((2, len(rows)), dtype=np.int64)
    for file, first, last in rows.parts:
        listed = _read_labels(file.with_suffix(".csv"))
        if len(listed) != last - first:
            raise DataError(f"{file.with_suffix('.csv')}: lists {len(listed)} images, {file} has {last - first} rows")
        labels[:, first:last] = listed.T
    return UnitEmbeddings(rows, *labels)


def _read_labels(file: Path) -> IntArray:
    """Return the labels of each line of a list [n, 2]; its text is never held as a whole."""
    with open_regular(file) as opened, io.TextIOWrapper(opened, "utf-8-sig") as text:
        try:
            if (header := text.readline().strip()) != HEADER:
                raise ValueError(f"expected the columns {HEADER}, found {header[:80]}")
            return np.loadtxt(text, np.int64, None, ",", usecols=(1, 2), ndmin=2, quotechar='"')
        except (ValueError, OSError) as error:
            raise DataError(f"{file}: cannot be read: {error}") from None
