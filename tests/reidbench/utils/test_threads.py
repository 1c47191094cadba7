"""Work shared among threads: everything is done once, errors come through, nothing of the process stays changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

import reidbench
from reidbench.ranking.rank import rank
from reidbench.ranking.rank_counts import ROWS
from reidbench.utils.threads import workers


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_part_is_worked_on_once_by_threads_that_compute_alone(threads: int) -> None:
    done, inside = np.zeros(50, dtype=int), set()
    before = threadpool_info()

    def work(part: int) -> None:
        done[part] += 1
        inside.add((torch.get_num_threads(), *(x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas")))

    with workers() as crew:
        crew.each(work, range(50))
    assert crew.count == threads
    assert (done == 1).all()
    assert all(set(numbers) == {1} for numbers in inside)
    assert torch.get_num_threads() == threads
    assert threadpool_info() == before


def test_parts_wait_for_no_other_part(threads: int) -> None:
    together = threading.Barrier(threads, timeout=30)
    with workers() as crew:
        crew.each(lambda _: together.wait(), range(threads))  # breaks if fewer are at work


def test_an_error_in_a_part_is_raised(threads: int) -> None:
    with pytest.raises(ZeroDivisionError), workers() as crew:
        crew.each(lambda part: 1 // (part - 3), range(6))
    with workers() as crew:
        crew.each(lambda part: None, [1])  # the next one may begin


def test_the_number_of_threads_changes_no_ranking(threads: int) -> None:
    generator = np.random.default_rng(threads)
    queries, gallery = ROWS + 40, 3_000
    ids = generator.integers(1, 30, queries), generator.integers(1, 5, queries)
    others = generator.integers(-1, 30, gallery), generator.integers(1, 5, gallery)
    points = generator.integers(-2, 3, size=(queries + gallery, 3)).astype(np.float32)  # ties everywhere
    metric = reidbench.build("metric", "euclidean")
    asked, searched = points[:queries], points[queries:]
    found = rank(asked, searched, *ids, *others, metric, chunk=1_000)
    torch.set_num_threads(1)
    alone = rank(asked, searched, *ids, *others, metric)
    for name in ("starts", "units", "ranks", "distances", "top", "top_distances", "same_camera_ranks"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


class Searching(reidbench.Metric):
    """A metric that ranks within a ranking."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        reidbench.nearest(a, b, reidbench.build("metric", "euclidean"), 1)
        return torch.cdist(a, b)


def test_work_that_asks_for_workers_itself_does_not_wait_for_them(threads: int) -> None:
    rows = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    ids = np.arange(1, ROWS + 1), np.ones(ROWS, dtype=np.int64)
    found = rank(rows, rows, *ids, ids[0], ids[1] + 1, Searching())
    assert (found.ranks == 0).all()


def test_several_rankings_at_once_leave_the_libraries_as_they_were(threads: int) -> None:
    before, metric = threadpool_info(), reidbench.build("metric", "euclidean")
    rows = torch.randn(700, 8, generator=torch.Generator().manual_seed(1))
    ids = np.arange(700) // 2 + 1, np.arange(700) % 2
    alone = rank(rows, rows, *ids, *ids, metric)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: rank(rows, rows, *ids, *ids, metric), range(8)))
    assert all(np.array_equal(each.ranks, alone.ranks) for each in together)
    assert threadpool_info() == before


class Trained(reidbench.Metric):
    """A metric whose parts carry gradients."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        return -embeddings * self.weight, embeddings

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * self.weight) @ -b.T


def test_a_metric_may_carry_gradients(threads: int) -> None:
    rows = torch.randn(3_000, 4, generator=torch.Generator().manual_seed(2))
    ids = np.arange(3_000) // 2 + 1, np.arange(3_000) % 2
    found = rank(rows, rows, *ids, *ids, Trained())
    with torch.no_grad():
        again = rank(rows, rows, *ids, *ids, Trained())
    np.testing.assert_array_equal(found.ranks, again.ranks)
    np.testing.assert_array_equal(found.distances, again.distances)
