"""What a record says beside its scores and ids: what was asked for, intervals, and the matrix of cameras."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Literal

from reidbench.errors import OptionError
from reidbench.plugins.catalogue import part_names
from reidbench.plugins.spec import Item, Spec, Value, write_value
from reidbench.ranking.scores import HEADLINE, scores_at
from reidbench.runs.record import CameraMatrix, RunRecord
from reidbench.utils.machine import AUTO

# What is wrong: the field of the record, and a clause that says it of the field.
Fault = tuple[str, str]

# In which words an item is written: as it was asked for, as it enters ids, or with what is no default alone.
_Wording = Literal["job", "identity", "short"]

_ASKED = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")
_MAY_BE_AUTO = {"recipe", "metric"}
_ROUNDING = 1e-6


def wrong_requests(record: RunRecord) -> Iterator[Fault]:
    """Yield where the items are not what the job asks for, or the other ways in which an item is written are not it.

    Defaults are not looked at: a plugin's next version may have others.
    """
    for kind in _ASKED:
        item, text = record.items[kind], str(getattr(record.job, kind))
        if item.given != text:
            yield f"items.{kind}.given", f"is {item.given!r:.80}, but the job says {text!r:.80}"
        try:
            found = Spec.parse(item.spec)
        except OptionError:  # said elsewhere
            continue
        written: dict[str, tuple[_Wording, str]] = {
            f"items.{kind}.short": ("short", item.short),
            f"items.{kind}.identity": ("identity", item.identity or item.spec),
        }
        if kind not in _MAY_BE_AUTO or text != AUTO:
            written[f"job.{kind}"] = "job", text
        for field, (wording, other) in written.items():
            try:
                same = _says(Spec.parse(other), found, wording, item.origins)
            except OptionError as error:
                yield field, f"cannot be used: {error}"
            else:
                if not same:
                    yield field, f"is {other!r:.80}, but the run's {kind} is {item.spec!r:.200}"


def _says(said: Spec, resolved: Spec, wording: _Wording, origins: Mapping[str, str]) -> bool:
    """Say whether one spec gives options of another alone, all that its wording has to, with the same values."""
    if len(said.terms) != len(resolved.terms):
        return False
    names = part_names([term.item.name for term in resolved.terms])
    for part, term, whole in zip(names, said.terms, resolved.terms, strict=True):
        options, known = dict(term.item.options), dict(whole.item.options)
        if (term.weight, term.item.name) != (whole.weight, whole.item.name) or not options.keys() <= known.keys():
            return False
        prefix = f"{part}." if len(names) > 1 else ""
        given = {name for name in known if origins.get(prefix + name) == "given"}
        needed = {"job": given, "identity": known.keys(), "short": set()}[wording]
        if not needed <= options.keys():
            return False
        if not all(_same(value, known[name], wording) for name, value in options.items()):
            return False
    return True


def _same(one: Value, other: Value, wording: _Wording) -> bool:
    """Say whether two values are one: 1 is 1.0, an item is its text.

    A file is named by its path, in a short text by its name, and in what enters ids by its digest; what it is here is
    not known, so any text with a folder or a suffix may name one.
    """
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_same(*pair, wording) for pair in zip(one, other, strict=True))
    one, other = _plain(one), _plain(other)
    if isinstance(one, str) and isinstance(other, str):
        path = PurePath(other)
        may_be_file = len(path.parts) > 1 or path.suffix != ""
        if one == other or not may_be_file:
            return one == other
        if wording == "identity":
            return re.fullmatch("sha256:[0-9a-f]{64}", one) is not None
        return PurePath(one) == (path if wording == "job" else PurePath(path.name))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _plain(value: Value) -> Value:
    if isinstance(value, Item):
        return write_value(value)
    return "none" if value is None else value


def wrong_intervals(record: RunRecord) -> Iterator[Fault]:
    """Yield what cannot be the intervals of a run's scores; queries of a single identity have none."""
    identities = record.dataset.counts.get("query_identities")
    if identities is None or identities < 1:
        yield "dataset.counts.query_identities", f"must be 1 or more, got {identities!r:.80}"
        return
    expected = {name for name, each in scores_at().items() if each.with_interval and identities > 1}
    if record.intervals.keys() != expected:
        names, given = (", ".join(sorted(each)) or "none" for each in (expected, record.intervals))
        yield "intervals", f"must be those of {names}, got {given:.80}"
        return
    for name, between in record.intervals.items():
        score = record.scores.get(name, -1.0)
        bounds = [0.0, *between, 1.0]
        around = len(between) == 2 and between[0] - _ROUNDING <= score <= between[1] + _ROUNDING
        if not around or any(low > high + _ROUNDING for low, high in itertools.pairwise(bounds)):
            yield (
                f"intervals.{name}",
                f"must be [low, high] around the score {score!r}, from 0 to 1, got {between!r:.80}",
            )


def wrong_cameras(cameras: CameraMatrix, scores: Mapping[str, float]) -> Iterator[Fault]:
    """Yield what cannot be the matrix of scores for each pair of cameras."""
    names = cameras.cameras
    if not names or names != sorted({*names}):
        yield "cameras.cameras", f"must be the rising numbers of the cameras, got {names!r:.80}"
        return
    for name in ("queries", *HEADLINE):
        if [len(row) for row in getattr(cameras, name)] != [len(names)] * len(names):
            yield f"cameras.{name}", f"must be {len(names)} rows of {len(names)}, one of each camera"
            return
    counts = list(itertools.chain(*cameras.queries))
    if any(count < 0 for count in counts):
        yield "cameras.queries", "must be counts"
        return
    if sum(map(max, cameras.queries)) > scores.get("queries", 0):
        yield "cameras.queries", f"holds more queries than the {scores.get('queries')!r:.20} that were asked"
    for name in HEADLINE:
        for count, value in zip(counts, itertools.chain(*getattr(cameras, name)), strict=True):
            if not _can_be_mean(value, count, of_hits=name == "r1"):
                yield f"cameras.{name}", f"cannot be {value!r:.40} where {count} queries have a match"
                break


def _can_be_mean(value: float | None, count: int, *, of_hits: bool) -> bool:
    """Say whether a value can be the mean over ``count`` queries, each a hit or none, or a fraction."""
    if count == 0 or value is None:
        return count == 0 and value is None
    return 0.0 <= value <= 1.0 and (not of_hits or abs(value * count - round(value * count)) < _ROUNDING)
