"""What is false is caught: in the files alone, against the lists, and when several people's files are joined."""

from __future__ import annotations

import csv
import io
import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidbench.errors import DataError
from reidbench.leaderboard.board import add, merge
from reidbench.leaderboard.check_board import check
from reidbench.leaderboard.verify import verify
from reidbench.plugins.catalogue import build, load
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import scores_at
from reidbench.runs.job import Job
from reidbench.runs.prepare import Planner
from reidbench.runs.record import ItemRecord, RunRecord, read_record
from reidbench.utils.machine import local_machine
from tests.support.boards import (
    add_all,
    edit_record,
    follow_from,
    follow_from_ranking,
    put,
    ranking_for,
    rows_of,
    sound,
    tree,
)
from tests.support.paths import CHECKOUT
from tests.support.rankings import rank
from tests.support.records import COUNTS, make_item, replace_parts

PROTOCOL = "synthetic(identities=12, cameras=3)"


def edit(boards: Path, column: str, text: str | Callable[[str], str], row: int = 0) -> None:
    """Edit one cell of the CSV as somebody with an editor would."""
    file = boards / "synthetic.csv"
    rows = list(csv.reader(io.StringIO(file.read_text())))
    place = rows[0].index(column)
    rows[row + 1][place] = text(rows[row + 1][place]) if callable(text) else text
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    file.write_text(out.getvalue())


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    add_all(tmp_path / "boards", [sound("one(margin=0.2)"), sound("two"), sound("two", 1)])
    return tmp_path / "boards"


def test_what_add_makes_is_right_and_the_repositorys_own_boards_too(boards: Path) -> None:
    assert check(boards) == []
    assert check(CHECKOUT / "leaderboards") == []


@pytest.mark.parametrize(
    ("column", "text", "said"),
    [
        ("r1", "0.990000", "2: r1 is '0.990000', but its records give"),
        ("map_step", "0.000000", "2: map_step is '0.000000', but"),
        ("r5", "1.200000", "2: r5 is '1.200000', but"),
        ("minp", "0.5", "2: minp is '0.5', but"),
        ("tier", "reproduced", "2: tier is 'reproduced', but its records give 'self-reported'"),
        ("notes", "=cmd|'/C calc'!A0", '2: notes is "=cmd.*, but'),
        ("gpu", "@SUM(A1)", "2: gpu is '@SUM.*, but"),
        ("gpu", "a\u202eb", r"2: gpu is 'a\\u202eb', but"),
        ("loss_params", "margin=0.9", "2: loss_params is 'margin=0.9', but its records give 'margin=0.2'"),
        ("protocol", "market1501@1", "2: protocol is 'market1501@1', but its records give 'synthetic@1'"),
        ("protocol", "synthetic@2", "2: protocol is 'synthetic@2', but its records give 'synthetic@1'"),
        ("config_hash", "0" * 64, "2: config_hash '000000000000' has no valid record"),
        ("config_hash", "x", "2: config_hash 'x' has no valid record"),
        ("track", "zzz", "2: track is 'zzz', but"),
        ("notes", "[bold]" + "x" * 10_000, "2: notes is .*, but its records give ''"),
    ],
)
def test_an_edited_cell_is_caught_with_line_and_column(boards: Path, column: str, text: str, said: str) -> None:
    edit(boards, column, text)
    findings = [str(finding) for finding in check(boards)]
    assert any(re.search(f"synthetic\\.csv:?({said}|.*{said})", finding) for finding in findings), findings
    assert all(len(finding) < 600 for finding in findings)


def test_copied_and_torn_rows_are_caught(boards: Path) -> None:
    file = boards / "synthetic.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[1], lines[2].replace("0.", "0.", 1)[:40] + "\n"]))
    said = "\n".join(map(str, check(boards)))
    assert f"{file}:4: config_hash is that of line 2 too: a copied row" in said
    assert f"{file}:5: holds " in said
    other = lines[1].replace(rows_of(boards)[0]["config_hash"], "f" * 64)
    file.write_text("".join([*lines, other]))
    assert f"{file}:4: config_hash 'ffffffffffff' has no valid record" in "\n".join(map(str, check(boards)))


