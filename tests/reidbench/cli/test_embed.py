"""Embedding a list into shards: the rows of one file, in tasks that are resumed and never mixed."""

import csv
from pathlib import Path

import numpy as np
import pytest

from reidbench import Executor, TaskState, build
from reidbench.cli.work import work
from reidbench.errors import DataError, ReidbenchError, TrainingError
from reidbench.runs.export import embed_list, embed_shards
from reidbench.runs.tasks import log_file
from reidbench.utils.machine import local_machine
from tests.support.jobs import job, run


class InThisProcess(Executor):
    """Executes tasks here by the verb ``work``."""

    tries = 2

    def __init__(self) -> None:
        self.executed: list[int] = []

    def run(self, tasks, folder):
        for task in tasks:
            self.executed.append(task.number)
            try:
                work(Path(task.arguments[1]), int(task.arguments[2]))
            except ReidbenchError as error:
                log_file(folder, task.number).write_text(f"{error}\n")
        yield {task.number: TaskState("ended") for task in tasks}


@pytest.fixture(scope="module")
def network(tmp_path_factory, data_folder):
    """The folder of a run, and a list of its 54 queries below the data folder's root."""
    folder = tmp_path_factory.mktemp("network")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        plan, _, _ = run(job(loss="none"), data=data_folder, results=folder / "results")
    query = plan.split.query
    with (folder / "list.csv").open("w", newline="") as file:
        cells = zip(query.images, query.pids, query.cams, strict=True)
        csv.writer(file).writerows([("path", "pid", "camid"), *cells])
    (folder / "root").symlink_to(query.root)
    return plan.run_folder, folder / "list.csv"


@pytest.fixture
def machine(network):
    return local_machine(device="cpu", threads=1, data=network[1].with_name("root"))


def test_shards_have_the_rows_of_one_file(network, machine, tmp_path, reidbench_main):
    out, executor = tmp_path / "shards", InThisProcess()
    files = list(embed_shards(*network, out, 4, machine, executor))
    assert [file.name for file in files] == [f"shard-000{number}.npy" for number in range(4)]
    embed_list(*network, tmp_path / "all.npz", machine)
    with np.load(tmp_path / "all.npz") as arrays:
        whole = dict(arrays)
    parts = [np.load(file, mmap_mode="r") for file in files]
    assert [part.dtype for part in parts] == [np.dtype(np.float32)] * 4
    assert np.array_equal(np.concatenate(parts), whole["embeddings"])
    lists = [list(csv.DictReader(file.with_suffix(".csv").read_text().splitlines())) for file in files]
    assert [len(each) for each in lists] == [len(part) for part in parts] == [14, 14, 13, 13]
    rows = [row for each in lists for row in each]
    assert [row["path"] for row in rows] == whole["paths"].tolist()
    assert [[int(row["pid"]), int(row["camid"])] for row in rows] == np.c_[whole["pids"], whole["cams"]].tolist()

    # The same command embeds what is missing, and nothing twice.
    before = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    again = list(embed_shards(*network, out, 4, machine, executor))
    assert sorted(again) == files
    assert executor.executed == [0, 1, 2, 3, 2]
    assert [file.stat().st_mtime_ns for file in files[:2]] == before[:2]

    code, error = reidbench_main("evaluate", f"--query={tmp_path / 'all.npz'}", f"--gallery={out / '*.npy'}")
    assert (code, error) == (0, "")


def test_shards_of_something_else_are_named(network, machine, tmp_path, monkeypatch):
    run_folder, images = network
    list(embed_shards(run_folder, images, tmp_path, 1, machine, InThisProcess()))
    shorter = tmp_path / "shorter.csv"
    shorter.write_text("".join(images.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"shards\.json.*images"):
        list(embed_shards(run_folder, shorter, tmp_path, 1, machine, InThisProcess()))
    with pytest.raises(DataError, match=r"shards\.json.*shards"):
        list(embed_shards(run_folder, images, tmp_path, 2, machine, InThisProcess()))
    monkeypatch.setattr("reidbench.runs.export.embedding_code", lambda backbone: {"reidbench/images/crop.py": "0"})
    with pytest.raises(DataError, match=r"shards\.json.*images/crop\.py"):
        list(embed_shards(run_folder, images, tmp_path, 1, machine, InThisProcess()))
    with pytest.raises(DataError, match=r"shards\.json.*images/crop\.py"):  # a task on a machine with other code
        work(next(tmp_path.glob("batches/*/shards.jsonl")), 0)


def test_shards_of_no_known_origin_are_refused(network, machine, tmp_path):
    np.save(tmp_path / "shard-0000.npy", np.ones((54, 128), np.float32))
    with pytest.raises(DataError, match=r"shards\.json"):
        list(embed_shards(*network, tmp_path, 1, machine, InThisProcess()))


def test_a_damaged_image_costs_its_shard_alone(network, machine, tmp_path):
    images = tmp_path / "mine"
    images.mkdir()
    for number, row in enumerate(csv.DictReader(network[1].read_text().splitlines())):
        (images / f"{number}.jpg").write_bytes((machine.data / row["path"]).read_bytes())
    (images / "3.jpg").write_bytes(b"no image")
    (images / "list.csv").write_text("path\n" + "".join(f"{number}.jpg\n" for number in range(6)))
    executor = InThisProcess()
    with pytest.raises(TrainingError, match=r"shard-0001.*3\.jpg"):
        list(embed_shards(network[0], images / "list.csv", tmp_path / "out", 3, machine, executor))
    assert executor.executed == [0, 1, 2]  # a further try would meet the same image
    assert sorted(file.name for file in (tmp_path / "out").glob("*.npy")) == ["shard-0000.npy", "shard-0002.npy"]


@pytest.mark.parametrize(("count", "text"), [(0, "leave it out"), (-1, "each of 54 images"), (55, "each of 54 images")])
def test_numbers_of_shards_are_checked(network, reidbench_main, tmp_path, count, text):
    flags = [f"--images={network[1]}", f"--out={tmp_path}", f"--data-root={network[1].with_name('root')}"]
    code, error = reidbench_main("embed", str(network[0]), *flags, f"--shards={count}", "--executor=local")
    assert code == 2
    assert text in error


@pytest.mark.slow  # two processes
def test_local_processes_embed_shards(network, machine, tmp_path):
    files = list(embed_shards(*network, tmp_path, 2, machine, build("executor", "local(workers=2)")))
    embed_list(*network, tmp_path / "all.npz", machine)
    with np.load(tmp_path / "all.npz") as whole:
        assert np.array_equal(np.concatenate([np.load(file) for file in sorted(files)]), whole["embeddings"])
