"""The table of scores: one row a combination, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from reidbench import HEADLINE, DataError, Part, RunFiles, RunRecord, hookimpl, mean_and_sd, shown_scores
from reidbench_reports.combinations import KINDS, Combination, combinations, newest
from reidbench_reports.differences import differences, said

INTERVAL = "95 %"
NOTHING = "–"
STANDIN, UNFAITHFUL, COLLAPSED = "†", "‡", "*"  # the star is the paper's, Table 1
PAPER, PAPER_STEPS = "Hermans et al. (2017)", 25_000


class Table:
    """Scores of all combinations: mean ± standard deviation over seeds, in percent, the untrained network first.

    Rows of several protocols, versions or data sets stand below each other, those of one together, with the protocol's
    name; the best of each column is marked among rows that differ in nothing but the loss, and the difference to the
    baseline is taken there. The 95 % interval is that of mAP (market) over the queries' identities, where there is one
    seed. Runs without a score are named in notes.

    Options:
        baseline: the loss, with only the options that differ from their defaults, that the others are compared with.
    """

    def __init__(self, *, baseline: str = "batch_hard") -> None:
        self.baseline = baseline

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part for these records, rows in their order."""
        kept, superseded = newest(records)
        boards: dict[tuple[object, ...], list[RunRecord]] = {}
        for record in kept:
            board = (record.items["protocol"].spec, record.evaluation.version, record.dataset.digest)
            boards.setdefault(board, []).append(record)
        listed = [combinations(runs) for runs in boards.values()]
        tables = [_frame(listed)] if listed else []
        notes = [_about(rows) for rows in listed]
        remarks: list[str] = []
        for rows in listed:
            compared, said_of = self._compare(rows, files, several=len(listed) > 1)
            tables += compared
            remarks += said_of
        notes += _footnotes([Combination((record,)) for record in kept])
        notes += [
            f"{COLLAPSED * (run.status == 'collapsed')}{run.items['loss'].short}, seed {run.job.seed}: {run.status}: "
            f"{run.error or 'no reason was recorded'}"
            for run in kept
            if run.status != "ok"
        ]
        notes += dict.fromkeys(remarks)
        if superseded:
            notes.append(f"Earlier runs of the same combination and seed, left out: {superseded}.")
        return Part(title="Scores", tables=tables, notes=notes)

    def _compare(
        self, rows: Sequence[Combination], files: RunFiles, *, several: bool
    ) -> tuple[list[pd.DataFrame], list[str]]:
        """Return the table of differences where there is something to compare, and what has to be said of it."""
        try:
            found = differences(rows, self.baseline, files)
        except DataError as error:
            return [], [f"Differences to {self.baseline} are left out: {error}"]
        kinds = [kind for kind in KINDS if len({each.first.items[kind].short for each in rows}) > 1]
        cells = [
            {kind: each.first.items[kind].short for kind in ("loss", *kinds)} | said(difference)
            for each, difference in zip(rows, found, strict=True)
            if difference
        ]
        if not cells:
            return [], []
        frame = pd.DataFrame(cells)
        on = f", {rows[0].first.items['protocol'].short}" if several else ""
        frame.attrs["title"] = f"mAP (market) less that of {self.baseline}, in points{on}"
        over_seeds = [each.over_seeds for each in found if each]
        whose = "and over seeds" if any(over_seeds) else "of these checkpoints, not of the losses"
        if any(over_seeds) and not all(over_seeds):
            frame["over"] = ["seeds" if each else "checkpoints" for each in over_seeds]
            whose = "and over seeds where both sides have three; else of these checkpoints, not of the losses"
        return [frame], [f"95 % interval: a paired bootstrap over query identities, {whose}."]


def _marks(each: Combination) -> str:
    unfaithful = not each.untrained and not each.first.faithful
    collapsed = any(run.status == "collapsed" for run in each.runs)
    return STANDIN * each.first.standin + UNFAITHFUL * unfaithful + COLLAPSED * collapsed


