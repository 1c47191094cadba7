"""Adding and merging: all or nothing, and the same bytes in any order."""

import dataclasses
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.board import add, check, merge
from reidbench.runs.record import RunRecord, read_record
from reidbench.runs.store import Store
from tests.support.boards import add_all, put, ranking_for, rows_of, tree, valid_record
from tests.support.records import digest


def three_by_two() -> list[RunRecord]:
    return [
        valid_record(
            loss, seed, environment={"device_name": f"GPU {9 - seed}"}, deviations=[f"deviation of seed {seed}"]
        )
        for loss in ("batch_hard(margin=0.2)", "classification", "none")
        for seed in (0, 1)
    ]


def test_the_order_of_adding_changes_no_byte(tmp_path):
    records = three_by_two()
    trees = []
    for number, order in enumerate([[records], [[each] for each in records[::-1]], [records[3:], records[:3]]]):
        for some in order:
            add_all(tmp_path / str(number) / "boards", some)
        trees.append(tree(tmp_path / str(number) / "boards"))
    assert trees[0] == trees[1] == trees[2]
    assert sorted(trees[0]) == sorted(
        ["synthetic.csv"]
        + [f"records/synthetic/{r.id[:12]}/{name}" for r in records for name in ("record.json", "rankings.npz")]
    )
    content = trees[0]["synthetic.csv"]
    assert b"\r" not in content
    assert content.endswith(b"\n")
    rows = rows_of(tmp_path / "0" / "boards")
    assert [row["loss"] for row in rows] == ["batch_hard", "classification", "none"]


def test_a_later_seed_changes_its_row_and_no_other(tmp_path):
    boards, records = tmp_path / "boards", three_by_two()
    add_all(boards, [record for record in records if record.job.seed == 0])
    before = rows_of(boards)
    add_all(boards, [records[1]])
    after = rows_of(boards)
    assert after[1:] == before[1:]
    scores = [record.scores["map_market"] for record in records[:2]]
    assert float(after[0]["map_market"]) == pytest.approx(statistics.mean(scores), abs=5e-7)
    assert float(after[0]["map_market_sd"]) == pytest.approx(statistics.stdev(scores), abs=5e-7)


def test_adding_stored_runs_writes_nothing(tmp_path):
    boards, records = tmp_path / "boards", three_by_two()
    add_all(boards, records)
    run = tmp_path / "runs" / "0-batch_hard(margin=0.2)"
    stored = boards / "records" / "synthetic" / records[0].id[:12]
    assert (stored / "rankings.npz").read_bytes() == (run / "rankings.npz").read_bytes()
    times = {name: (boards / name).stat().st_mtime_ns for name in tree(boards)}
    assert add_all(boards, three_by_two()) == []
    # the stored runs themselves can be named, as after a clone
    assert add(Store(Path()).records([boards]), boards) == []
    assert {name: (boards / name).stat().st_mtime_ns for name in tree(boards)} == times


def test_a_missing_or_edited_csv_is_derived_again(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    good = (boards / "synthetic.csv").read_text()
    (boards / "synthetic.csv").unlink()
    assert add_all(boards, three_by_two()[:1]) == [boards / "synthetic.csv"]
    assert (boards / "synthetic.csv").read_text() == good
    (boards / "synthetic.csv").write_text(good.replace(rows_of(boards)[0]["minp"], "0.990000", 1))
    add_all(boards, three_by_two()[:1])
    assert (boards / "synthetic.csv").read_text() == good


def test_missing_and_damaged_rankings_are_refused(tmp_path):
    folder, record = put(tmp_path / "run", valid_record())
    file = folder / "rankings.npz"
    arrays = dict(vars(ranking_for(record.job)))
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"run/rankings\.npz: cannot be read"):
        add([(folder, record)], tmp_path / "boards")
    np.savez(file, **arrays | {"ranks": arrays["ranks"].astype(np.float32)})
    with pytest.raises(DataError, match=r"ranks must be int64 \[n\], got float32"):
        add([(folder, record)], tmp_path / "boards")
    file.unlink()
    with pytest.raises(DataError, match=r"run/rankings\.npz: is missing"):
        add([(folder, record)], tmp_path / "boards")


def test_stand_ins_have_a_board_of_their_own(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, [valid_record("a", standin=True), valid_record("b")])
    assert [row["loss"] for row in rows_of(boards, "synthetic.standin")] == ["a"]
    assert [row["loss"] for row in rows_of(boards)] == ["b"]
    assert {path.name for path in (boards / "records").iterdir()} == {"synthetic", "synthetic.standin"}


