"""The sections of a study: its table, seeds and pairs, validation scores, searched options, cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from reidbench import Column, Part, RunFiles, RunRecord, Spec, Table, hookimpl, mean_and_sd
from reidbench_reports import study_charts
from reidbench_reports.study_table import fill_table

if TYPE_CHECKING:
    from reidbench import StudyFiles, Trial

MOST_REMARKS = 5


class _StudySection(ABC):
    """A section that needs a study; ``title`` is its heading."""

    title = ""

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part, or one with a note where there is no study."""
        from reidbench import StudyFiles  # noqa: PLC0415 - only a study's page needs it

        part = Part(self.title)
        if isinstance(files, StudyFiles):
            self.fill(part, files)
        else:
            part.notes.append("This section is for the page of a study: reidbench study")
        return part

    @abstractmethod
    def fill(self, part: Part, study: StudyFiles) -> None:
        """Add charts, tables and notes."""


class StudyTable(_StudySection):
    """A study's losses by score: means, places, the set that may be the best, gains, and the sentences on them."""

    title = "Losses by score"

    def fill(self, part: Part, study: StudyFiles) -> None:
        fill_table(part, study)


class StudyPairs(_StudySection):
    """Seeds, means and intervals of a study's losses, and the matrix of all pairs."""

    title = "Seeds and pairs"

    def fill(self, part: Part, study: StudyFiles) -> None:
        comparison = study.comparison
        part.charts.append(study_charts.scores(comparison))
        if not comparison.pairs:
            return
        part.charts.append(study_charts.differences(comparison))
        if len(comparison.pairs) > 1:
            part.charts.append(study_charts.matrix(comparison))
        rows = []
        for pair in comparison.pairs:
            low, high = (100 * end for end in pair.interval)
            row = {"a": pair.a, "b": pair.b, "difference": 100 * pair.difference, "low": low, "high": high}
            rows.append(row | {"p": pair.p, "p_holm": pair.p_holm, "verdict": pair.verdict})
        columns = [Column("a"), Column("b"), Column("difference", "a−b, points", "number", "+.2f")]
        columns += [Column("low", "95 % from", "number", "+.2f"), Column("high", "to", "number", "+.2f")]
        if comparison.claims:
            for key, label in (("p", "p by itself"), ("p_holm", "p, Holm")):
                columns.append(Column(key, label, "number", partial(_p_value, key)))
            columns.append(Column("verdict", "a than b"))
        part.tables.append(Table(rows, columns, "All pairs"))


class StudySearch(_StudySection):
    """The expected best validation score after 1 … T trials and against time, and the chosen trials."""

    title = "Validation scores"

    def fill(self, part: Part, study: StudyFiles) -> None:
        losses = [each for each in study.result.losses if each.trials]
        if not losses:
            part.notes.append("Without trials there are no validation scores.")
            return
        curves = {each.loss: search_curve(each.trials) for each in losses}
        seconds = {each.loss: mean_and_sd(trial.seconds for trial in each.trials)[0] for each in losses}
        part.charts.extend(study_charts.curves(curves, seconds))
        part.notes.append(
            "The first trial has the options as given. From the second on: the expected best of so many trials, on "
            "average over all their orders and over the searches. Validation scores choose options, and are no gain."
        )
        part.notes.extend(order_changes(curves, seconds))
        rows = [
            {"loss": trial.loss, "search": trial.search, "trial": trial.number, "options": trial.loss_text,
             "recipe": trial.recipe_text, "metric": trial.metric, "score": 100 * trial.score}
            for each in losses for trial in each.winners
        ]  # fmt: skip
        columns = [Column(name) for name in ("loss", "options", "recipe", "metric")]
        columns[1:1] = [Column("search", kind="number"), Column("trial", kind="number")]
        columns.append(Column("score", "validation score, %", "number", ".2f"))
        part.tables.append(Table(rows, columns, "The trial that each search chose"))


class StudyOptions(_StudySection):
    """The validation score of every trial against the value of each searched option."""

    title = "Searched options"

    def fill(self, part: Part, study: StudyFiles) -> None:
        for each in study.result.losses:
            others = [(trial, spec_values(trial)) for trial in each.trials if trial.number > 1]
            for name in dict.fromkeys(name for _, values in others for name in values):
                points = [(values[name], trial) for trial, values in others if name in values]
                if len({value for value, _ in points}) > 1:  # what all trials share was not searched
                    part.charts.append(study_charts.option(each, name, points))
        if not part.charts:
            part.notes.append("No option was searched with two values.")