def test_all_findings_are_listed_at_once_and_the_command_ends_with_1(
    boards: Path, reidbench_process: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    edit(boards, "tier", "consistent", row=1)
    edit(boards, "r1", "0.010000", row=1)
    edit_record(boards, lambda data: data["job"].update(seed=5))
    ended = reidbench_process("leaderboard", "check", "--folder", str(boards))
    assert ended.returncode == 1
    assert "2: config_hash" in ended.stdout  # the row of the edited record
    assert "3: tier" in ended.stdout
    assert "3: r1" in ended.stdout
    assert "record.json" in ended.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda data: data["scores"].update(r5=1.0, r1=1.0, r10=1.0, r20=1.0),
            "scores.r1 is 1.0, but the rankings give",
        ),
        (lambda data: data["items"]["recipe"].update(spec="quick(steps=9)"), "but the options, data and seed give"),
        (lambda data: data["evaluation"].update(version=2), "id is "),
        (lambda data: data["code_files"].update(x="y"), "code is not the digest"),
        (lambda data: data.update(standin=True), "standin belongs to synthetic.standin.csv"),
        (lambda data: data.update(status="failed"), "status is failed"),
        (lambda data: data.update(tier="reproduced"), "tier is unknown"),
    ],
)
def test_an_edited_record_is_caught_with_its_line(
    boards: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    file = edit_record(boards, change)
    found = [finding for finding in check(boards) if finding.file == file and said in str(finding)]
    assert found
    if found[0].column:
        key = found[0].column.rpartition(".")[2]
        assert f'"{key}":' in file.read_text().splitlines()[found[0].line - 1]


def test_swapped_and_missing_rankings_are_caught(boards: Path) -> None:
    files = sorted(boards.glob("records/*/*/rankings.npz"))
    contents = [file.read_bytes() for file in files]
    files[0].write_bytes(contents[1])
    files[1].unlink()
    said = "\n".join(map(str, check(boards)))
    assert "but the rankings give" in said
    assert f"{files[1]}: is missing" in said


def test_merging_gives_the_same_bytes_in_any_order_and_loses_nothing(tmp_path: Path) -> None:
    people = [[sound("one"), sound("two")], [sound("two"), sound("two", 1)], [sound("three", standin=True)]]
    for number, records in enumerate(people):
        add_all(tmp_path / str(number) / "boards", records)
    folders = [tmp_path / str(number) / "boards" for number in range(3)]
    trees = []
    for number, order in enumerate(itertools.permutations(folders)):
        merge(order, tmp_path / f"merged{number}")
        trees.append(tree(tmp_path / f"merged{number}"))
    assert all(each == trees[0] for each in trees)
    assert [(row["loss"], row["n_seeds"]) for row in rows_of(tmp_path / "merged0")] == [("one", "1"), ("two", "2")]
    assert len(rows_of(tmp_path / "merged0", "synthetic.standin")) == 1
    assert check(tmp_path / "merged0") == []


def test_conflicts_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / "boards", tmp_path / "2" / "boards"
    add_all(one, [sound("one")])
    add_all(two, [sound("one", seconds={"train": 9.0, "embed": 9.0}), sound("two")])
    with pytest.raises(DataError, match=r"nothing was merged:\n.* is run \w{12} with other content than"):
        merge([one, two], tmp_path / "merged")
    assert not list((tmp_path / "merged").rglob("*.csv"))
    for file in next(two.glob("records/synthetic/*")).iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"synthetic\.csv: the row with config_hash '\w{12}' has no record"):
        merge([two], tmp_path / "merged")


def test_after_a_conflict_in_git_the_file_is_made_anew(boards: Path) -> None:
    file = boards / "synthetic.csv"
    good = file.read_text()
    lines = good.splitlines(keepends=True)
    file.write_text("".join([lines[0], "<<<<<<< ours\n", lines[1], "=======\n", lines[2], ">>>>>>> theirs\n"]))
    merge([], boards)
    assert file.read_text() == good


# --- against the lists -----------------------------------------------------------------------------------------------


NETWORK = ("embedding_dim", "parameters", "pretrained")


@cache
def planner(data: Path) -> Planner:
    return Planner(load(), local_machine(data=data))


def listed(data: Path, loss: str, seed: int = 0) -> tuple[RunRecord, Ranking]:
    """Return a record of drawn data, as a run would leave it, with the ranking of made-up embeddings."""
    plan = planner(data).plan(Job(PROTOCOL, loss, "tiny", "quick(steps=1, p=4)", "auto", "none", seed))
    query, gallery = plan.split.query, plan.split.gallery
    generator = np.random.default_rng([len(loss), seed])
    people = generator.normal(size=(int(gallery.pids.max()) + 2, 16))
    embeddings = [
        torch.from_numpy(people[part.pids] + generator.normal(size=(len(part), 16))) for part in (query, gallery)
    ]
    ids = (query.pids, query.cams, gallery.pids, gallery.cams)
    ranking = rank(embeddings[0], embeddings[1], *ids, build("metric", "euclidean"), exclude=plan.protocol.exclude)
    items = {
        kind: ItemRecord(
            asdict(plan.job).get(kind, item.given), item.text, item.short, item.origins, "p", "reidbench", "0.1.0"
        )
        for kind, item in plan.items.items()
    }
    record = replace_parts(
        sound(loss, seed),
        job=plan.job,
        items=items,
        **follow_from(ranking, query.pids, query.cams, gallery.cams),
        dataset={"digest": plan.split.digest, "train_digest": plan.split.train.digest, "counts": plan.split.counts},
        recipe=plan.recipe,
        network={name: getattr(plan.info, name) for name in NETWORK},
        evaluation={"views": plan.protocol.views, "pool": plan.pool, "version": plan.protocol.version},
    )
    ids_of_plan = {"id": plan.id, "train_id": plan.train_id, "group": plan.group}
    assert asdict(record.identity()) == ids_of_plan
    return replace(record, **ids_of_plan), ranking


