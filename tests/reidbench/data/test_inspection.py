"""What lies there: counts beside the expected ones, whose names, and queries that a rule leaves without a match."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from reidbench import DataError, Protocol, Samples, Split
from reidbench.data.inspection import inspect, unmatched
from reidbench.data.protocol import is_standin
from tests.support.jobs import SMALL_RECIPE, job, plan_of, run

PROTOCOL = Protocol(dataset="x", version=1, recipe="y", views="center")


def split(query: list[tuple[int, int]], gallery: list[tuple[int, int]], root: Path = Path("root")) -> Split:
    def part(name: str, units: list[tuple[int, int]]) -> Samples:
        names = (f"{name}/{number}.jpg" for number in range(len(units)))
        return Samples.of_images(root, names, (pid for pid, _ in units), (cam for _, cam in units))

    return Split(part("train", [(1, 1), (1, 2), (2, 1)]), part("query", query), part("gallery", gallery))


def test_a_query_without_a_match_is_put_down_to_the_rule_that_took_the_last_one() -> None:
    asked = [(1, 1), (2, 1), (3, 1), (3, 2)]
    found = unmatched(PROTOCOL, split(asked, [(1, 1), (1, 2), (3, 1), (-1, 1), (0, 2)]))
    # 1 is found in camera 2; 2 is nowhere; 3 asks from camera 1, where alone it was seen, and from camera 2.
    assert (found.absent, found.by_rule, found.total) == (1, {"junk": 0, "same_camera": 1}, 2)
    kept = dataclasses.replace(PROTOCOL, exclude=("junk",))
    assert unmatched(kept, split(asked, [(1, 1), (3, 1)])).by_rule == {"junk": 0}


def test_names_tell_the_real_data_from_a_stand_in() -> None:
    data = split([(1, 1)], [(1, 2)])
    real = {"train": data.train.name_digest, "query+gallery": (data.query + data.gallery).name_digest}
    known = dataclasses.replace(PROTOCOL, names=real)
    assert not is_standin(known, data)
    assert inspect(known, data).verdict.startswith("the real data")
    other = split([(1, 1)], [(1, 2), (1, 3)])
    assert is_standin(known, other)
    assert inspect(known, other).verdict.startswith("a STAND-IN")
    assert (
        inspect(PROTOCOL, other).verdict
        == "data whose names nobody has published, so neither the real data nor a stand-in"
    )


def test_wrong_counts_are_said_with_both_numbers() -> None:
    data = dataclasses.replace(split([(1, 1)], [(1, 2)]), expected={"train": 3, "gallery": 1200, "cameras": 2})
    assert data.wrong_counts == ["gallery: 1,200 expected, 1 found"]


@pytest.fixture
def partial(data_folder: Path, tmp_path: Path, reidbench_main: Callable[..., tuple[int, str]]) -> Path:
    """A stand-in tree that lacks one gallery image."""
    import reidbench

    folder = tmp_path / "market"
    for _ in reidbench.build("synthesizer", "market1501(identities=12)", folder):
        pass
    next((folder / "bounding_box_test").glob("0*.jpg")).unlink()
    return folder


def test_a_partial_tree_is_refused_unless_it_is_asked_for_and_then_recorded(partial: Path) -> None:
    asked = job(
        protocol="market1501(views=original)", backbone="tiny(height=64,width=32)", recipe=SMALL_RECIPE, loss="none"
    )
    with pytest.raises(DataError, match=r"is not whole: .*gallery: \d+ expected, \d+ found.*--allow-partial"):
        plan_of(asked, data=partial)
    plan, record, _ = run(asked, data=partial, allow_partial=True)
    assert record.standin
    (said,) = [text for text in record.deviations if "gallery" in text]
    assert said.startswith("partial data: gallery: ")
    assert record.dataset.wrong_counts == plan.split.wrong_counts