def test_all_reasons_are_listed_and_nothing_is_written(tmp_path):
    failed, dirty = valid_record("a", status="failed", error="no"), valid_record("b", dirty=True, scores={"r5": 2.0})
    bad = [failed, dirty, valid_record("c")]
    with pytest.raises(DataError) as caught:
        add_all(tmp_path / "boards", [*bad, dataclasses.replace(bad[2], seconds={"train": 1.0, "embed": 1.0})])
    assert str(caught.value).startswith("nothing was added:\n")
    assert len(str(caught.value).splitlines()) >= 1 + 4
    last = str(caught.value).splitlines()[-1]
    assert ("runs/2-c" in last, "runs/0-a" in last, "runs/1-b" in last) == (True, False, False)
    assert tree(tmp_path / "boards") == {}


def test_dirty_runs_can_be_allowed_and_mark_the_row(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, [valid_record(seed=0, dirty=True)], allow_dirty=True)
    add_all(boards, [valid_record(seed=1)])
    assert [(row["dirty"], row["n_seeds"]) for row in rows_of(boards)] == [("true", "2")]


@pytest.mark.parametrize("where", ["stored", "given together"])
def test_one_id_with_two_contents_is_refused(tmp_path, where):
    boards, record = tmp_path / "boards", valid_record()
    one = put(tmp_path / "one", record)
    other = put(tmp_path / "other", dataclasses.replace(record, seconds={"train": 1.0, "embed": 1.0}))
    first = boards / "records" / "synthetic" / record.id[:12] if where == "stored" else tmp_path / "one"
    if where == "stored":
        add([one], boards)
    before = tree(boards)
    with pytest.raises(DataError, match=rf"{tmp_path}/other: is run {record.id[:12]} with other content than {first};"):
        add([other] if where == "stored" else [one, other], boards)
    assert tree(boards) == before


def test_one_record_with_two_rankings_is_refused(tmp_path):
    boards, record = tmp_path / "boards", valid_record()
    add([put(tmp_path / "one", record)], boards)
    ranking = ranking_for(record.job)
    farther = dataclasses.replace(ranking, distances=2 * ranking.distances, top_distances=2 * ranking.top_distances)
    with pytest.raises(DataError, match="with other content than"):
        add([put(tmp_path / "two", record, farther)], boards)


def test_seeds_of_different_code_are_noted(tmp_path):
    newer = valid_record(seed=1, code_files={"reidbench/ranking.py": digest("edited")})
    add_all(tmp_path / "boards", [valid_record(seed=0), newer])
    rows = rows_of(tmp_path / "boards")
    assert [(row["n_seeds"], row["notes"]) for row in rows] == [("2", "seeds made by different code")]


@pytest.mark.parametrize("content", [b"\xff", b"a,b\n1,2\n"])
def test_a_file_that_is_no_leaderboard_is_left_alone(tmp_path, content):
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "synthetic.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"synthetic\.csv: (is no|cannot)"):
        add_all(boards, [valid_record()])
    assert tree(boards) == {"synthetic.csv": content}


def test_a_folder_instead_of_a_csv_is_named(tmp_path, reidbench_main):
    add_all(tmp_path / "boards", [valid_record("one")])
    (tmp_path / "boards" / "synthetic.csv").unlink()
    (tmp_path / "boards" / "synthetic.csv").mkdir()
    run, folder = str(tmp_path / "runs" / "0-one"), ("--folder", str(tmp_path / "boards"))
    for command in (("add", run), ("merge",), ("html", str(tmp_path / "site"))):
        code, output = reidbench_main("leaderboard", *command, *folder)
        assert (code, "Traceback" in output) == (2, False)
        assert "synthetic.csv: cannot be read" in output
    (problem,) = check(tmp_path / "boards")
    assert (problem.file.name, problem.text[:14]) == ("synthetic.csv", "cannot be read")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (valid_record(scores={"r1": 3.0}).to_json(), r"record\.json: scores\.r1"),
        ("{}", r"record\.json: is no run record: schema is missing"),
    ],
)
def test_a_damaged_stored_record_is_named(tmp_path, content, named):
    boards = tmp_path / "boards"
    add_all(boards, [valid_record("a")])
    next((boards / "records" / "synthetic").iterdir()).joinpath("record.json").write_text(content)
    with pytest.raises(DataError, match=rf"nothing was added:\n.*{named}"):
        add_all(boards, [valid_record("b")])


# --- merge -----------------------------------------------------------------------------------------------------------


