"""How long work shows itself: a live bar on a terminal, a line now and then in a log."""

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


@contextmanager
def progress(what: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Update]:
    """Show work of ``total`` parts, ``done`` of them before; yields ``update(done, detail)``.

    On a terminal this is one live line with the time left; elsewhere a line of text at most every 15 seconds, and one
    at the end. Everything goes to stderr, so that stdout stays the result. Nothing is said where ``shown`` is false.
    """
    console = Console(stderr=True, highlight=False, quiet=not shown)
    if not console.is_terminal:
        log = _Log(console, what, total, done)
        yield log.update
        log.say()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, completed=done, detail="")

        def update(now: int, detail: str) -> None:
            bar.update(task, completed=now, detail=detail)

        yield update


def in_words(seconds: float) -> str:
    """Return a duration with its unit: "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Log:
    """Progress where nobody watches live: lines of text, seldom."""

    def __init__(self, console: Console, what: str, total: int, done: int) -> None:
        self.console, self.what, self.total, self.first, self.done = console, what, total, done, done
        self.detail = ""
        self.started = self.said = time.monotonic()

    def update(self, now: int, detail: str) -> None:
        self.done, self.detail = now, detail
        if now < self.total and time.monotonic() - self.said >= LOG_SECONDS:
            self.said = time.monotonic()
            self.say()

    def say(self) -> None:
        elapsed = time.monotonic() - self.started
        left = elapsed / max(self.done - self.first, 1) * (self.total - self.done)
        time_said = f"{in_words(left)} left" if self.done < self.total else in_words(elapsed)
        parts = [f"{self.what} {self.done}/{self.total}", self.detail, time_said]
        self.console.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield from ``items`` while showing how many of ``total`` have been taken."""
    with progress(what, total) as update:
        for number, item in enumerate(items, start=1):
            yield item
            update(number, "")