def _frame(boards: Sequence[Sequence[Combination]]) -> pd.DataFrame:
    """Return one row a combination, board by board."""
    rows = [each for board in boards for each in board]
    reranked = any(each.first.items["rerank"].spec != "none" for each in rows)
    kinds = ["protocol"] * (len(boards) > 1) + ["backbone", "recipe", "metric"] + ["rerank"] * reranked
    known = any(_interval(each) for each in rows)
    shown = shown_scores()
    cells = []
    for each in rows:
        loss = each.first.items["loss"].short + " (untrained)" * each.untrained
        scores: dict[str, str] = {}
        for name, score in shown.items():
            scores[score.label] = _percent(each, name)
            if known and name == "map_market":
                scores[INTERVAL] = _interval(each)
        cells.append(
            {"loss": f"{loss} {_marks(each)}".strip()}
            | {kind: each.first.items[kind].short for kind in kinds}
            | scores
            | {"seeds": _seeds(each), "train time": _training(each)}
        )
    frame = pd.DataFrame(cells)
    # What a narrow terminal leaves out, the last first.
    frame.attrs["minor"] = ["seeds", *(shown[name].label for name in sorted(shown.keys() - HEADLINE))]
    frame.attrs["values"] = {"train time": [_seconds(each) for each in rows]}
    starts = [sum(map(len, boards[:number])) for number in range(len(boards))]
    frame.attrs["best"] = {
        score.label: [start + row for start, board in zip(starts, boards, strict=True) for row in _best(board, name)]
        for name, score in shown.items()
    }
    return frame


def _interval(each: Combination) -> str:
    """Return the interval of a single seed's mAP (market); several seeds have their standard deviation."""
    between = each.scored[0].intervals.get("map_market") if len(each.scored) == 1 else None
    return "–".join(f"{100 * end:.1f}" for end in between) if between else ""


def _best(rows: Sequence[Combination], score: str) -> list[int]:
    """Return the rows with the best score of their track, where there is more than one to compare."""
    tracks: dict[str, dict[int, float]] = {}
    for row, each in enumerate(rows):
        if each.scored:
            tracks.setdefault(each.first.track, {})[row] = _mean(run.scores[score] for run in each.scored)
    return [
        row
        for scores in tracks.values()
        for row, value in scores.items()
        if len(scores) > 1 and value == shown_scores()[score].best(scores.values())
    ]


def _mean(values: Iterable[float]) -> float:
    return mean_and_sd(values)[0]


def _percent(each: Combination, score: str) -> str:
    if not each.scored:
        return NOTHING
    mean, sd = mean_and_sd(run.scores[score] for run in each.scored)
    return f"{100 * mean:.2f}" if sd is None else f"{100 * mean:.2f} ±{100 * sd:.2f}"


def _seeds(each: Combination) -> str:
    scored, runs = len(each.scored), len(each.runs)
    return str(runs) if scored == runs else f"{scored} of {runs}"


def _seconds(each: Combination) -> float | None:
    if each.untrained or not each.scored:
        return None
    return _mean(run.seconds["train"] for run in each.scored)


def _training(each: Combination) -> str:
    seconds = _seconds(each)
    if seconds is None:
        return NOTHING
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _about(rows: Sequence[Combination]) -> str:
    """Return the protocol with its version and what was scored, as one line."""
    first = rows[0].first
    name = f"Protocol {first.items['protocol'].short}, version {first.evaluation.version}"
    scored = next((each.scored[0].scores for each in rows if each.scored), None)
    several = any(len(each.scored) > 1 for each in rows)
    spread = ", mean ± standard deviation over seeds" if several else ""
    if scored is None:
        return f"{name}: no run has a score."
    return (
        f"{name}: {scored['queries']:,.0f} queries × {scored['gallery']:,.0f} gallery items, "
        f"{scored['unmatched']:,.0f} unmatched; scores in percent{spread}."
    )


def _footnotes(runs: Sequence[Combination]) -> list[str]:
    """Return what the marks in the table mean, each said once and only where it is used."""
    notes = []
    if any(STANDIN in _marks(run) for run in runs):
        notes.append(f"{STANDIN} stand-in data: not the published file lists, so not comparable with published scores.")
    notes += dict.fromkeys(_unfaithful(run.first) for run in runs if UNFAITHFUL in _marks(run))
    return notes


def _unfaithful(run: RunRecord) -> str:
    recipe, steps = run.items["recipe"].short, run.recipe.steps
    text = f"{UNFAITHFUL} not a paper's training: {recipe} trains {steps:,} steps"
    if steps != PAPER_STEPS:
        text += f", not the {PAPER_STEPS:,} of {PAPER}"
    others = [deviation for deviation in run.deviations if deviation != f"recipe {recipe}"]
    return f"{text} ({'; '.join(others)})." if others else f"{text}."


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Table]]:
    return {"table": Table}
