"""This process among those that ``torchrun`` started to train one network together."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from reidbench.errors import OptionError, PeerError, ReidbenchError

T = TypeVar("T")

# The other processes wait while the first scores a whole gallery; torchrun ends them if the first one dies.
TIMEOUT = timedelta(days=7)


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
            raise OptionError(
                f"a batch of {count} images cannot be split over {self.size} processes; raise the recipe's p or k, or "
                "use fewer processes"
            )
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