class StudyCost(_StudySection):
    """Score against training time and peak memory."""

    title = "Score against cost"

    def fill(self, part: Part, study: StudyFiles) -> None:
        by_loss = {each.loss: each for each in study.result.losses}
        rows: list[dict[str, Any]] = []
        for scores in study.comparison.losses:
            runs = [final.record for final in by_loss[scores.name].finals if final.record.scored]
            if runs:
                seconds = mean_and_sd(run.seconds["train"] for run in runs)[0]
                memory = max(run.peak_memory_mib for run in runs)
                rows.append({"loss": scores.name, "time": seconds, "memory": memory, "score": 100 * scores.mean})
        unit, size = study_charts.time_unit(max((row["time"] for row in rows), default=0.0))
        rows = [row | {"time": row["time"] / size} for row in rows]
        columns = [Column("loss"), Column("time", f"training of one seed, {unit}", "number", ".1f")]
        columns += [Column("memory", "peak memory, MiB", "number", ",.0f")]
        columns += [Column("score", "mean score, %", "number", ".2f")]
        part.charts.extend(study_charts.cost(rows, column) for column in columns[1:3])
        part.tables.append(Table(rows, columns))


def _p_value(key: str, row: Mapping[str, Any]) -> str:
    return f"{row[key]:.2g}" if row[key] >= 1e-4 else "<0.0001"


def search_curve(trials: Sequence[Trial]) -> Any:
    """Return the expected best validation score after 1 … T trials [T] float64, the mean over the searches.

    Trial 1, the options as given, always comes first; the others are alike, so all their orders count.
    """
    by_search: dict[int, list[float]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        by_search.setdefault(trial.search, []).append(trial.score)
    shortest = min(map(len, by_search.values()))
    curves = []
    for first, *others in by_search.values():
        curves.append([first, *expected_best([max(first, other) for other in others[: shortest - 1]])])
    return np.mean(curves, axis=0)


def expected_best(values: Sequence[float]) -> Any:
    """Return the expected best of k of the N ``values`` for k = 1 … N [N] float64, k of them taken at random.

    Source: Tang et al. 2020, Showing Your Work Doesn't Always Work.
    """
    from scipy.special import comb  # noqa: PLC0415 - only a study's page needs it

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    place = np.arange(len(ordered))
    weights = comb(place[None, :], place[:, None]) / comb(len(ordered), place + 1)[:, None]
    return weights @ ordered


def order_changes(curves: Mapping[str, Any], seconds: Mapping[str, float]) -> Iterator[str]:
    """Yield a remark for each pair of losses whose order depends on the budget; ``seconds`` are those of one trial."""
    within = min(seconds[name] * len(curve) for name, curve in curves.items())
    unit, size = study_charts.time_unit(within)
    at_time = {name: curve[max(int(within / seconds[name] + 1e-9), 1) - 1] for name, curve in curves.items()}
    remarks = []
    for pair in combinations(curves, 2):
        ahead, behind = sorted(pair, key=lambda name: -curves[name][-1])
        reversed_at = np.flatnonzero(curves[ahead] < curves[behind])
        if len(reversed_at):
            remarks.append(f"{ahead} is ahead of {behind} from {reversed_at[-1] + 2} trials on, not before.")
        elif at_time[ahead] < at_time[behind]:
            remarks.append(
                f"{ahead} is ahead of {behind} after equal trials, but not after {within / size:.2g} {unit} each."
            )
    yield from remarks[:MOST_REMARKS]
    if len(remarks) > MOST_REMARKS:
        yield f"The order of {len(remarks) - MOST_REMARKS} further pairs depends on the budget."


def spec_values(trial: Trial) -> dict[str, Any]:
    """Return the options in the specs of a trial by name, in sums "ITEM.option", and the weights of a sum."""
    values: dict[str, Any] = {}
    for text in (trial.recipe_text, trial.loss_text):
        terms = Spec.parse(text).terms
        for place, term in enumerate(terms, start=1):
            name = f"{term.item.name} (term {place})" if len(terms) > 1 else ""
            values |= {f"weight of {name}": term.weight} if name else {}
            values |= {f"{name}.{option}" if name else option: value for option, value in term.item.options}
    return values


@hookimpl
def register_sections() -> Mapping[str, Callable[..., _StudySection]]:
    return {
        "study_table": StudyTable,
        "study_pairs": StudyPairs,
        "study_search": StudySearch,
        "study_options": StudyOptions,
        "study_cost": StudyCost,
    }
