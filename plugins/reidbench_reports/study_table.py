"""The section ``study_table``: a study's losses by score, and the sentences on them."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from reidbench import Column, Part, Table, named_score
from reidbench_reports.study_wording import notes
from reidbench_reports.table import STANDIN, UNFAITHFUL, footnotes

if TYPE_CHECKING:
    from reidbench import Comparison, LossScores, Pair, RunRecord, Study, StudyFiles

MEAN = "mean ± standard deviation over the final seeds"
PLACE = "the best and the worst place that the matrix of all pairs allows"
BEST = "the set of yes holds the best loss in 95 % of studies; no says less than that another loss is better"
DIFFERENCE = "in points, with the 95 % interval by itself"


def fill_table(part: Part, files: StudyFiles) -> None:
    """Add the study's table, one row a loss, the highest mean first, and its notes; scores are fractions.

    Without a measured time, so that an interrupted study prints the same.
    """
    result, comparison = files.result, files.comparison
    study, primary = result.study, files.records[0].evaluation.primary
    columns = [Column("loss"), Column("mean", f"{named_score(primary).label}, %", "number", _mean, 0, MEAN)]
    if comparison.claims:
        columns.append(Column("best_place", "place", "number", _places, 0, PLACE))
        columns.append(Column("may_be_best", "may be best", description=BEST))
    if comparison.gains:
        columns.append(Column("gain", "tuned−default", "number", itemgetter("gain_text"), 0, DIFFERENCE))
    rows = [_row(scores, comparison) for scores in comparison.losses]
    part.tables.append(Table(rows, columns, _title(files)))
    if comparison.against:  # a family of its own, and a table that is too wide for a terminal would break its words
        columns = [
            Column("loss"),
            Column("difference", "difference (95 %)", "number", itemgetter("text"), 0, DIFFERENCE),
        ]
        columns += [Column("verdict", description="within this family")] * comparison.claims
        rows = [
            {"loss": scores.name, "difference": pair.difference, "text": _interval(pair), "verdict": pair.verdict}
            for scores in comparison.losses
            if (pair := comparison.against.get(scores.name))
        ]
        families = "; intervals by themselves, verdicts within this family" * comparison.claims
        title = f"Difference to {study.against} (named beforehand), in points{families}"
        part.tables.append(Table(rows, columns, title))
    part.notes.extend([*notes(comparison, study), *footnotes(_as_given(files)), *result.notes])
    for each in result.losses:
        part.notes.extend(f"{each.loss}: {note}" for note in each.notes)
        if each.winners and [final.folder for final in each.finals] == [final.folder for final in each.defaults]:
            part.notes.append(f"{each.loss}: every search chose the options as given.")


def _as_given(files: StudyFiles) -> list[RunRecord]:
    """Return the records of the runs at the options as given, since searches give each seed others."""
    return [final.record for each in files.result.losses for final in each.defaults]


def _title(files: StudyFiles) -> str:
    """Return what all losses share, with the marks that the notes explain."""
    study, runs = files.result.study, _as_given(files)
    data = f"{study.protocol}{f' (stand-in data {STANDIN})' * any(run.standin for run in runs)}"
    unfaithful = any(run.items["loss"].spec != "none" and not run.faithful for run in runs)
    seeds = f"{study.seeds} seed{'s' * (study.seeds > 1)}"
    return f"{data}, {study.backbone}, {study.recipe}{f' {UNFAITHFUL}' * unfaithful}, {seeds}, {_tuning(study)}"


def _tuning(study: Study) -> str:
    if not study.trials:
        return "options as given"
    trials = f"{study.trials} trial{'s' * (study.trials > 1)}"
    return (
        f"each with a search of its own of {trials}" if study.searches > 1 else f"with one search of {trials} for all"
    )


def _row(scores: LossScores, comparison: Comparison) -> dict[str, Any]:
    best, worst = scores.places or (None, None)
    may_be = "not compared" if scores.outside else "yes" if scores.may_be_best else "no"
    row = {"loss": scores.name, "mean": scores.mean, "sd": scores.sd, "seeds": len(scores.scores)}
    row |= {"best_place": best, "worst_place": worst, "may_be_best": may_be}
    gain = comparison.gains.get(scores.name)
    return row | {"gain": gain and gain.difference, "gain_text": _interval(gain)}


def _interval(pair: Pair | None) -> str:
    if pair is None:
        return "–"
    low, high = pair.interval
    return f"{100 * pair.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def _mean(row: Mapping[str, Any]) -> str:
    if not row["seeds"]:
        return "–"
    return f"{100 * row['mean']:.2f}" + (f" ±{100 * row['sd']:.2f}" if row["sd"] is not None else "")


def _places(row: Mapping[str, Any]) -> str:
    if row["best_place"] is None:
        return "–"
    return "–".join(dict.fromkeys((str(row["best_place"]), str(row["worst_place"]))))
