"""Show progress: a live line on a terminal, a line of text every 15 seconds in a log; durations in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

T = TypeVar("T")
Update = Callable[[int, str], None]

LOG_SECONDS = 15.0
WITH_BAR = 130  # characters of a terminal with room for a bar beside the text

# Text about the whole call, from the name of a stage, its seconds so far and the fraction of it that is done.
Overall = Callable[[str, float, float], str]


@contextmanager
def progress(
    description: str, total: int, done: int = 0, shown: bool = True, overall: Overall | None = None
) -> Iterator[Update]:
    """Yield ``update(done, detail)``, which shows how many of ``total`` parts are done; ``done`` were done before.

    On a terminal this is one live line with the time left; elsewhere a line of text at most every 15 seconds, and one
    at the end. Everything goes to stderr: stdout is for results. Nothing is printed where ``shown`` is false. What
    ``overall`` returns about the whole call begins the details.
    """
    console = Console(stderr=True, highlight=False, quiet=not shown)
    started = printed = time.monotonic()
    latest, latest_detail = done, ""

    def details(detail: str, now: int, *times: str) -> str:
        fraction = (now - done) / max(1, total - done)
        whole = overall(description, time.monotonic() - started, fraction) if overall else ""
        return "  ".join(filter(None, [whole, detail, *times]))

    def print_line() -> None:
        elapsed = time.monotonic() - started
        remaining = elapsed / max(latest - done, 1) * (total - latest)
        duration = f"{in_words(remaining)} left" if latest < total else in_words(elapsed)
        line = f"{description} {latest}/{total}  {details(latest_detail, latest, duration)}"
        console.print(Text(line), soft_wrap=True)

    def update_log(now: int, detail: str) -> None:
        nonlocal printed, latest, latest_detail
        latest, latest_detail = now, detail
        if now < total and time.monotonic() - printed >= LOG_SECONDS:
            printed = time.monotonic()
            print_line()

    if not console.is_terminal:
        yield update_log
        print_line()
        return
    columns = [
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=24)] if console.width >= WITH_BAR else []),
        MofNCompleteColumn(),
        # The one column that is cut where the terminal is too narrow for all.
        TextColumn("{task.fields[detail]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        TimeRemainingColumn(compact=True),
    ]
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task(description, total=total, completed=done, detail="")
        yield lambda now, detail: bar.update(task, completed=now, detail=details(detail, now))


class LiveLines(Live):
    """Lines on stderr about work in other processes, which can be replaced while the block runs, and then vanish."""

    def __init__(self) -> None:
        super().__init__(console=Console(stderr=True, highlight=False), transient=True)
        self._printed = time.monotonic()

    def print(self, line: str) -> None:
        """Print a line that stays; nothing for an empty text."""
        if line:
            self.console.print(Text(line), soft_wrap=not self.console.is_terminal)

    def show(self, lines: Sequence[str]) -> None:
        """Replace the lines of now; where there is no terminal, print the first at most every 15 seconds."""
        self.update(Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)))
        if not self.console.is_terminal and time.monotonic() - self._printed >= LOG_SECONDS:
            self._printed = time.monotonic()
            self.print(lines[0])


def in_words(seconds: float) -> str:
    """Return a duration with its unit: "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield from ``items`` and show how many of ``total`` were consumed."""
    with progress(description, total) as update:
        for number, item in enumerate(items, start=1):
            yield item
            update(number, "")
