"""Work on parts of arrays, by as many threads as torch has, each of which computes alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

_LIBRARIES = ThreadpoolController()
_TURN = threading.Lock()  # how many threads the libraries use is the process's, so one piece of work has it at a time


@dataclass(frozen=True)
class Workers:
    """Threads that share the parts of an array; ``count`` of them, the present one where it is 1."""

    count: int
    pool: ThreadPoolExecutor

    def each(self, work: Callable[[T], None], parts: Iterable[T]) -> None:
        """Call ``work`` on every part, and return when all are done; they must not write to the same places.

        An error of ``work`` is raised as it is.
        """
        for _ in self.pool.map(work, parts) if self.count > 1 else map(work, parts):
            pass


@contextmanager
def workers() -> Iterator[Workers]:
    """Give as many workers as torch has threads.

    Meanwhile neither numpy's linear algebra nor torch's operations share their work among threads of their own, here or
    in a worker: waiting for each other in every small operation costs more than it brings.
    """
    count = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="reidbench", initializer=_alone)
    with _TURN, pool, _LIBRARIES.limit(limits=1):
        yield Workers(count, pool)


def _alone() -> None:
    torch.get_num_threads()  # from here on torch leaves this thread's number as it is
    _LIBRARIES.limit(limits=1, user_api="openmp")
