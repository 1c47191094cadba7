"""The table of scores: one row for each combination, the mean over its seeds, and differences to a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import reidbench
from reidbench import (
    Chart,
    Column,
    DataError,
    Part,
    RunFiles,
    RunRecord,
    Series,
    Table,
    headline_scores,
    hookimpl,
    named_score,
)
from reidbench_reports.combinations import (
    KINDS,
    Combination,
    combinations,
    names,
    newest,
    percent_column,
    scores_of,
)
from reidbench_reports.differences import differences

if TYPE_CHECKING:
    from reidbench import Difference, Score

STANDIN, UNFAITHFUL, FLAWED = "†", "‡", "*"  # the star is the paper's, Table 1
MOST_INTERVALS = 24
PAPER, PAPER_STEPS = "Hermans et al. (2017)", 25_000


class ScoreTable:
    """Scores of all combinations: mean ± standard deviation over seeds, in percent, the untrained network first.

    Rows of one protocol, version and dataset are listed together, with the protocol's name where there are several. The
    best of each column is bold among rows that differ in nothing but the loss, and the difference to the baseline is
    taken there. The 95 % interval is that of the primary score over the query identities, for a single seed. Runs
    without scores are named in notes.

    Options:
        baseline: the loss that others are compared with, with only the options that differ from their defaults.
    """

    def __init__(self, *, baseline: str = "batch_hard") -> None:
        self.baseline = baseline

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part for these records, rows in their order."""
        runs, superseded = newest(records)
        boards: dict[tuple[object, ...], list[RunRecord]] = {}
        for run in runs:
            board = (run.items["protocol"].spec, run.evaluation.version, run.dataset.digest)
            boards.setdefault(board, []).append(run)
        groups = [combinations(board) for board in boards.values()]
        part = Part(title="Scores", tables=[_scores(groups)] if groups else [])
        part.notes.extend(map(_protocol, groups))
        if any(table.best for table in part.tables):
            part.notes.append("Bold: the best of a column among rows that differ only in the loss.")
        remarks: dict[str, None] = {}
        for rows in groups:
            protocol = f", {rows[0].first.items['protocol'].short}" if len(groups) > 1 else ""
            trained = [each for each in rows if each.scored and not each.untrained]
            score = named_score(rows[0].first.evaluation.primary).label
            if trained and files.figures:
                part.charts.append(_intervals(f"{score}, seeds and 95 % intervals{protocol}", trained))
            try:
                gaps = list(differences(rows, self.baseline, files))
            except DataError as error:
                remarks[f"No differences to {self.baseline}: {error}"] = None
                continue
            if gaps:
                title = f"Δ{score} vs. {self.baseline}, percentage points{protocol}"
                part.tables.append(_difference_table(title, rows, gaps))
                remarks[_coverage({gap.over_seeds for _, gap in gaps})] = None
        part.notes.extend(footnotes(runs))
        part.notes.extend(
            f"{FLAWED * run.scored}{run.items['loss'].short}, seed {run.job.seed}: {run.status}: "
            f"{run.error or 'no reason was recorded'}"
            for run in runs
            if run.status != "ok"
        )
        part.notes.extend(remarks)
        if superseded:
            part.notes.append(f"Earlier runs of the same combination and seed, left out: {superseded}.")
        return part


