"""Workers and the ordered map: every part once, errors raised, the libraries' thread counts restored."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

import reidbench
from reidbench.ranking.rank_counts import ROWS
from reidbench.utils.threads import map_in_threads, workers
from tests.support.rankings import rank


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_part_is_done_once_on_one_thread_each(threads):
    done, inside = np.zeros(50, dtype=int), set()
    before = threadpool_info()

    def work(part):
        done[part] += 1
        inside.add((torch.get_num_threads(), *(x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas")))

    with workers() as crew:
        crew.each(work, range(50))
    assert crew.count == threads
    assert (done == 1).all()
    assert all(set(numbers) == {1} for numbers in inside)
    assert torch.get_num_threads() == threads
    assert threadpool_info() == before


def test_parts_run_in_parallel(threads):
    together = threading.Barrier(threads, timeout=30)
    with workers() as crew:
        crew.each(lambda _: together.wait(), range(threads))  # breaks if fewer threads run


def test_error_in_a_part_is_raised(threads):
    with pytest.raises(ZeroDivisionError), workers() as crew:
        crew.each(lambda part: 1 // (part - 3), range(6))
    with workers() as crew:
        crew.each(lambda part: None, [1])  # the next call may begin


def test_thread_count_changes_no_ranking(threads):
    generator = np.random.default_rng(threads)
    queries, gallery = ROWS + 40, 3_000
    ids = generator.integers(1, 30, queries), generator.integers(1, 5, queries)
    others = generator.integers(-1, 30, gallery), generator.integers(1, 5, gallery)
    points = generator.integers(-2, 3, size=(queries + gallery, 3)).astype(np.float32)  # ties everywhere
    metric = reidbench.build("metric", "euclidean")
    query, gallery_points = points[:queries], points[queries:]
    several = rank(query, gallery_points, *ids, *others, metric, chunk=1_000)
    torch.set_num_threads(1)
    alone = rank(query, gallery_points, *ids, *others, metric)
    for name in ("starts", "units", "ranks", "distances", "top", "top_distances", "same_camera_ranks"):
        np.testing.assert_array_equal(getattr(several, name), getattr(alone, name))


class NestedMetric(reidbench.Metric):
    """A metric that ranks while it is used in a ranking."""

    def distances(self, a, b):
        reidbench.nearest(a, b, reidbench.build("metric", "euclidean"), 1)
        return torch.cdist(a, b)


def test_nested_workers_do_not_deadlock(threads):
    rows = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    ids = np.arange(1, ROWS + 1), np.ones(ROWS, dtype=np.int64)
    several = rank(rows, rows, *ids, ids[0], ids[1] + 1, NestedMetric())
    assert (several.ranks == 0).all()


def test_concurrent_rankings_restore_thread_counts(threads):
    before, metric = threadpool_info(), reidbench.build("metric", "euclidean")
    rows = torch.randn(700, 8, generator=torch.Generator().manual_seed(1))
    ids = np.arange(700) // 2 + 1, np.arange(700) % 2
    alone = rank(rows, rows, *ids, *ids, metric)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: rank(rows, rows, *ids, *ids, metric), range(8)))
    assert all(np.array_equal(each.ranks, alone.ranks) for each in together)
    assert threadpool_info() == before


class GradientMetric(reidbench.Metric):
    """A metric whose factors require gradients."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))

    def factors(self, embeddings):
        return -embeddings * self.weight, embeddings

    def distances(self, a, b):
        return (a * self.weight) @ -b.T


def test_metric_may_require_gradients(threads):
    rows = torch.randn(3_000, 4, generator=torch.Generator().manual_seed(2))
    ids = np.arange(3_000) // 2 + 1, np.arange(3_000) % 2
    several = rank(rows, rows, *ids, *ids, GradientMetric())
    with torch.no_grad():
        again = rank(rows, rows, *ids, *ids, GradientMetric())
    np.testing.assert_array_equal(several.ranks, again.ranks)
    np.testing.assert_array_equal(several.distances, again.distances)


@pytest.mark.parametrize("count", [1, 3])
def test_map_keeps_order_and_stays_a_little_ahead(count):
    started: list[int] = []

    def work(number):
        started.append(number)
        time.sleep(0.002 * (number % 3))
        return number

    results = []
    for number in map_in_threads(work, 20, count):
        results.append(number)
        assert len(started) <= len(results) + 1 + count
    assert results == list(range(20))


def test_map_raises_the_first_error_and_drops_the_rest():
    started: list[int] = []

    def work(number):
        started.append(number)
        if number == 1:
            time.sleep(0.02)  # the later error occurs first
        if number >= 1:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match="1"):
        list(map_in_threads(work, 1000, 2))
    assert len(started) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