def publish(tmp_path: Path, runs: list[tuple[RunRecord, Ranking]], **options: bool) -> Path:
    folders = [put(tmp_path / "runs" / f"{number}{'again' * bool(options)}", *run) for number, run in enumerate(runs)]
    add(folders, tmp_path / "boards", **options)
    return tmp_path / "boards"


def test_rankings_of_the_lists_make_rows_consistent_and_those_made_again_reproduced(
    tmp_path: Path, data_folder: Path
) -> None:
    runs = [listed(data_folder, "batch_hard", seed) for seed in range(2)]
    boards = publish(tmp_path, [*runs, listed(data_folder, "classification")])
    found = verify(boards, planner(data_folder))
    assert found.problems == []
    assert sorted(found.tiers.values()) == ["consistent", "consistent"]
    again = [(replace(record, started="2026-11-22T10:00:01+00:00"), ranking) for record, ranking in runs]
    with pytest.raises(DataError, match=r"is the run .* itself"):
        publish(tmp_path, runs[:1], again=True)
    publish(tmp_path, again[:1], again=True)
    assert verify(boards, planner(data_folder)).tiers[runs[0][0].group] == "consistent"  # one of two seeds
    publish(tmp_path, again, again=True)
    found = verify(boards, planner(data_folder))
    assert (found.problems, found.tiers[runs[0][0].group]) == ([], "reproduced")
    assert check(boards) == []
    assert [row["tier"] for row in rows_of(boards)] == ["self-reported"] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faithful": True}, "faithful"),
        ({"recipe": {"steps": 25_000}}, "recipe.steps"),
        ({"network": {"parameters": 1}}, "network.parameters"),
        ({"intervals": {name: [0.0, 1.0] for name, score in scores_at().items() if score.with_interval}}, "intervals"),
        ({"dataset": {"counts": COUNTS}}, "dataset.counts"),
    ],
)
def test_what_the_items_do_not_give_is_caught(
    tmp_path: Path, data_folder: Path, changes: dict[str, Any], said: str
) -> None:
    record, ranking = listed(data_folder, "batch_hard")
    boards = publish(tmp_path, [(replace_parts(record, **changes), ranking)])
    found = verify(boards, planner(data_folder))
    assert [finding.column for finding in found.problems] == [said]
    assert set(found.tiers.values()) == {"self-reported"}


def test_a_mark_that_the_lists_do_not_bear_out_is_caught(tmp_path: Path, data_folder: Path) -> None:
    record, ranking = listed(data_folder, "batch_hard")
    boards = publish(tmp_path, [(replace(record, standin=True), ranking)])
    assert [file.name for file in boards.glob("*.csv")] == ["synthetic.standin.csv"]
    found = verify(boards, planner(data_folder))
    assert ["standin", "is True, but the lists and the run's items give False"] in [
        [f.column, f.text] for f in found.problems
    ]
    assert set(found.tiers.values()) == {"self-reported"}


def test_a_run_made_again_with_other_scores_reproduces_nothing(tmp_path: Path, data_folder: Path) -> None:
    first, ranking = listed(data_folder, "batch_hard")
    boards = publish(tmp_path, [(first, ranking)])
    other, farther = listed(data_folder, "batch_hard", seed=1)
    second = replace(first, scores=other.scores, intervals=other.intervals, started="2026-11-22T10:00:01+00:00")
    publish(tmp_path, [(second, farther)], again=True)
    found = verify(boards, planner(data_folder))
    assert found.tiers[first.group] == "consistent"
    assert any("not reproduced" in note and "of 1 seed are 0.000000" in note for note in found.notes)


def fewer_queries(ranking: Ranking) -> Ranking:
    stop, hidden = ranking.starts[-2], ranking.same_camera_starts[-2]
    return Ranking(
        ranking.starts[:-1], ranking.units[:stop], ranking.ranks[:stop], ranking.distances[:stop],
        ranking.same_camera_starts[:-1], ranking.same_camera_units[:hidden], ranking.same_camera_ranks[:hidden],
        ranking.same_camera_distances[:hidden], ranking.ranked[:-1], ranking.top[:-1], ranking.top_distances[:-1],
    )  # fmt: skip


