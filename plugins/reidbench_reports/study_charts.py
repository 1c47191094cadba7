"""The charts of a study's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from reidbench import Chart, Column, Series

if TYPE_CHECKING:
    from reidbench import Comparison, LossResult, LossScores, Trial

_LEGEND = "; ★ may be the best"
LOG_FROM = 20  # the ratio of the greatest and the smallest value from which an axis is logarithmic


def scores(comparison: Comparison) -> Chart:
    """Return the losses by score: final seeds and their mean, and below it the mean at default options."""
    rows = []
    for loss in comparison.losses:
        rows.append(
            Series(_name(loss), [100 * score for score in loss.scores], method="" if loss.outside else loss.name)
        )
        if gain := comparison.gains.get(loss.name):
            rows.append(Series(f"{loss.name}, default options", [100 * (loss.mean - gain.difference)], method=""))
    return Chart("intervals", f"Final seeds and their mean{_LEGEND * comparison.claims}", rows, "score, %")


def differences(comparison: Comparison) -> Chart:
    """Return the difference of each compared loss to the one with the highest mean, with its interval by itself."""
    top = comparison.compared[0].name
    pairs = {pair.b: pair for pair in comparison.pairs if pair.a == top}  # the highest is a in each of its pairs
    rows = []
    for loss in comparison.compared[1:]:
        high, low = (-100 * end for end in pairs[loss.name].interval)
        difference = -100 * pairs[loss.name].difference
        rows.append(Series(_name(loss), [difference], low=[low], high=[high], method=loss.name))
    title = f"Difference to {top}, with the 95 % interval by itself{_LEGEND * comparison.claims}"
    return Chart("intervals", title, rows, "difference, points")


def matrix(comparison: Comparison) -> Chart:
    """Return the matrix of all pairs, blue where the row is better; a star where the losses are told apart."""
    names = [loss.name for loss in comparison.compared]
    cells = {}
    for pair in comparison.pairs:
        star = "*" * (pair.verdict in ("better", "worse"))
        for row, column, points in ((pair.a, pair.b, 100 * pair.difference), (pair.b, pair.a, -100 * pair.difference)):
            cells[row, column] = points, f"{points:+.1f}{star}"
    series = []
    for row in names:
        y, labels = zip(*(cells.get((row, column), (None, "")) for column in names), strict=True)
        series.append(Series(row, names, y, labels=labels))
    return Chart("heatmap", "Row minus column in points; * told apart", series)


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which durations up to one of ``seconds`` are shown, and its length in seconds."""
    return ("hours", 3600) if seconds >= 2 * 3600 else ("minutes", 60) if seconds >= 2 * 60 else ("seconds", 1)


def curves(by_loss: Mapping[str, Any], seconds: Mapping[str, float]) -> Iterator[Chart]:
    """Yield the expected best validation scores [T] of each loss by trials and by time; ``seconds`` are of a trial."""
    time, size = time_unit(max(seconds[name] * len(by_loss[name]) for name in by_loss))
    names = sorted(by_loss, key=lambda name: -by_loss[name][-1])
    for by_time, unit in ((False, "trials"), (True, time)):
        lengths = {name: seconds[name] / size if by_time else 1 for name in names}
        lines = [
            Series(name, np.arange(1, len(by_loss[name]) + 1) * lengths[name], 100 * by_loss[name]) for name in names
        ]
        title = f"Expected best validation score after so many {unit}"
        yield Chart("line", title, lines, f"{unit} of one search", "validation score, %")


def option(result: LossResult, name: str, points: Sequence[tuple[Any, Trial]]) -> Chart:
    """Return the validation score against the value of one searched option, the searches' choices apart."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in points)
    points = sorted(((value if numeric else str(value), trial) for value, trial in points), key=itemgetter(0))
    series = []
    for label, chosen in (("chosen by its search", True), ("other trials", False)):
        shown = [(value, 100 * trial.score) for value, trial in points if (trial in result.winners) == chosen]
        x, y = [value for value, _ in shown], [score for _, score in shown]
        series.append(Series(label, x, y, method=result.loss))
    given = np.mean([100 * trial.score for trial in result.trials if trial.number == 1])
    values = [value for value, _ in points]
    log = "x" if numeric and min(values) > 0 and max(values) > LOG_FROM * min(values) else ""
    title = f"{result.loss}: {name} (options as given: {given:.2f} %)"
    return Chart("scatter", title, series, name, "validation score, %", log)


def cost(rows: Sequence[Mapping[str, Any]], column: Column) -> Chart:
    """Return the mean score against a column of costs."""
    points = [Series(row["loss"], [row[column.key]], [row["score"]]) for row in rows]
    return Chart("scatter", f"Score against {column.heading}", points, column.heading, "mean score, %")


def _name(loss: LossScores) -> str:
    """Return a loss's name with what the comparison says of it; a star in front survives a cut of the name."""
    return "★ " * loss.may_be_best + loss.name + " (not compared)" * bool(loss.outside)
