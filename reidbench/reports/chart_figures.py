"""Charts as matplotlib figures, for files and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from reidbench.reports.charts import COLOURS, Chart, method_colours, series_styles
from reidbench.reports.table import one_line

_STYLE = Path(__file__).with_name("charts.mplstyle")
_DASHES, _MARKERS = ("-", "--", ":", "-."), "os^D"  # of the series of one method, in their order
_MOST_NAMED = 12  # points with their names beside them
_MOST_CELLS = 16  # cells of a row with room for their texts


def chart_figure(chart: Chart, colours: Mapping[str, str] | None = None) -> Figure:
    """Return the figure of a chart; ``colours`` of methods are those of all charts that are shown together."""
    rows = len(chart.series) if chart.kind in ("intervals", "heatmap") else 0
    styles = list(series_styles(chart, method_colours([chart]) if colours is None else colours))
    with rc_context(fname=_STYLE):
        figure = Figure(figsize=(7, 1.1 + 0.32 * rows if rows else 4.2), label=_text(chart.title, 200))
        axes = figure.subplots()
        axes.set(title=_labels([chart.title], 90)[0], xlabel=_text(chart.x), ylabel=_text(chart.y))
        axes.set(**{f"{axis}scale": "log" for axis in chart.log})
        for axis in [getattr(axes, f"{name}axis") for name in chart.log]:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        if chart.kind == "heatmap":
            _cells(axes, chart)
        for row, (series, colour, _) in enumerate(styles if chart.kind == "intervals" else ()):
            axes.plot(_numbers(series.x), [row] * len(series.x), "o", color=colour, alpha=0.6)
            if len(series.x) > 1:
                axes.plot(np.nanmean(_numbers(series.x)), row, "|", color=colour, markersize=14, markeredgewidth=2.5)
            axes.hlines([row] * len(series.low), _numbers(series.low), _numbers(series.high), color=colour)
        for series, colour, number in sorted(styles, key=lambda style: not style[0].scaled) if not rows else ():
            if axes.lines and not series.scaled:
                axes.axis(axes.axis())  # limits that are set are not extended
            x: Any = series.x
            dashes, marker = (_DASHES[number], "") if chart.kind == "line" else ("", _MARKERS[number])
            axes.plot(x, _numbers(series.y), ls=dashes, marker=marker, color=colour, label=_text(series.name))
            if series.low:
                axes.fill_between(x, _numbers(series.low), _numbers(series.high), color=colour, alpha=0.14, linewidth=0)
            if chart.kind == "scatter" and len(series.x) == 1 and len(styles) <= _MOST_NAMED:
                name, place = _text([*series.labels, series.name][0]), (series.x[0], series.y[0])
                axes.annotate(name, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
        if all(isinstance(x, int) for series in chart.series for x in series.x) and "x" not in chart.log:
            axes.locator_params(axis="x", integer=True)
        if rows:
            axes.set_yticks(range(rows), _labels([series.name for series in chart.series], 44))
            axes.set_ylim(rows - 0.5, -0.5)
        elif len(styles) > 1:
            figure.legend(loc="outside lower left", ncols=2)
    return figure


def _cells(axes: Axes, chart: Chart) -> None:
    """Draw cells of one hue above 0 and of another below, the paler the nearer to 0, with their numbers or labels."""
    values = np.array([series.y for series in chart.series], dtype=float)
    shades = 0.7 * np.nan_to_num(np.abs(values) / (np.nanmax(np.abs(values), initial=0.0) or 1.0))
    hues = np.where(values[..., None] < 0, to_rgb(COLOURS[1]), to_rgb(COLOURS[0]))
    axes.imshow(np.dstack([hues, shades]), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = chart.series[row].labels[column] if chart.series[row].labels else f"{value:.3g}"
            text = text if values.shape[1] <= _MOST_CELLS else "*" * text.endswith("*")
            axes.text(column, row, _text(text), ha="center", va="center", fontsize=8)
    names = _labels(list(map(str, chart.series[0].x)), 30)
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 4 else 0)
    axes.grid(visible=False)


def _numbers(values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=float)  # None is not a number


def _labels(names: Sequence[str], longest: int) -> list[str]:
    """Return names as texts, all cut at one place: the nearest to the middle where they stay distinct, if there is."""
    lines = labels = list(map(one_line, names))
    for start in sorted(range(longest), key=lambda start: abs(start - longest // 2)):
        tail = longest - 1 - start
        labels = [line if len(line) <= longest else f"{line[:start]}…{line[len(line) - tail :]}" for line in lines]
        if len(set(labels)) == len(set(lines)):
            break
    return [_text(label, longest) for label in labels]


def _text(text: str, longest: int = 60) -> str:
    """Return a text on one line, shortened, without a dollar that begins maths; a backslash before it is not shown."""
    line = one_line(text)
    return (line if len(line) <= longest else f"{line[: longest - 1]}…").replace("$", r"\$")