def _scores(boards: Sequence[Sequence[Combination]]) -> Table:
    """Return one row for each combination, board by board."""
    members = [each for board in boards for each in board]
    scores = scores_of([run for each in members for run in each.runs])
    rows = [_row(each, scores) for each in members]
    reranked = any(row["rerank"] != "none" for row in rows)
    kinds = ["protocol"] * (len(boards) > 1) + ["backbone", "recipe", "metric"] + ["rerank"] * reranked
    headline = dict.fromkeys(
        name
        for each in members
        for name in headline_scores(each.scored[0].scores if each.scored else scores, each.first.evaluation.primary)
    )
    further = sorted((name for name in scores if name not in headline), key=lambda name: name.startswith("map_"))
    # A narrow terminal leaves the last of these out first, the interval (1) last.
    minor = ["", "interval", *further[:-1], "train_seconds", "seeds", further[-1]]
    columns = [Column("loss", format=_loss)]
    primary = {each.first.evaluation.primary for each in members}
    for name in headline:
        columns.append(percent_column(name))
        if name in primary and any(row[f"{name}_low"] is not None for row in rows):
            columns.append(Column(f"{name}_low", "95 %", "number", _interval(name, "–", ".1f"), minor=1))
    columns += map(Column, kinds)
    columns += [percent_column(name, minor=minor.index(name)) for name in further]
    columns.append(Column("seeds", "", "number", _seeds, minor.index("seeds")))
    columns.append(Column("train_seconds", "train time", "number", _duration, minor.index("train_seconds")))
    best: set[tuple[int, str]] = set()
    for name, score in scores.items():
        tracks: dict[tuple[object, ...], list[int]] = {}
        for number, row in enumerate(rows):
            if row[name] is not None:
                track = row["track"], row["protocol"], row["version"], row["data"]
                tracks.setdefault(track, []).append(number)
        for members in (each for each in tracks.values() if len(each) > 1):
            top = score.best(rows[number][name] for number in members)
            best |= {(number, name) for number in members if rows[number][name] == top}
    return Table(rows, columns, best=best)


def _row(each: Combination, scores: Mapping[str, Score]) -> dict[str, Any]:
    run = each.first
    seconds = [run.seconds["train"] for run in each.scored]
    row: dict[str, Any] = {kind: run.items[kind].short for kind in KINDS}
    for score in scores:
        row[score], row[f"{score}_sd"] = each.mean(score)
        # The interval of a single seed; several have their standard deviation.
        interval = each.scored[0].intervals.get(score) if len(each.scored) == 1 else None
        row[f"{score}_low"], row[f"{score}_high"] = interval or (None, None)
    return row | {
        "seeds": len(each.scored),
        "runs": len(each.runs),
        "flawed": sum(run.scored and run.status != "ok" for run in each.runs),
        "standin": run.standin,
        "faithful": run.faithful,
        "pretrained": run.network.pretrained,
        "train_seconds": None if each.untrained or not seconds else sum(seconds) / len(seconds),
        "track": run.track,
        "version": run.evaluation.version,
        "data": run.dataset.digest[:16],
        "config_hash": run.group,
    }


def _loss(row: Mapping[str, Any]) -> str:
    trained = row["loss"] != "none"
    marks = STANDIN * row["standin"] + UNFAITHFUL * (trained and not row["faithful"])
    start = "" if trained else " (pretrained)" if row["pretrained"] else " (untrained)"
    return f"{row['loss']}{start} {marks}{FLAWED * (row['flawed'] > 0)}"


