"""The figures of a study's page, each narrow enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from reidbench import Column
from reidbench_reports.drawing import COLOURS, GREY, RIGHT, WRONG, bare, canvas, plain

if TYPE_CHECKING:
    from reidbench import Comparison, LossResult, LossScores, Trial

BEST, OTHER = RIGHT, COLOURS[0]
WIDTH = 5.2  # inches
MOST_WITH_TEXT = 10  # losses with numbers in the cells of their matrix and names in a cloud of points
LONGEST_NAME = 24  # characters of a loss beside its row
LOG_FROM = 20  # the ratio of the greatest and the smallest value from which an axis is logarithmic


def scores(comparison: Comparison) -> Figure:
    """Return the losses by score: seeds as dots, means as strokes, the means of the default options as diamonds."""
    figure, axes = _rows("Final seeds, their mean, and the mean at default options", "score, %", comparison.losses)
    for row, loss in enumerate(comparison.losses):
        axes.plot([100 * score for score in loss.scores], [row] * len(loss.scores), "o", color=_colour(loss), alpha=0.6)
        axes.plot([100 * loss.mean], [row], "|", color=_colour(loss), markersize=16, markeredgewidth=2.5)
        if loss.name in comparison.gains:
            default = 100 * (loss.mean - comparison.gains[loss.name].difference)
            axes.plot([default], [row], "D", color=_colour(loss), markerfacecolor="none", markersize=6)
    used = set(map(_colour, comparison.losses))
    for colour, label in ((BEST, "may be the best (95 %)"), (OTHER, "not in that set"), (GREY, "not compared")):
        if colour in used:
            axes.plot([], [], "o", color=colour, label=label)
    if comparison.gains:
        axes.plot([], [], "D", color=OTHER, markerfacecolor="none", label="default options")
    _legend(figure)
    return figure


def differences(comparison: Comparison) -> Figure:
    """Return the difference of each compared loss to the one with the highest mean, with its interval by itself."""
    top = comparison.compared[0].name
    caption = f"Difference to {top}, with the 95 % interval by itself"
    figure, axes = _rows(caption, "difference, points", comparison.compared)
    pairs = {pair.b: pair for pair in comparison.pairs if pair.a == top}  # the highest is a in each of its pairs
    axes.axvline(0, color="black", linewidth=0.8)
    for row, loss in enumerate(comparison.compared[1:], start=1):
        pair = pairs[loss.name]
        axes.errorbar(-100 * pair.difference, row, xerr=100 * pair.half, fmt="o", color=_colour(loss), capsize=3)
    return figure


def matrix(comparison: Comparison) -> Figure:
    """Return the matrix of all pairs: green where the loss of the row is better, red where it is worse."""
    losses = comparison.compared
    figure, axes = _rows("All pairs: difference of the row to the column, points", "", losses, 2.5)
    places = {loss.name: place for place, loss in enumerate(losses)}
    few = len(losses) <= MOST_WITH_TEXT
    for pair in comparison.pairs:
        x, y, points = places[pair.b], places[pair.a], 100 * pair.difference
        for column, row, verdict, number in ((x, y, 1, points), (y, x, -1, -points)):
            better = verdict * {"better": 1, "worse": -1}.get(pair.verdict, 0)
            if better:
                edges = [column - 0.5, column + 0.5]
                colour = RIGHT if better > 0 else WRONG
                axes.fill_between(edges, row - 0.5, row + 0.5, color=colour, alpha=0.45, linewidth=0)
            text = f"{number:+.1f}" if few else ("−", "", "+")[better + 1]
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if few else 5)
    axes.set_xticks(range(len(losses)), [plain(loss.name, LONGEST_NAME) for loss in losses], rotation=90)
    axes.set_xlim(-0.5, len(losses) - 0.5)
    axes.grid(visible=False)
    return figure


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which durations up to one of ``seconds`` are shown, and its length in seconds."""
    return ("hours", 3600) if seconds >= 2 * 3600 else ("minutes", 60) if seconds >= 2 * 60 else ("seconds", 1)


