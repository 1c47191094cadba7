"""Threads: workers that share the parts of an array, and an ordered map."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

_LIBRARIES = ThreadpoolController()
_EXCLUSIVE = threading.Lock()  # the libraries' thread count belongs to the process, so one caller at a time sets it
_STATE = threading.local()  # ``busy`` in a thread that is a worker or has workers


@dataclass(frozen=True)
class Workers:
    """Threads that share the parts of an array.

    ``count``: number of threads.
    ``pool``: the threads; None where the calling thread works itself.
    """

    count: int
    pool: ThreadPoolExecutor | None

    def each(self, work: Callable[[T], None], parts: Iterable[T]) -> None:
        """Call ``work`` on every part and return when all are done; no two parts may write to the same elements.

        An error of ``work`` is raised unchanged.
        """
        for _ in self.pool.map(work, parts) if self.pool else map(work, parts):
            pass


@contextmanager
def workers() -> Iterator[Workers]:
    """Yield as many workers as torch has threads.

    A worker that requests workers itself (for a metric that searches neighbours, say) gets its own thread only.
    In the block neither numpy's linear algebra nor torch's operations use more than one thread each, here or in a
    worker: synchronising their threads in every small operation costs more than it gains.
    """
    if getattr(_STATE, "busy", False):
        yield Workers(1, None)
        return
    count = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "reidbench", _initialise_worker) if count > 1 else None
    with _EXCLUSIVE, pool or nullcontext(), _LIBRARIES.limit(limits=1):
        _STATE.busy = True
        try:
            yield Workers(count, pool)
        finally:
            _STATE.busy = False


def _initialise_worker() -> None:
    _STATE.busy = True
    torch.set_grad_enabled(False)  # whatever the calling thread has: nothing in a worker is differentiated
    torch.get_num_threads()  # before the limit: torch's first use in a thread would lift it
    _LIBRARIES.limit(limits=1, user_api="openmp")


def map_in_threads(work: Callable[[int], T], count: int, threads: int) -> Generator[T, None, None]:
    """Yield work(0), …, work(count - 1) in this order, computed in ``threads`` threads.

    At most one result per thread waits to be consumed. The first exception, in this order, is raised.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for number in range(count):
            pending.append(pool.submit(work, number))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
