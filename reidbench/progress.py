"""How long work shows itself: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
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
def progress(what: str, total: int, done: int = 0) -> Iterator[Update]:
    """Show work of ``total`` parts, ``done`` of them before; yields ``update(done, detail)``.

    On a terminal this is one live line with the time left; elsewhere a line of text at most every 15 seconds, and one
    at the end. Everything goes to stderr, so that stdout stays the result.
    """
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total, completed=done, detail="")
            yield lambda now, detail="": bar.update(task, completed=now, detail=detail)
        return
    started = time.monotonic()
    state = {"said": started, "done": done, "detail": ""}

    def say() -> None:
        now = int(state["done"])
        elapsed = time.monotonic() - started
        left = elapsed / (now - done) * (total - now) if now > done else 0.0
        parts = [f"{what} {now}/{total}", str(state["detail"]), f"{left:.0f} s left" if now < total else f"{elapsed:.0f} s"]
        console.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)

    def update(now: int, detail: str = "") -> None:
        state.update(done=now, detail=detail)
        if now < total and time.monotonic() - float(state["said"]) >= LOG_SECONDS:
            state["said"] = time.monotonic()
            say()

    yield update
    say()
    sys.stderr.flush()


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield from ``items`` while showing how many of ``total`` have been taken."""
    with progress(what, total) as update:
        for number, item in enumerate(items, start=1):
            yield item
            update(number, "")
