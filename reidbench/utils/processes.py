"""This process: its place among those that ``torchrun`` started to train one network, and signals that stop it."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

from reidbench.errors import OptionError, PeerError, ReidbenchError

T = TypeVar("T")

# The other processes wait while the first scores a whole gallery; torchrun ends them if the first one dies.
TIMEOUT = timedelta(days=7)

# Ctrl-C, a shutdown, and what SLURM and others send some time before a job's time limit (sbatch --signal=USR1@120).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class World:
    """The processes that train together. The first alone samples batches, reads checkpoints, writes and scores.

    With one process every method is free of communication.

    ``rank``: number of this process, from 0.
    ``size``: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that samples, writes and prints."""
        return self.rank == 0

    def batch_part(self, count: int, rank: int | None = None) -> slice:
        """Return the part of a batch of ``count`` units that a process embeds, this one or ``rank``; parts differ in
        length by at most one.

        Raises OptionError where there are fewer units than processes.
        """
        if count < self.size:
            advice = "raise the recipe's p or k, or use fewer processes"
            raise OptionError(f"a batch of {count} images cannot be split over {self.size} processes; {advice}")
        own = self.rank if rank is None else rank
        return slice(own * count // self.size, (own + 1) * count // self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process has set it, so that all processes decide alike."""
        if self.size == 1:
            return flags
        import torch  # noqa: PLC0415
        from torch import distributed  # noqa: PLC0415

        counts = torch.tensor(flags, dtype=torch.int32)
        with peer_errors(self.size):
            distributed.all_reduce(counts)
        return tuple(bool(count) for count in counts.tolist())

    def from_first(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns in the first process, the only one that runs it.

        An exception is raised in the first process; the others raise PeerError.
        """
        if self.size == 1:
            return work()
        import torch  # noqa: PLC0415
        from torch import distributed  # noqa: PLC0415

        box: list[Any] = [None, False]
        try:
            if self.first:
                box = [work(), True]
        finally:  # the others wait, whatever happened in the first
            with peer_errors(self.size):
                distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if not box[1]:
            raise PeerError("the first process failed")
        result: T = box[0]
        return result

    def in_turn(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns here; the first process runs it before all others, which find its files."""
        results: list[T] = []
        self.from_first(lambda: results.append(work()))
        return results[0] if results else work()


ALONE = World()


def join() -> World:
    """Return this process's place among those that torchrun started together, or ALONE."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    import torch  # noqa: PLC0415
    from torch import distributed  # noqa: PLC0415

    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group(backend, timeout=TIMEOUT)
    atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def peer_errors(size: int) -> Iterator[None]:
    """Turn a lost connection to one of ``size`` processes into a PeerError."""
    try:
        yield
    except ReidbenchError:
        raise
    except RuntimeError as error:
        raise PeerError(f"another of the {size} processes has ended ({str(error).splitlines()[0][:120]})") from error


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
