"""Check a run of a leaderboard against the lists of its dataset: queries, positives, exclusions and resolved items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import numpy as np

from reidbench.data.positives_and_exclusions import contradictions, find_positives, own_units
from reidbench.data.protocol import JUNK_RULE, Protocol, is_standin
from reidbench.data.samples import JUNK
from reidbench.data.split import Split
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.board import Run
from reidbench.leaderboard.check_record import ADDED_SCORES, PRINTED, FieldProblem, Problem, file_problem
from reidbench.ranking.camera_matrix import camera_scores
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import HEADLINE, intervals, scores_at
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RECORD, CameraMatrix, RunRecord
from reidbench.utils.arrays import IntArray


def check_lists(run: Run, planner: Planner) -> list[Problem]:
    """Return what in a run does not follow from the lists; raises DataError where they are not on this machine."""
    path, record = run
    spec = record.items["protocol"].spec
    try:
        item, protocol, split = planner.data(spec)
    except ReidbenchError as error:
        raise DataError(f"{spec}: not verified, its lists are not here: {str(error).splitlines()[0]}") from None
    standin, same = is_standin(protocol, split), split.digest == record.dataset.digest
    if not same and (standin or record.standin) and protocol.names:
        raise DataError(f"{spec}: not verified, the data here are {'a' if standin else 'not that'} stand-in")
    names = ("version", "views", "primary")
    expected: dict[str, Any] = {f"evaluation.{name}": getattr(protocol, name) for name in names}
    expected |= {"evaluation.exclude": list(protocol.exclude), "standin": standin}
    expected |= {"scores.queries": len(split.query), "scores.gallery": len(split.gallery)}
    if item.identity != (record.items["protocol"].identity or spec):  # where it is equal, a list may be elsewhere
        expected |= {"items.protocol.spec": item.text}
    # The published lists with files of other sizes have another digest.
    kinds = {kind: len(names) for kind, names in contradictions(protocol, split).items()}
    expected |= {"dataset.counts": split.counts, "dataset.contradictions": kinds} if same else {}
    expected |= {"dataset.digest": split.digest} if not protocol.names else {}
    missing = {*scores_at(protocol.rank_scores), "unmatched"} - ADDED_SCORES - record.scores.keys()
    differences = [*_compare(record, expected), *((f"scores.{name}", "is missing") for name in sorted(missing))]
    ranking = read_ranking(path)
    problems = [file_problem(path / RANKINGS, text) for text in ranking_problems(ranking, protocol, split)]
    if not problems:
        given = intervals(ranking, split.query.pids, record.scores, record.evaluation.primary)
        if not all(np.allclose(given.get(name, np.nan), ends) for name, ends in record.intervals.items()):
            differences.append(("intervals", "do not follow from the rankings"))
        differences += _camera_problems(record.cameras, ranking, protocol, split)
    if same and not problems and not differences:
        differences += _compare(record, _plan_fields(record, planner))
    return [*problems, *(Problem(path / RECORD, *each) for each in differences)]


def _plan_fields(record: RunRecord, planner: Planner) -> dict[str, Any]:
    """Return the fields of a record that its items determine; none where they have other options here."""
    try:
        plan = planner.plan(record.resolved_job())
    except ReidbenchError:  # an item is not installed here
        return {}
    if plan.id != record.id:
        return {}
    fields = {f"recipe.{name}": value for name, value in asdict(plan.recipe).items()}
    fields |= {f"network.{name}": getattr(plan.info, name) for name in ("embedding_dim", "parameters", "pretrained")}
    for kind, item in plan.items.items():
        fields |= {f"items.{kind}.short": item.short, f"items.{kind}.label": item.label}
    return fields if plan.faithful else fields | {"faithful": False}


def _compare(record: RunRecord, expected: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Yield (field, problem) for each field of a record that is missing or not the expected one."""
    parts = asdict(record)
    for field_name, value in expected.items():
        *above, name = field_name.split(".")
        recorded = reduce(lambda part, key: part[key], above, parts).get(name)
        if recorded != value:
            yield field_name, f"is {recorded!r:.200}, but the lists and the run's items give {value!r:.200}"


def _camera_problems(
    matrix: CameraMatrix, ranking: Ranking, protocol: Protocol, split: Split
) -> Iterator[FieldProblem]:
    """Yield what in a camera matrix cannot follow from the rankings.

    Junk counts in the matrix, and the rankings do not tell where it was: at best behind all positives, at worst before.
    """
    query, gallery = split.query, split.gallery
    junk = int((gallery.pids == JUNK).sum()) if JUNK_RULE in protocol.exclude else 0
    behind = replace(ranking, ranks=ranking.ranks + junk, same_camera_ranks=ranking.same_camera_ranks + junk)
    own = own_units(query, gallery)
    worst, best = (camera_scores(each, query.cams, gallery.cams, own).as_dict() for each in (behind, ranking))
    for name in ("cameras", "queries"):
        if getattr(matrix, name) != best[name]:
            yield f"cameras.{name}", "does not follow from the lists"
            return
    for name in HEADLINE:
        low, recorded, high = (np.array(each, float) for each in (worst[name], getattr(matrix, name), best[name]))
        if (recorded < low - PRINTED).any() or (recorded > high + PRINTED).any():
            yield f"cameras.{name}", "has a value that the rankings cannot give, wherever the junk was"


def ranking_problems(ranking: Ranking, protocol: Protocol, split: Split) -> Iterator[str]:
    """Yield what in a ranking cannot come from the queries and the gallery of the lists."""
    query, size = split.query, len(split.gallery)
    if len(ranking) != len(query) or ranking.gallery > size:
        yield f"holds {ranking.gallery} items and {len(ranking)} queries, the lists have {size} and {len(query)}"
        return
    positives = find_positives(protocol, split)
    pairs = positives.queries * size + positives.units
    wrong = np.flatnonzero(ranking.ranked != positives.ranked)
    if len(wrong):
        yield f"query {wrong[0]} has another number of ranked items than the lists give ({len(wrong)} queries in all)"
    for part, name in (("", "positives"), ("same_camera_", "excluded positives")):
        stored = _queries(getattr(ranking, f"{part}starts")) * size + getattr(ranking, f"{part}units")
        own, listed = (Counter(each.tolist()) for each in (stored, pairs[positives.excluded == bool(part)]))
        if own != listed:
            yield f"query {min((own - listed) + (listed - own)) // size} has other {name} than the lists"
    # The closest items [n, k]: all of the ranked gallery, none twice, and every positive among the first k there.
    rows, places = np.nonzero(ranking.top >= 0)
    units = ranking.top[rows, places]
    codes = rows * size + units
    ranked = np.isin(units, positives.candidates) & ~np.isin(codes, pairs[positives.excluded])
    if not ranked.all() or len(np.unique(codes)) != len(codes):
        yield "its closest items hold one twice, or some that the protocol excludes"
    positive = np.isin(codes, pairs[~positives.excluded])
    shown = _queries(ranking.starts)[ranking.ranks < ranking.top.shape[1]]
    if (np.bincount(rows[positive], minlength=len(query)) != np.bincount(shown, minlength=len(query))).any():
        yield "its closest items hold positives that have no rank"


def _queries(starts: IntArray) -> IntArray:
    """Return the query [m] int64 of each positive; query i's are ``starts[i]:starts[i + 1]``."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))
