"""Work shared among threads: everything is done once, errors come through, nothing of the process stays changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

import reidbench
from reidbench.counting import ROWS
from reidbench.ranking import rank
from reidbench.threads import workers


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
