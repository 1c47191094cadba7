"""How a training is asked to stop: by a person, by a machine that shuts down, by a cluster before a job's time ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# SIGUSR1 is what SLURM and others send a while before a job's time is up (sbatch --signal=USR1@120).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass
class StopRequest:
    """Whether somebody asked the loop to stop after the present step, and how it is said."""

    asked: bool = False
    words: str = "as asked"


@contextmanager
def stop_signal() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM or SIGUSR1 into a request; a second SIGINT ends the process at once.

    The others may come again, and after each other, without harm: launchers pass on what has reached us already, and
    clusters send SIGTERM after SIGUSR1, while the state is still being saved.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.asked and number == signal.SIGINT:
            os._exit(128 + number)
        request.asked = True
        if number == signal.SIGUSR1:
            request.words = "as SIGUSR1 asked, before the job's time is up"

    # Only the main thread may set handlers; a caller that trains in another one handles its signals itself.
    caught = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
