"""The results folder: names of folders, and which records are listed."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench.data.split import Split
from reidbench.errors import DataError
from reidbench.runs.store import Store, read_state
from reidbench.utils.machine import local_machine
from tests.support.records import make_record, put


def test_a_place_without_a_record_is_named(tmp_path):
    assert Store(tmp_path).records() == []
    with pytest.raises(DataError, match=r"no record\.json"):
        Store(tmp_path).records([tmp_path])


@given(st.text(max_size=200), st.text(max_size=200))
def test_folder_names_are_one_safe_part_of_a_path(loss, backbone):
    folder = Store(Path("results")).folder_of("runs", ["synthetic", loss, backbone], 0, "ab" * 32, "cd" * 32)
    assert folder.parent == Path("results/runs")
    assert len(folder.name.encode()) < 200
    assert not set(folder.name) & set("/\\\0\n :*?")
    assert folder.name not in (".", "..")


def test_id_and_code_tell_folders_apart():
    store = Store(Path("results"))
    names, ids = ["synthetic", "batch_hard", "tiny"], [(0, "a", "c"), (0, "b", "c"), (0, "a", "d"), (1, "a", "c")]
    folders = {store.folder_of("runs", names, seed, 64 * run, 64 * code) for seed, run, code in ids}
    assert len(folders) == 4


# --- which records are listed ----------------------------------------------------------------------------------------


def at(results, *parts, **changes):
    """Put a record into a results folder, under the given folders."""
    return put(results.joinpath(*parts), make_record(**changes))


def found(results: Path, *where: Path) -> list[str]:
    """Return the names of the run folders that a store of ``results`` lists."""
    return [folder.name for folder, _ in Store(results).records(list(where))]


def test_a_reproduction_counts_only_where_its_folder_is_given(tmp_path):
    results = tmp_path / "results"
    at(results, "runs", "first")
    again, _ = at(results, "again", "runs", "second")
    at(results, "again-and-again", "third", started="2027-01-01T00:00:00+00:00")  # of that name there is no rule
    assert found(results) == ["first", "third"]
    assert found(results, results) == ["first", "third"]
    for place in (results / "again", again.parent, again, again / "record.json"):
        assert found(results, place) == ["second"]
    assert found(results, results, again) == ["first", "third", "second"]


def test_a_results_folder_below_a_folder_of_that_name_is_listed(tmp_path):
    results = tmp_path / "again" / "results"
    at(results, "runs", "first")
    assert found(results) == ["first"]
    assert found(tmp_path / "elsewhere", results) == ["first"]
    with pytest.raises(DataError, match=r"no record\.json"):
        found(results, tmp_path)


def test_records_come_as_they_began_within_each_place(tmp_path):
    for name, began in (("a", "2026-03"), ("b", "2026-01"), ("c", "2026-02")):
        at(tmp_path, "runs", name, started=began)
    assert found(tmp_path) == ["b", "c", "a"]
    assert found(tmp_path, tmp_path / "runs/c", tmp_path / "runs/b") == ["c", "b"], "places stay as given"


def test_the_newest_record_by_other_code_is_found(tmp_path):
    store = Store(tmp_path)
    names, run = ["synthetic", "batch_hard", "tiny"], "ab" * 32

    def folder(code, seed=0, run_id=run):
        return store.folder_of("runs", names, seed, run_id, code * 64)

    now = folder("a")

    def earlier(folder):
        split, machine = cast("Split", None), local_machine(device="cpu")
        record = read_state(tmp_path / "no training", folder, "00" * 32, "00" * 32, split, machine).earlier
        return record and record.finished

    assert earlier(now) is None
    put(now, make_record(finished="2026-09"))
    for code, ended in (("b", "2026-02"), ("c", "2026-04"), ("d", "2026-03")):
        put(folder(code), make_record(finished=ended))
    put(folder("b", seed=1), make_record(finished="2026-08"))
    put(folder("b", run_id="cd" * 32), make_record(finished="2026-08"))
    folder("e").mkdir()  # begun, without a record yet
    put(folder("f"), make_record())[0].joinpath("record.json").write_text('{"schema": 0}')
    assert earlier(now) == "2026-04"
    assert earlier(folder("c")) == "2026-09"


def test_a_damaged_record_is_named_where_records_are_listed(tmp_path):
    folder, _ = at(tmp_path, "runs", "first")
    (folder / "record.json").write_text("{")
    with pytest.raises(DataError, match=r"first.record\.json"):
        Store(tmp_path).records()
