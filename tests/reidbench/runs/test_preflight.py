"""Conditions on the data are checked before any training, for every dataset."""

from dataclasses import replace
from pathlib import Path

import pytest

import reidbench
from reidbench import DataError, Samples, Split
from reidbench.data.positives_and_exclusions import OWN_IMAGES, contradictions, unmatched
from reidbench.data.split import SHARED_IDENTITIES, SHARED_IMAGES
from reidbench.leaderboard.check_lists import check_lists
from reidbench.leaderboard.check_record import record_problems
from reidbench.plugins.catalogue import load
from reidbench.runs.preflight import check_data
from reidbench.runs.prepare import Planner, Prepared
from reidbench.utils.machine import local_machine
from tests.support.cases import cases
from tests.support.images import noise_images
from tests.support.jobs import job, plan_of

Units = list[tuple[str, int, int]]
GOOD: Units = [("a", 1, 1), ("b", 1, 2), ("c", 2, 1)]


def run_on(train: Units = GOOD, query: Units = GOOD[:1], gallery: Units = GOOD[1:], **protocol) -> Prepared:
    """Return a planned run whose data are these units (image, identity, camera)."""
    run, _ = plan_of(job())
    parts = [
        Samples.of_images(Path("root"), *zip(*units, strict=True)) if units else empty()
        for units in (train, query, gallery)
    ]
    split, changed = Split(*parts), replace(run.protocol, **protocol)
    found = contradictions(changed, split)
    return replace(run, split=split, protocol=changed, unmatched=unmatched(changed, split), contradictions=found)


def empty() -> Samples:
    return Samples.of_images(Path("root"), [], [], [])


@pytest.mark.parametrize("parts", cases(__file__, "no_query_with_a_positive_is_an_error"))
def test_no_query_with_a_positive_is_an_error(parts):
    with pytest.raises(DataError, match="without a positive"):
        check_data(run_on(**parts))


def test_some_queries_without_a_positive_are_counted():
    run = run_on(query=[("a", 1, 1), ("d", 3, 1), ("e", 1, 2)])
    check_data(run)
    assert (run.unmatched.total, run.unmatched.queries) == (2, 3)
    check_data(run_on(gallery=[("d", 1, 1)], exclude=("junk",)))


def test_a_file_of_two_identities_is_an_error():
    for parts in (
        {"train": [*GOOD, ("a", 2, 1)]},
        {"gallery": [*GOOD, ("b", 7, 2)]},
        {"query": [("a", 1, 1)], "gallery": [*GOOD[1:], ("a", 0, 1)]},
    ):
        with pytest.raises(DataError, match="two identities"):
            check_data(run_on(**parts))
    check_data(run_on(gallery=[*GOOD, ("a", -1, 2)]))  # the query's own image, marked as junk


def write_list(folder: Path, rows: list[tuple[int, int, int, str]]) -> str:
    """Write images and a list with these rows (image, identity, camera, part), and return its path in quotes."""
    images = noise_images(folder, [1] * (1 + max(image for image, *_ in rows))).images
    lines = [f"{images[image]},{pid},{camera},{part}" for image, pid, camera, part in rows]
    (folder / "list.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    return f'"{folder}/list.csv"'


def test_one_camera_ends_before_anything_is_written(tmp_path):
    file = write_list(tmp_path / "set", [(image, 1 + image // 2, 1, "train") for image in range(12)])
    how = {"loss": "batch_hard", "backbone": "tiny", "recipe": "quick(steps=2, p=2, k=2)"}
    with pytest.raises(DataError, match="no query has a positive"):
        reidbench.run(protocol=f"csv_list_val(file={file})", results=tmp_path / "results", **how)
    assert not (tmp_path / "results").exists()


def test_contradictions_are_recorded_and_refused_by_boards(tmp_path, monkeypatch):
    rows = [(0, 1, 1, "train"), (1, 2, 1, "train"), (2, 5, 1, "query"), (3, 6, 1, "query"), (4, 5, 2, "gallery")]
    write_list(tmp_path / "set", [*rows, (1, 7, 2, "gallery"), (3, 6, 2, "gallery")])
    monkeypatch.chdir(tmp_path)
    (record,) = reidbench.run(
        protocol='csv_list(file="set/list.csv")', loss="none", backbone="tiny", threads=1, results=tmp_path / "results"
    )
    assert record.dataset.contradictions == {SHARED_IMAGES: 1, OWN_IMAGES: 1}
    assert [field for field, _ in record_problems(record, allow_dirty=True)] == ["dataset.contradictions"] * 2
    harmless = replace(record, dataset=replace(record.dataset, contradictions={SHARED_IDENTITIES: 3}))
    assert list(record_problems(harmless, allow_dirty=True)) == []
    (unmatched_only,) = list(
        record_problems(replace(harmless, scores=harmless.scores | {"unmatched": 2}), allow_dirty=True)
    )
    assert unmatched_only[0] == "scores.unmatched"
    # They follow from the lists, which in another folder are found below the data root.
    (run,) = (tmp_path / "results" / "runs").iterdir()
    monkeypatch.chdir(run)
    elsewhere = Planner(load(), local_machine(device="cpu", data=tmp_path))
    assert check_lists((run, record), elsewhere) == []
    assert [problem.field for problem in check_lists((run, harmless), elsewhere)] == ["dataset.contradictions"]
    with pytest.raises(DataError, match=f"no file {run}/set/list.csv nor {tmp_path}/x/set"):
        check_lists((run, record), Planner(load(), local_machine(device="cpu", data=tmp_path / "x")))