def curves(by_loss: Mapping[str, Any], seconds: Mapping[str, float]) -> Iterator[Figure]:
    """Yield the expected best validation scores [T] of each loss by trials and by time; ``seconds`` are of a trial."""
    time, size = time_unit(max(seconds[name] * len(by_loss[name]) for name in by_loss))
    for by_time, unit in ((False, "trials"), (True, time)):
        caption = f"Expected best validation score after so many {unit}"
        figure = canvas(caption, WIDTH, 3.0 + 0.16 * min(len(by_loss), 9))
        axes = bare(figure.subplots(), x=f"{unit} of one search", y="validation score, %")
        for number, name in enumerate(sorted(by_loss, key=lambda name: -by_loss[name][-1])):
            x = np.arange(1, len(by_loss[name]) + 1) * (seconds[name] / size if by_time else 1)
            colour = COLOURS[number] if number < len(COLOURS) else GREY
            label = plain(name) if number < len(COLOURS) else "others" if number == len(COLOURS) else ""
            axes.plot(x, 100 * by_loss[name], color=colour, marker=".", label=label)
        if not by_time:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure)
        yield figure


def option(result: LossResult, name: str, points: Sequence[tuple[Any, Trial]]) -> Figure:
    """Return the validation score against the value of one searched option; the searches' choices are filled."""
    figure = canvas(f"{result.loss}: {name}", WIDTH, 2.6)
    axes = bare(figure.subplots(), x=name, y="validation score, %")
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in points)
    points = sorted(((value if numeric else str(value), trial) for value, trial in points), key=itemgetter(0))
    for label, chosen, fill in (("chosen by its search", True, OTHER), ("other trials", False, "none")):
        shown = [(value, 100 * trial.score) for value, trial in points if (trial in result.winners) == chosen]
        x, y = [value for value, _ in shown], [score for _, score in shown]
        axes.plot(x, y, "o", color=OTHER, markerfacecolor=fill, markersize=5, label=label)
    given = [100 * trial.score for trial in result.trials if trial.number == 1]
    axes.axhline(float(np.mean(given)), color=GREY, linestyle="--", linewidth=1, label="options as given, mean")
    values = [value for value, _ in points]
    if numeric and min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(figure, 3)
    return figure


def cost(rows: Sequence[Mapping[str, Any]], column: Column) -> Figure:
    """Return the mean score against a column of costs; many losses have numbers, those of the table's rows."""
    figure = canvas(f"Score against {column.heading}", WIDTH, 3.2)
    axes = bare(figure.subplots(), x=column.heading, y="mean score, %")
    for number, row in enumerate(rows, start=1):
        place = (row[column.key], row["score"])
        axes.plot(*place, "o", color=OTHER, markersize=5)
        text = plain(row["loss"], LONGEST_NAME) if len(rows) <= MOST_WITH_TEXT else str(number)
        above = (4, 4 - 13 * (number % 2))  # neighbours in score are labelled above and below
        axes.annotate(text, place, xytext=above, textcoords="offset points", fontsize=8)
    axes.margins(x=0.2, y=0.1)
    return figure


def _rows(caption: str, x: str, losses: Sequence[LossScores], least: float = 0.0) -> tuple[Figure, Axes]:
    """Return a figure of at least ``least`` inches with a row for each loss, the first at the top."""
    figure = canvas(caption, WIDTH, 1.2 + max(least, 0.28 * len(losses)))
    axes = bare(figure.subplots(), x=x)
    axes.set_yticks(range(len(losses)), [plain(loss.name, LONGEST_NAME) for loss in losses])
    axes.set_ylim(len(losses) - 0.5, -0.5)
    return figure, axes


def _colour(loss: LossScores) -> str:
    return GREY if loss.outside else BEST if loss.may_be_best else OTHER


def _legend(figure: Figure, columns: int = 1) -> None:
    figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=columns)