def other_positives(ranking: Ranking) -> Ranking:
    units, top = ranking.units.copy(), ranking.top.copy()
    wrong = units[-1]
    top[0][top[0] == units[0]] = wrong
    units[0] = wrong
    return replace(ranking, units=units, top=top)


def junk_on_top(ranking: Ranking) -> Ranking:
    top = ranking.top.copy()
    place = int(np.flatnonzero(~np.isin(top[0], ranking.units[: ranking.starts[1]]))[0])
    top[0, place] = 10**6
    return replace(ranking, top=top)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fewer_queries, "queries, the lists have"),
        (other_positives, "query 0 has other positives than the lists"),
        (junk_on_top, "its closest items are not all in what the protocol ranks"),
        (lambda r: replace(r, ranked=r.ranked + 1), "has another number of ranked items than the lists give"),
    ],
)
def test_rankings_that_do_not_come_from_the_lists_are_caught(
    tmp_path: Path, data_folder: Path, change: Callable[[Ranking], Ranking], said: str
) -> None:
    record, ranking = listed(data_folder, "batch_hard")
    forged = change(ranking)
    query, gallery = (getattr(planner(data_folder).plan(record.job).split, name) for name in ("query", "gallery"))
    follow = follow_from(forged, query.pids[: len(forged)], query.cams[: len(forged)], gallery.cams)
    boards = publish(tmp_path, [(replace(record, **follow), forged)])
    found = verify(boards, planner(data_folder))
    assert any(said in finding.text for finding in found.problems), found.problems
    assert found.tiers[record.group] == "self-reported"


def test_a_ranking_in_two_rows_is_named(tmp_path: Path, data_folder: Path) -> None:
    (one, ranking), (two, _) = listed(data_folder, "batch_hard"), listed(data_folder, "classification")
    boards = publish(
        tmp_path,
        [(one, ranking), (replace(two, scores=one.scores, intervals=one.intervals, cameras=one.cameras), ranking)],
    )
    assert check(boards) == []
    (finding,) = verify(boards, planner(data_folder)).problems
    assert "ranks exactly as" in finding.text


def test_rows_whose_lists_are_not_here_stay_self_reported(tmp_path: Path) -> None:
    record = sound("one", items={"protocol": make_item("market1501")})
    add_all(tmp_path / "boards", [record])
    found = verify(tmp_path / "boards", Planner(load(), local_machine(data=tmp_path / "empty")))
    assert found.tiers == {record.group: "self-reported"}
    assert "market1501: not verified, its lists are not here" in found.notes[0]


# --- many at once ----------------------------------------------------------------------------------------------------

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


def added_at_once(tmp_path: Path, processes: int, rows: int) -> None:
    ranking = ranking_for(sound().job)
    same = follow_from_ranking(sound().job)
    for process in range(processes):
        for number in range(rows):
            record = sound(f"loss{process}(x={number})", **same)
            put(tmp_path / "runs" / str(process) / str(number), record, ranking)
    boards = tmp_path / "boards"
    running = [start(boards, tmp_path / "runs" / str(process), "one by one") for process in range(processes)]
    assert [process.wait(timeout=500) for process in running] == [0] * processes
    assert len(rows_of(boards)) == processes * rows
    assert check(boards) == []


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    added_at_once(tmp_path, 2, 3)


@pytest.mark.slow
def test_ten_processes_that_add_twenty_rows_each_lose_nothing(tmp_path: Path) -> None:
    added_at_once(tmp_path, 10, 20)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_the_file_whole(tmp_path: Path) -> None:
    boards, ranking, same = tmp_path / "boards", ranking_for(sound().job), follow_from_ranking(sound().job)
    add_all(boards, [sound("first")])
    for number in range(150):
        put(tmp_path / "many" / str(number), sound(f"loss(x={number})", **same), ranking)
    interrupted = 0
    for patience in (2, 20, 60, 120):
        process = start(boards, tmp_path / "many", "together")
        while process.poll() is None and len(list(boards.glob("records/*/*/record.json"))) < patience:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
        kept = {read_record(file).group for file in boards.glob("records/*/*/record.json")}
        rows = {row["config_hash"] for row in rows_of(boards)}
        assert len(rows) in (1, 151)
        assert rows <= kept, "a row is written after its record"
    assert interrupted, "every add was faster than its kill: nothing was tested"
    assert start(boards, tmp_path / "many", "together").wait() == 0
    assert len(rows_of(boards)) == 151
    assert check(boards) == []
    assert not list(boards.rglob("*.tmp"))