def _interval(key: str, to: str, digits: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        return "" if low is None else f"{100 * low:{digits}}{to}{100 * high:{digits}}"

    return cell


def _seeds(row: Mapping[str, Any]) -> str:
    return str(row["runs"]) if row["seeds"] == row["runs"] else f"{row['seeds']} of {row['runs']}"


def _duration(row: Mapping[str, Any]) -> str:
    seconds = row["train_seconds"]
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _intervals(title: str, rows: Sequence[Combination]) -> Chart:
    """Return the dot-and-interval plot of the best combinations, the best first."""
    if len(rows) > MOST_INTERVALS:
        title = f"{title}, the best {MOST_INTERVALS} of {len(rows)}"
    primary = rows[0].first.evaluation.primary
    rows = sorted(rows, key=lambda each: -(each.mean(primary)[0] or 0.0))[:MOST_INTERVALS]
    series = []
    for each, name in zip(rows, names([each.first for each in rows], seeds=False), strict=True):
        runs, method = each.scored, each.first.items["loss"].short
        interval = reidbench.mean_interval(runs, primary, each.first.dataset.counts.get("query_identities", 0))
        low, high = ([100 * end] for end in interval) if interval else ((), ())
        seeds = [f"seed {run.job.seed}" for run in runs]
        dots = [100 * run.scores[primary] for run in runs]
        series.append(Series(name, dots, low=low, high=high, labels=seeds, method=method))
    return Chart("intervals", title, series, f"{named_score(primary).label}, %")


def _difference_table(title: str, rows: Sequence[Combination], gaps: Sequence[tuple[RunRecord, Difference]]) -> Table:
    cells = []
    for run, gap in gaps:
        low, high = gap.interval or (None, None)
        cells.append(
            {kind: run.items[kind].short for kind in KINDS}
            | {"difference": gap.difference, "difference_low": low, "difference_high": high}
            | {"over": "seeds" if gap.over_seeds else "checkpoints"}
        )
    varying = [kind for kind in KINDS if kind == "loss" or len({each.first.items[kind].short for each in rows}) > 1]
    columns = [*map(Column, varying)]
    columns.append(Column("difference", "", "number", lambda row: f"{100 * row['difference']:+.2f}"))
    columns.append(Column("difference_low", "95 % CI", "number", _interval("difference", " to ", ".2f")))
    if len({gap.over_seeds for _, gap in gaps}) > 1:
        columns.append(Column("over"))
    return Table(cells, columns, title)


def _coverage(over_seeds: set[bool]) -> str:
    """Return what the intervals of differences cover; ``over_seeds`` says it of each of them."""
    note = "95 % CI: paired bootstrap over query identities"
    if over_seeds == {True}:
        return f"{note} and the variance between seeds."
    if over_seeds == {False}:
        return f"{note}; covers the choice of queries, not training noise (use 3 or more seeds)."
    return f"{note}; training noise is covered where both sides have three seeds."


def _protocol(rows: Sequence[Combination]) -> str:
    """Return the protocol with its version and what was scored, as one line."""
    first = rows[0].first
    name = f"Protocol {first.items['protocol'].short}, version {first.evaluation.version}"
    scores = next((each.scored[0].scores for each in rows if each.scored), None)
    if scores is None:
        return f"{name}: no run has scores."
    spread = ", mean ± standard deviation over seeds" if any(len(each.scored) > 1 for each in rows) else ""
    return (
        f"{name}: {scores['queries']:,.0f} queries × {scores['gallery']:,.0f} gallery items, "
        f"{scores['unmatched']:,.0f} unmatched; scores in percent{spread}."
    )


def footnotes(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yield what the marks in the table mean, and contradictions in the data, each once and only where it is used."""
    if any(run.standin for run in runs):
        yield f"{STANDIN} stand-in data, not the published file lists; not comparable with published numbers."
    for run in {(run.items["protocol"].spec, run.dataset.digest): run for run in runs}.values():
        if counts := run.dataset.contradictions:
            kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
            yield f"Contradictions in the data of {run.items['protocol'].short}: {kinds}."
    unfaithful = [run for run in runs if run.items["loss"].spec != "none" and not run.faithful]
    yield from dict.fromkeys(map(_unfaithful, unfaithful))


def _unfaithful(run: RunRecord) -> str:
    recipe, steps = run.items["recipe"].short, run.recipe.steps
    short = f"short schedule ({steps:,} of {PAPER_STEPS:,} steps)"
    shortened = run.recipe.schedule == "exponential" and steps < PAPER_STEPS  # other schedules are other papers'
    reasons = [short if shortened else f"recipe {recipe} differs from {PAPER}"]
    reasons += [deviation for deviation in run.deviations if deviation != f"recipe {recipe}"]
    if run.recipe.faithful_to and not shortened:
        reasons = [f"differs from {run.recipe.faithful_to}: {'; '.join(run.deviations)}"]
    return f"{UNFAITHFUL} {'; '.join(reasons)}; not comparable with published numbers."


@hookimpl
def register_sections() -> Mapping[str, Callable[..., ScoreTable]]:
    return {"table": ScoreTable}