def test_a_folder_of_another_leaderboard_is_added(tmp_path):
    submitters = [[valid_record("one"), valid_record("two")], [valid_record("two"), valid_record("two", 1)]]
    for number, records in enumerate(submitters):
        add_all(tmp_path / str(number) / "boards", records)
    for number, order in enumerate(([0, 1], [1, 0])):
        for source in order:
            add(Store(Path()).records([tmp_path / str(source) / "boards"]), tmp_path / f"joined{number}")
    assert tree(tmp_path / "joined0") == tree(tmp_path / "joined1")
    assert [(row["loss"], row["n_seeds"]) for row in rows_of(tmp_path / "joined0")] == [("one", "1"), ("two", "2")]
    assert check(tmp_path / "joined0") == []


def test_merge_refuses_what_check_refuses(tmp_path):
    """A stand-in among the real data, a record in another's folder, rankings of another run."""
    add_all(tmp_path / "boards", [valid_record("one", standin=True), valid_record("two", standin=True)])
    (tmp_path / "boards" / "records" / "synthetic.standin").rename(tmp_path / "boards" / "records" / "synthetic")
    (tmp_path / "boards" / "synthetic.standin.csv").rename(tmp_path / "boards" / "synthetic.csv")
    before = tree(tmp_path / "boards")
    with pytest.raises(DataError, match=r"record\.json: standin .*synthetic\.standin\.csv.* synthetic\.csv"):
        merge(tmp_path / "boards")
    assert tree(tmp_path / "boards") == before
    add_all(tmp_path / "other", [valid_record("one")])
    home = next((tmp_path / "other").glob("records/*/*"))
    home.rename(home.with_name("000000000000"))
    with pytest.raises(DataError, match="but its folder is named 000000000000"):
        merge(tmp_path / "other")
    add_all(tmp_path / "swapped", [valid_record("one"), valid_record("two")])
    one, two = (tmp_path / "swapped").glob("records/*/*/rankings.npz")
    one.write_bytes(two.read_bytes())
    with pytest.raises(DataError, match="but the rankings give"):
        merge(tmp_path / "swapped")


def test_merge_derives_a_csv_with_git_conflicts(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, three_by_two())
    file = boards / "synthetic.csv"
    good = file.read_text()
    lines = good.splitlines(keepends=True)
    file.write_text("".join([lines[0], "<<<<<<< ours\n", lines[1], "=======\n", lines[2], ">>>>>>> theirs\n"]))
    merge(boards)
    assert file.read_text() == good


# --- several at once, and kills --------------------------------------------------------------------------------------

ADD = """
import sys
from pathlib import Path
from reidbench.leaderboard.board import add
from reidbench.runs.store import Store
records = Store(Path()).records([Path(sys.argv[2])])
for some in [records] if sys.argv[3] == "together" else [[record] for record in records]:
    add(some, Path(sys.argv[1]))
"""


def start(boards: Path, runs: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADD, str(boards), str(runs), how], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(("processes", "rows"), [(2, 3), pytest.param(10, 20, marks=pytest.mark.slow)])
def test_processes_that_add_at_once_lose_nothing(tmp_path, processes, rows):
    records = [valid_record(f"loss{process}(x={n})") for process in range(processes) for n in range(rows)]
    for number, record in enumerate(records):
        put(tmp_path / "runs" / str(number // rows) / str(number % rows), record)
    boards, alone = tmp_path / "boards", tmp_path / "alone"
    running = [start(boards, tmp_path / "runs" / str(process), "one by one") for process in range(processes)]
    assert [process.wait(timeout=1_200) for process in running] == [0] * processes
    add(Store(Path()).records([tmp_path / "runs"]), alone)
    assert len(rows_of(boards)) == processes * rows
    assert tree(boards) == tree(alone)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_the_file_whole(tmp_path):
    boards = tmp_path / "boards"
    add_all(boards, [valid_record("first")])
    for number in range(150):
        put(tmp_path / "many" / str(number), valid_record(f"loss(x={number})"))
    interrupted = 0
    for patience in (2, 20, 60, 120):
        process = start(boards, tmp_path / "many", "together")
        while process.poll() is None and len(list(boards.glob("records/*/*/record.json"))) < patience:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
        stored = {read_record(file).group for file in boards.glob("records/*/*/record.json")}
        rows = {row["config_hash"] for row in rows_of(boards)}
        assert len(rows) in (1, 151)
        assert rows <= stored, "a row is written after its record"
    assert interrupted, "every add was faster than its kill: nothing was tested"
    assert start(boards, tmp_path / "many", "together").wait() == 0
    assert len(rows_of(boards)) == 151
    assert check(boards) == []
    assert not list(boards.rglob("*.tmp"))
