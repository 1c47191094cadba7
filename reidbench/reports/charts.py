"""Charts as values, which pages draw with Vega-Lite, files and notebooks with matplotlib.

The colour of a method follows from its name, so that it is the same on every page and in every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reidbench.errors import PluginError, check_fields
from reidbench.reports.table import is_missing

# Each has a contrast of 3:1 or more on white and on a dark page.
COLOURS = ("#3b82c4", "#d9730d", "#2f9e6e", "#c2498f", "#8b6fd1", "#a8852b", "#1f9db3", "#d2504f")
GREY = "#8a8f98"
LOOKS = 4  # dashes of lines, and shapes of points
_SALT = b"reidbench 491"  # with which the most used losses have eight different colours


@dataclass(frozen=True)
class Series:
    """One line, row or group of points of a chart, most often one method; numbers may be NumPy's, None is a gap.

    ``name``: its name in the legend and in the data, unique in the chart.
    ``x``: numbers; texts are categories.
    ``y``: a number for each x; empty for intervals.
    ``low``, ``high``: the ends of a band around y; of intervals, one number each.
    ``labels``: a text for each x, shown beside the values; in a cell that is too narrow, a star at its end alone.
    ``method``: the name that decides the colour, by default ``name``; grey if empty.
    ``scaled``: whether its values extend the axes; a control far away from the others need not.
    """

    name: str
    x: Sequence[float | str | None]
    y: Sequence[float | None] = ()
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    labels: Sequence[str] = ()
    method: str | None = None
    scaled: bool = True

    def __post_init__(self) -> None:
        for name in ("x", "y", "low", "high"):
            object.__setattr__(self, name, list(map(_plain, getattr(self, name))))


@dataclass(frozen=True)
class Chart:
    """A chart of a report.

    ``kind``: "line"; "scatter"; "intervals", a row for each series with its x as dots, their mean and the interval from
    low to high; or "heatmap", a row of cells for each series, y by the same x.
    ``title``: its caption.
    ``series``: in the order of the legend, or of the rows from the top.
    ``x``, ``y``: what the axes show, with the unit.
    ``log``: the logarithmic axes: "", "x", "y" or "xy".
    """

    kind: Literal["line", "scatter", "intervals", "heatmap"]
    title: str
    series: Sequence[Series]
    x: str = ""
    y: str = ""
    log: Literal["", "x", "y", "xy"] = ""


def check_chart(owner: str, chart: Chart) -> None:
    """Raise PluginError, naming the owner and the series, where a chart holds what cannot be drawn."""
    check_fields(owner, chart)
    if len(names := [series.name for series in chart.series]) != len(set(names)) or not names:
        raise PluginError(f"{owner}: chart {chart.title!r}: series must have distinct names, got {names}")
    for series in chart.series:
        where = f"{owner}: chart {chart.title!r}: series {series.name!r}"
        check_fields(where, series)
        n = len(series.x)
        allowed = {"y": (n,), "low": (0, n), "high": (len(series.low),), "labels": (0, n)}
        allowed |= {"y": (0,), "low": (0, 1)} if chart.kind == "intervals" else {}
        for name, lengths in allowed.items():
            if (count := len(getattr(series, name))) not in lengths:
                raise PluginError(f"{where}: {name} must have {lengths[-1]} values as x has, got {count}")
        if chart.kind == "heatmap" and series.x != chart.series[0].x:
            raise PluginError(f"{where}: x must be that of the first series, {chart.series[0].x}, got {series.x}")
        for axis in chart.log:
            ends = (*series.low, *series.high) if axis == "y" or chart.kind == "intervals" else ()
            if any(isinstance(value, int | float) and value <= 0 for value in (*getattr(series, axis), *ends)):
                raise PluginError(f"{where}: {axis} must be above 0 for a logarithmic axis")


def method_colours(charts: Iterable[Chart]) -> dict[str, str]:
    """Return the colours of the first eight methods of the charts of a page; all others are grey.

    A method has the colour at the place that its name hashes to. Of two with one place, the first in the alphabet has
    it, and the other the next colour that no method has, whatever the order of the series.
    """
    series = [each for chart in charts if chart.kind != "heatmap" for each in chart.series]
    methods = sorted(list(dict.fromkeys(filter(None, map(_method, series))))[: len(COLOURS)])
    hashes = [hashlib.blake2b(method.encode(), key=_SALT, digest_size=4).digest()[0] for method in methods]
    owners = {number % len(COLOURS): method for number, method in reversed([*zip(hashes, methods, strict=True)])}
    colours = {method: COLOURS[place] for place, method in owners.items()}
    free = [colour for colour in COLOURS if colour not in colours.values()]
    return colours | dict(zip((method for method in methods if method not in colours), free, strict=False))


def series_styles(chart: Chart, colours: Mapping[str, str]) -> Iterator[tuple[Series, str, int]]:
    """Yield each series with its colour and the number of its dashes: those of one method differ in these."""
    used: dict[str, int] = {}
    for series in chart.series:
        method = _method(series)
        yield series, colours.get(method, GREY), used.setdefault(method, 0) % LOOKS
        used[method] += 1


def _method(series: Series) -> str:
    return series.name if series.method is None else series.method


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if is_missing(value) else value
