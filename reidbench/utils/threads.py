"""Work on parts of arrays, by as many threads as torch has, each of which computes alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")


_LIBRARIES = ThreadpoolController()
_TURN = threading.Lock()  # how many threads the libraries use is the process's, so one piece of work has it at a time
_HERE = threading.local()  # ``busy`` in a thread that is a worker, or has some


@dataclass(frozen=True)
class Workers:
    """Threads that share the parts of an array; ``count`` of them, the present one alone where it is 1."""

    count: int
    pool: ThreadPoolExecutor | None

    def each(self, work: Callable[[T], None], parts: Iterable[T]) -> None:
        """Call ``work`` on every part, and return when all are done; they must not write to the same places.

        An error of ``work`` is raised as it is.
        """
        for _ in self.pool.map(work, parts) if self.pool else map(work, parts):
            pass


@contextmanager
def workers() -> Iterator[Workers]:
    """Give as many workers as torch has threads.

    Work that asks for workers itself, a metric that searches neighbours, say, gets the thread that it is on.
    While there are several, neither numpy's linear algebra nor torch's operations share their work among threads of
    their own, here or in a worker: waiting for each other in every small operation costs more than it brings.
    """
    if getattr(_HERE, "busy", False):
        yield Workers(1, None)
        return
    count = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(_TURN)
        pool = ThreadPoolExecutor(count, thread_name_prefix="reidbench", initializer=_alone) if count > 1 else None
        if pool:
            stack.enter_context(pool)
        stack.enter_context(_LIBRARIES.limit(limits=1))
        stack.callback(setattr, _HERE, "busy", False)
        _HERE.busy = True
        yield Workers(count, pool)


def _alone() -> None:
    _HERE.busy = True
    torch.set_grad_enabled(False)  # whatever the caller's thread has: nothing here is differentiated
    torch.get_num_threads()  # before the limit: at its first use in a thread torch would lift it again
    _LIBRARIES.limit(limits=1, user_api="openmp")


def in_threads(work: Callable[[int], T], count: int, threads: int) -> Generator[T, None, None]:
    """Yield work(0), …, work(count - 1) in this order, computed in ``threads`` threads.

    No more than one result a thread waits to be taken. The first exception, in this order, ends it.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for number in range(count):
            pending.append(pool.submit(work, number))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
