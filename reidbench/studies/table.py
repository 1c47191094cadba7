"""The comparison of a study's final runs, and its table with the sentences below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reidbench.errors import DataError
from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import named_score
from reidbench.reports.compare_runs import identities_of, same_matches
from reidbench.reports.sections import Part
from reidbench.reports.table import MISSING, Column, Row, Table
from reidbench.studies.comparison import Comparison, LossScores, Pair, compare
from reidbench.studies.study import NONE, Final, LossResult, Study, StudyResult
from reidbench.studies.wording import notes
from reidbench.utils.arrays import FloatArray

_MEANINGS = {
    "mean": "mean ± standard deviation over the final seeds",
    "place": "the best and the worst place that the matrix of all pairs allows",
    "best": "the set of yes holds the best loss in 95 % of studies; no says less than that another loss is better",
    "difference": "in points, with the 95 % interval by itself",
}


def compare_study(result: StudyResult) -> Comparison:
    """Return the comparison of a study's losses, from the rankings of its final runs and the score of its protocol.

    ``none`` is listed and not compared; so is a loss with a final run that failed, collapsed or learned nothing.
    Raises DataError where no run has scores, or rankings are missing, damaged, or of other queries than the first.
    """
    rankings = {final.folder: read_ranking(final.folder) for each in result.losses
                for final in (*each.finals, *each.defaults) if final.record.scored}  # fmt: skip
    if not rankings:
        raise DataError(f"{result.folder}: no final run of this study has scores; its trainings failed")
    first = next(iter(rankings))
    for folder, ranking in rankings.items():
        if not same_matches(rankings[first], ranking):
            raise DataError(f"{folder}: has other queries or positives than {first}; only the same can be compared")
    pids = identities_of(rankings[first])

    def values(finals: Sequence[Final]) -> FloatArray:
        """Return the values [seeds, queries] of the score that the protocol ranks by."""
        scored = [(final.record.evaluation.primary, rankings[final.folder]) for final in finals if final.record.scored]
        return np.array([named_score(name).per_query(ranking) for name, ranking in scored]).reshape(-1, len(pids))

    tuned = [each for each in result.losses if each.winners and not _untuned(each)]
    return compare(
        {each.loss: values(each.finals) for each in result.losses},
        pids,
        against=result.study.against,
        collapsed={each.loss: sum(final.flawed for final in each.finals) for each in result.losses},
        outside=(NONE,),
        defaults={
            each.loss: values(each.defaults) for each in tuned if not any(final.flawed for final in each.defaults)
        },
    )


def study_part(result: StudyResult, comparison: Comparison) -> Part:
    """Return the study's table, one row a loss, the highest mean first, and its notes.

    Without a measured time, so that an interrupted study prints the same. Values are fractions.
    """
    study = result.study
    rows = [_row(scores, comparison, study.against) for scores in comparison.losses]
    primary = next(final.record.evaluation.primary for each in result.losses for final in each.finals)
    columns = [
        Column("loss"),
        Column("mean", f"{named_score(primary).label}, %", "number", _mean_and_sd, description=_MEANINGS["mean"]),
    ]
    if comparison.claims:
        columns.append(Column("best_place", "place", "number", _places, description=_MEANINGS["place"]))
        columns.append(Column("may_be_best", "may be best", description=_MEANINGS["best"]))
    if comparison.gains:
        columns.append(_difference_column("gain", "tuned−default"))
    if comparison.against:
        columns += [_difference_column("against", "loss−reference"), Column("verdict", "than reference")]
    own_notes = [f"{each.loss}: {note}" for each in result.losses for note in each.notes]
    same = [f"{each.loss}: every search chose the options as given." for each in result.losses if _untuned(each)]
    return Part(
        f"Study of {study.protocol}, {study.backbone}, {study.recipe}",
        [Table(rows, columns, f"{study.seeds} seeds, {_tuning(study)}")],
        notes=[*notes(comparison, study), *result.notes, *own_notes, *same],
    )


def _untuned(result: LossResult) -> bool:
    """Return whether the tuned runs of a loss are those with the options as given."""
    return bool(result.winners) and {each.folder for each in result.finals} == {each.folder for each in result.defaults}


def _tuning(study: Study) -> str:
    if not study.trials:
        return "options as given"
    own = f"each with a search of its own of {study.trials} trials"
    return own if study.searches > 1 else f"with one search of {study.trials} trials for all"


def _row(scores: LossScores, comparison: Comparison, reference: str | None) -> dict[str, Any]:
    best, worst = scores.places or (None, None)
    may_be = "not compared" if scores.outside else "yes" if scores.may_be_best else "no"
    row = {"loss": scores.name, "mean": scores.mean, "sd": scores.sd, "seeds": len(scores.scores)}
    row |= {"best_place": best, "worst_place": worst, "may_be_best": may_be}
    row |= _difference("gain", comparison.gains.get(scores.name))
    against = comparison.against.get(scores.name)
    row |= _difference("against", against)
    return row | {"verdict": against.verdict if against else "reference" if scores.name == reference else ""}


def _difference(key: str, pair: Pair | None) -> dict[str, float | None]:
    low, high = pair.interval if pair else (None, None)
    return {key: pair.difference if pair else None, f"{key}_low": low, f"{key}_high": high}


def _difference_column(key: str, label: str) -> Column:
    def cell(row: Row) -> str:
        if row[key] is None:
            return MISSING
        return f"{100 * row[key]:+.2f} ({100 * row[f'{key}_low']:+.2f} to {100 * row[f'{key}_high']:+.2f})"

    return Column(key, label, "number", cell, description=_MEANINGS["difference"])


def _mean_and_sd(row: Row) -> str:
    if not row["seeds"]:
        return MISSING
    return f"{100 * row['mean']:.2f}" + (f" ±{100 * row['sd']:.2f}" if row["sd"] is not None else "")


def _places(row: Row) -> str:
    if row["best_place"] is None:
        return MISSING
    return "–".join(dict.fromkeys((str(row["best_place"]), str(row["worst_place"]))))
