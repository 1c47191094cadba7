"""Signals that stop a training after the present step: Ctrl-C, a shutdown, or a cluster that ends a job."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# SIGUSR1 is what SLURM and others send some time before a job's time limit (sbatch --signal=USR1@120).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass
class StopRequest:
    """Whether a signal asks the loop to stop.

    ``requested``: whether to stop after the present step.
    ``reason``: why, for the message.
    """

    requested: bool = False
    reason: str = "on request"


@contextmanager
def stop_signal() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM or SIGUSR1 into a request; a second SIGINT ends the process at once.

    The others may be repeated without harm: launchers pass on signals that reach this process too, and clusters send
    SIGTERM after SIGUSR1, while the state is still being saved.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested and number == signal.SIGINT:
            os._exit(128 + number)
        request.requested = True
        if number == signal.SIGUSR1:
            request.reason = "on SIGUSR1, before the job's time limit"

    # Only the main thread may set handlers; a caller that trains in another thread handles signals itself.
    numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
