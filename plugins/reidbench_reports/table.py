"""The table of scores: one row a combination, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reidbench import Part, RunRecord, hookimpl, mean_and_sd

SCORES = {
    "mAP (market)": "map_market",
    "mAP (step)": "map_step",
    "rank-1": "r1",
    "rank-5": "r5",
    "mINP": "minp",
}
INTERVAL = "95 %"
NOTHING = "–"
STANDIN, UNFAITHFUL, COLLAPSED = "†", "‡", "*"  # the star is the paper's, Table 1
PAPER, PAPER_STEPS = "Hermans et al. (2017)", 25_000


@dataclass(frozen=True)
class Combination:
    """The runs of one combination, one a seed; where none of them ended well, ``scored`` are the collapsed ones."""

    runs: tuple[RunRecord, ...]

    @property
    def scored(self) -> tuple[RunRecord, ...]:
        ended_well = tuple(run for run in self.runs if run.status == "ok")
        return ended_well or tuple(run for run in self.runs if run.scored)

    @property
    def first(self) -> RunRecord:
        return self.runs[0]

    @property
    def untrained(self) -> bool:
        return self.first.items["loss"].spec == "none"

    @property
    def marks(self) -> str:
        unfaithful = not self.untrained and not self.first.faithful
        collapsed = any(run.status == "collapsed" for run in self.runs)
        return STANDIN * self.first.standin + UNFAITHFUL * unfaithful + COLLAPSED * collapsed


class Table:
    """Scores of all combinations: mean ± standard deviation over seeds, in percent, the untrained network first.

    Rows of several protocols, versions or data sets stand below each other, those of one together, with the protocol's
    name; the best of each column is marked among rows that differ in nothing but the loss. The 95 % interval is that of
    mAP (market) over the queries' identities, where there is one seed. ``build(records, store)`` returns a Part; runs
    without a score are named in its notes.
    """

    def build(self, records: Sequence[RunRecord], store: object) -> Part:
        """Return the part for these records, rows in their order."""
        newest, superseded = _newest(records)
        boards: dict[tuple[object, ...], list[RunRecord]] = {}
        for record in newest:
            board = (record.items["protocol"].spec, record.evaluation["version"], record.dataset["digest"])
            boards.setdefault(board, []).append(record)
        listed = [_combinations(runs) for runs in boards.values()]
        tables = [_frame(listed)] if listed else []
        notes = [_about(combinations) for combinations in listed]
        notes += _footnotes([Combination((record,)) for record in newest])
        notes += [
            f"{COLLAPSED * (run.status == 'collapsed')}{run.items['loss'].short}, seed {run.job.seed}: {run.status}: "
            f"{run.error or 'no reason was recorded'}"
            for run in newest
            if run.status != "ok"
        ]
        if superseded:
            notes.append(f"Earlier runs of the same combination and seed, left out: {superseded}.")
        return Part(title="Scores", tables=tables, notes=notes)


def _newest(records: Sequence[RunRecord]) -> tuple[list[RunRecord], int]:
    """Return one record for each run, in the order given, and how many that leaves out.

    It is the last to finish, a failed one only where none has a score.
    """
    newest: dict[str, RunRecord] = {}
    for record in records:
        other = newest.get(record.id)
        if other is None or (record.scored, record.finished) > (other.scored, other.finished):
            newest[record.id] = record
    return list(newest.values()), len({(record.id, record.code, record.finished) for record in records}) - len(newest)


def _combinations(records: Sequence[RunRecord]) -> list[Combination]:
    """Return the records by combination, the untrained networks first, else in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    return sorted((Combination(tuple(runs)) for runs in groups.values()), key=lambda each: not each.untrained)


def _frame(boards: Sequence[Sequence[Combination]]) -> pd.DataFrame:
    """Return one row a combination, board by board."""
    combinations = [each for board in boards for each in board]
    reranked = any(each.first.items["rerank"].spec != "none" for each in combinations)
    kinds = ["protocol"] * (len(boards) > 1) + ["backbone", "recipe", "metric"] + ["rerank"] * reranked
    known = any(_interval(each) for each in combinations)
    rows = []
    for each in combinations:
        loss = each.first.items["loss"].short + " (untrained)" * each.untrained
        scores: dict[str, str] = {}
        for heading, score in SCORES.items():
            scores[heading] = _percent(each, score)
            if known and score == "map_market":
                scores[INTERVAL] = _interval(each)
        rows.append(
            {"loss": f"{loss} {each.marks}".strip()}
            | {kind: each.first.items[kind].short for kind in kinds}
            | scores
            | {"seeds": _seeds(each), "train time": _training(each)}
        )
    frame = pd.DataFrame(rows)
    starts = [sum(map(len, boards[:number])) for number in range(len(boards))]
    frame.attrs["best"] = {
        heading: [start + row for start, board in zip(starts, boards, strict=True) for row in _best(board, score)]
        for heading, score in SCORES.items()
    }
    return frame


def _interval(each: Combination) -> str:
    """Return the interval of a single seed's mAP (market); several seeds have their standard deviation."""
    between = each.scored[0].intervals.get("map_market") if len(each.scored) == 1 else None
    return "–".join(f"{100 * end:.1f}" for end in between) if between else ""


def _best(combinations: Sequence[Combination], score: str) -> list[int]:
    """Return the rows with the highest score of their track, where there is more than one to compare."""
    tracks: dict[str, dict[int, float]] = {}
    for row, each in enumerate(combinations):
        if each.scored:
            tracks.setdefault(each.first.track, {})[row] = _mean(run.scores[score] for run in each.scored)
    return [
        row
        for scores in tracks.values()
        for row, value in scores.items()
        if len(scores) > 1 and value == max(scores.values())
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


def _training(each: Combination) -> str:
    if each.untrained or not each.scored:
        return NOTHING
    seconds = _mean(run.seconds["train"] for run in each.scored)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _about(combinations: Sequence[Combination]) -> str:
    """Return the protocol with its version and what was scored, as one line."""
    first = combinations[0].first
    name = f"Protocol {first.items['protocol'].short}, version {first.evaluation['version']}"
    scored = next((each.scored[0].scores for each in combinations if each.scored), None)
    several = any(len(each.scored) > 1 for each in combinations)
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
    if any(STANDIN in run.marks for run in runs):
        notes.append(f"{STANDIN} stand-in data: not the published file lists, so not comparable with published scores.")
    notes += dict.fromkeys(_unfaithful(run.first) for run in runs if UNFAITHFUL in run.marks)
    return notes


def _unfaithful(run: RunRecord) -> str:
    recipe, steps = run.items["recipe"].short, int(run.recipe["steps"])
    text = f"{UNFAITHFUL} not a paper's training: {recipe} trains {steps:,} steps"
    if steps != PAPER_STEPS:
        text += f", not the {PAPER_STEPS:,} of {PAPER}"
    others = [deviation for deviation in run.deviations if deviation != f"recipe {recipe}"]
    return f"{text} ({'; '.join(others)})." if others else f"{text}."


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Table]]:
    return {"table": Table}
