"""Show progress: a live line on a terminal, a line of text every 15 seconds in a log; durations in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
Update = Callable[[int, str], None]

LOG_SECONDS = 15.0

# Text about the whole call, from the name of a stage, its seconds so far and the fraction of it that is done.
Overall = Callable[[str, float, float], str]
_overall: list[Overall] = []


@contextmanager
def overall_progress(describe: Overall) -> Iterator[None]:
    """Append what ``describe`` returns to every progress line of the block."""
    _overall.append(describe)
    try:
        yield
    finally:
        _overall.pop()


@contextmanager
def progress(description: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Update]:
    """Yield ``update(done, detail)``, which shows how many of ``total`` parts are done; ``done`` were done before.

    On a terminal this is one live line with the time left; elsewhere a line of text at most every 15 seconds, and one
    at the end. Everything goes to stderr: stdout is for results. Nothing is printed where ``shown`` is false.
    """
    console = Console(stderr=True, highlight=False, quiet=not shown)
    if not console.is_terminal:
        log = _ProgressLog(console, description, total, done)
        yield log.update
        log.print_line()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, completed=done, detail="")
        started = time.monotonic()

        def update(now: int, detail: str) -> None:
            overall = _describe_overall(description, time.monotonic() - started, (now - done) / max(1, total - done))
            bar.update(task, completed=now, detail="  ".join(filter(None, [detail, overall])))

        yield update


def _describe_overall(stage: str, seconds: float, fraction: float) -> str:
    return _overall[-1](stage, seconds, fraction) if _overall else ""


def in_words(seconds: float) -> str:
    """Return a duration with its unit: "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _ProgressLog:
    """Progress as lines of text, at most one every ``LOG_SECONDS``."""

    def __init__(self, console: Console, description: str, total: int, done: int) -> None:
        self.console, self.description, self.total, self.first, self.done = console, description, total, done, done
        self.detail = ""
        self.started = self.printed = time.monotonic()

    def update(self, now: int, detail: str) -> None:
        self.done, self.detail = now, detail
        if now < self.total and time.monotonic() - self.printed >= LOG_SECONDS:
            self.printed = time.monotonic()
            self.print_line()

    def print_line(self) -> None:
        elapsed = time.monotonic() - self.started
        remaining = elapsed / max(self.done - self.first, 1) * (self.total - self.done)
        duration = f"{in_words(remaining)} left" if self.done < self.total else in_words(elapsed)
        fraction = (self.done - self.first) / max(1, self.total - self.first)
        overall = _describe_overall(self.description, elapsed, fraction)
        parts = [f"{self.description} {self.done}/{self.total}", self.detail, duration, overall]
        self.console.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield from ``items`` and show how many of ``total`` were consumed."""
    with progress(description, total) as update:
        for number, item in enumerate(items, start=1):
            yield item
            update(number, "")
