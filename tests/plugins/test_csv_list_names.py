"""The names of own data: in tables, folders, leaderboards and records, and in no id."""

import reidbench
from reidbench.leaderboard.check_lists import check_lists
from reidbench.leaderboard.check_record import record_problems
from reidbench.leaderboard.rows import board_name
from reidbench.plugins import catalogue
from reidbench.runs.execute import execute
from reidbench.runs.plan import make_plan, read_request
from reidbench.runs.prepare import Planner
from reidbench.utils.machine import local_machine
from tests.support import image_lists


def test_own_data_have_names_that_enter_no_id(tmp_path, monkeypatch):
    """Two lists differ by name in all outputs, and are located again below the data root."""
    for name in ("gnomes", "elves"):
        image_lists.write_set(tmp_path / "here" / name)
    lists = ("gnomes/list.csv", str(tmp_path / "here" / "elves" / "list.csv"))
    monkeypatch.chdir(tmp_path / "here")
    how = {"loss": "none", "backbone": "tiny", "threads": 1, "results": tmp_path / "results"}
    records = reidbench.run(protocol=[f'csv_list(file="{file}")' for file in lists], **how)
    protocols = [record.items["protocol"] for record in records]
    assert [item.label for item in protocols] == ["gnomes", "elves"]
    assert protocols[0].short == "csv_list(file=list.csv, name=gnomes)"
    assert records[0].id == records[1].id, "one content"
    assert [board_name(record) for record in records] == ["csv_list.gnomes", "csv_list.elves"]
    named = {path.name.partition("-")[0]: path for path in (tmp_path / "results" / "runs").iterdir()}
    assert set(named) == {"csv_list.gnomes", "csv_list.elves"}
    (again,) = reidbench.run(protocol='csv_list(file="gnomes/list.csv", name="../Alben, 1")', **how)
    assert (again.id, board_name(again)) == (records[0].id, "csv_list..._Alben_1")

    # --- the data are in another place, and the current folder is another ---
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    machine = local_machine(device="cpu", threads=1, data=tmp_path / "there", results=tmp_path / "other")
    for record, folder in zip(records, (named["csv_list.gnomes"], named["csv_list.elves"]), strict=True):
        assert list(record_problems(record, allow_dirty=True)) == []
        assert check_lists((folder, record), Planner(catalogue.load(), machine)) == []
        ((_, reproduced),) = execute(make_plan(read_request(str(folder / "record.json"), {}), machine))
        assert (reproduced.id, reproduced.scores) == (record.id, record.scores)
        assert reproduced.items["protocol"].label == record.items["protocol"].label
