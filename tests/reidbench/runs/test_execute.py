"""All jobs of a call: what is computed and read once, and the Python call beside the command line."""

import dataclasses
import functools
import os
import sys
from collections import Counter
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import reidbench
from reidbench import Backbone, Loss, Preprocess, TrainInfo
from reidbench.errors import DataError, OptionError, PluginError
from reidbench.leaderboard.check_record import record_problems
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan, read_request
from reidbench.runs.provenance import local_loss
from reidbench.runs.record import RECORD, RunRecord
from reidbench.runs.store import Store
from reidbench.utils.machine import Machine, local_machine
from tests.support.jobs import SMALL_PROTOCOL, SMALL_RECIPE, job, small_run

SMALL = {"protocol": SMALL_PROTOCOL, "backbone": "tiny", "recipe": SMALL_RECIPE, "device": "cpu", "threads": 1}


class Counting(Backbone):
    """A pretrained network that counts its constructions, by device, and the loads of its weights."""

    embedding_dim = 8
    pretrained = True
    built: ClassVar[Counter[str]] = Counter()
    loads: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(32, 16)
        self.linear = nn.Linear(3, 8)
        self.built[self.linear.weight.device.type] += 1

    def initialise(self) -> None:
        self.loads.append(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean((2, 3)))


class Point(Counting):
    """A network that maps all images to nearly one point."""

    def forward(self, images: Tensor) -> Tensor:
        return 1 + 1e-6 * super().forward(images)


class NotOnMeta(Counting):
    """A network whose constructor reads the values of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = float(self.linear.weight.max())


def catalogue() -> Catalogue:
    plugin = Plugin("counting", "counting", "1.0", "ok", module=__name__)
    factories = {"counting": Counting, "not_on_meta": NotOnMeta, "point": Point}
    items = [PluginItem("backbone", name, factory, plugin) for name, factory in factories.items()]
    return dataclasses.replace(load(), items=(*load().items, *items))


@pytest.fixture(autouse=True)
def _reset_counters():
    Counting.built.clear()
    Counting.loads.clear()


@pytest.fixture
def machine():
    return local_machine(device="cpu", threads=1)


def run_all(machine: Machine, **changes) -> list[RunRecord]:
    plan = make_plan(Request([job(**changes)]), machine, catalogue())
    return [record for _, record in execute(plan)]


def test_a_fresh_run_asks_each_question_once(machine, monkeypatch):
    reads: list[str] = []
    stats: Counter[str] = Counter()
    stat = os.stat

    def counted_stat(path, *arguments, **options):
        stats[str(path)] += str(path).endswith((".png", ".jpg"))
        return stat(path, *arguments, **options)

    run_all(machine, loss="none")  # draws the dataset
    _reset_counters.__wrapped__()
    from_json = RunRecord.from_json

    def counted_read(text, source):
        reads.append(source)
        return from_json(text, source)

    monkeypatch.setattr(RunRecord, "from_json", counted_read)
    monkeypatch.setattr(os, "stat", counted_stat)
    (record,) = run_all(machine, backbone="counting")
    assert record.status == "ok", record.error
    assert Counting.built == {"meta": 1, "cpu": 1}
    assert len(Counting.loads) == 1
    assert not reads
    assert max(stats.values()) == 1, "each image file is looked up once"
    assert [again.id for again in run_all(machine, backbone="counting")] == [record.id]
    assert len(reads) <= 2, "a finished run is read for the plan, and once more under the lock"


def test_seeds_load_the_weights_once_each(machine):
    plan = make_plan(Request([job(backbone="counting", seed=seed) for seed in (0, 1)]), machine, catalogue())
    assert [record.status for _, record in execute(plan)] == ["ok", "ok"]
    assert Counting.built == {"meta": 1, "cpu": 2}
    assert len(Counting.loads) == 2


def test_a_network_that_cannot_be_built_on_meta_runs(machine):
    (record,) = run_all(machine, backbone="not_on_meta")
    assert record.status == "ok", record.error
    assert Counting.built["cpu"] == 2


def test_a_collapsed_run_is_scored_and_refused_by_leaderboards(machine):
    (record,) = run_all(machine, backbone="point")
    assert (record.status, record.observed.verdict, record.observed.packed_steps) == ("collapsed", "collapsed", 4)
    assert 0 < record.scores["map_market"] < 0.2
    assert run_all(machine, backbone="point") == [record]
    assert "status" in [field for field, _ in record_problems(record)]


def test_missing_weights_end_a_call_before_its_first_run(machine, monkeypatch):
    def fail(self):
        raise DataError("no weights")

    monkeypatch.setattr(Counting, "initialise", fail)
    plan = make_plan(Request([job(), job(backbone="counting")]), machine, catalogue())
    with pytest.raises(DataError, match="no weights"):
        next(execute(plan))
    assert not Store(machine.results).records()


# --- the Python call -------------------------------------------------------------------------------------------------


def comparable(record: RunRecord) -> dict[str, object]:
    """Return a record without its times."""
    fields = dataclasses.asdict(record)
    return {name: fields[name] for name in fields if name not in ("seconds", "started", "finished", "peak_memory_mib")}


def test_python_and_the_command_line_leave_the_same_records(tmp_path, reidbench_call):
    losses = ["none", "batch_hard(margin=0.2)"]
    records = reidbench.run(loss=losses, seed=[0, 1], results=tmp_path / "python", **SMALL)
    flags = [f"--{key}={value}" for key, values in {"loss": losses, "seed": [0, 1]}.items() for value in values]
    reidbench_call(*small_run(*flags, "--results", str(tmp_path / "shell")))
    by_id = {record.id: record for _, record in Store(tmp_path / "shell").records()}
    assert [comparable(record) for record in records] == [comparable(by_id[record.id]) for record in records]
    frame = records.to_frame()
    assert frame["loss"].tolist() == ["none", "none", "batch_hard(margin=0.2)", "batch_hard(margin=0.2)"]
    assert frame["seed"].tolist() == [0, 1, 0, 1]
    assert frame["map_market"].tolist() == [record.scores["map_market"] for record in records]
    assert frame["id"].tolist() == [record.id for record in records]


FACTOR = 2.0


def halved(value: Tensor) -> Tensor:
    return value / FACTOR


class Norms(Loss):
    """Pulls embeddings to zero."""

    def __init__(self, info: TrainInfo, *, power: int = 2) -> None:
        super().__init__()
        self.power = power

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return halved(embeddings.abs() ** self.power).sum(1)


def test_a_loss_class_runs_under_its_own_name():
    (record,) = reidbench.run(loss=Norms, **SMALL)
    assert record.status == "ok", record.error
    assert record.items["loss"].spec == "Norms(power=2)"
    (again,) = reidbench.run(loss=Norms, **SMALL)
    assert again == record
    both = reidbench.run(loss=["none", functools.partial(Norms, power=4)], **SMALL)
    assert [each.items["loss"].short for each in both] == ["none", "Norms"]
    assert both[1].train_id != record.train_id


def test_a_loss_of_what_its_module_changes_is_trained_again(monkeypatch):
    (record,) = reidbench.run(loss=Norms, **SMALL)
    monkeypatch.setitem(globals(), "FACTOR", 4.0)
    (other,) = reidbench.run(loss=Norms, **SMALL)
    assert other.id == record.id
    assert other.code != record.code


def test_a_loss_without_source_is_never_reused():
    namespace: dict[str, type[Loss]] = {}
    exec(
        "import reidbench\nclass Hidden(reidbench.Loss):\n"
        "    def __init__(self, info):\n        super().__init__()\n"
        "    def forward(self, embeddings, labels):\n        return embeddings.square().sum(1)\n",
        namespace,
    )
    first, second = (reidbench.run(loss=namespace["Hidden"], **SMALL)[0] for _ in range(2))
    assert first.scores == second.scores
    assert first.code != second.code


WEIGHTS = torch.ones(8)


def test_a_loss_that_uses_an_object_is_never_reused():
    class Weighted(Norms):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return (embeddings * WEIGHTS).sum(1)

    first, second = (local_loss(Weighted).plugin.version for _ in range(2))
    assert first != second
    assert local_loss(Norms).plugin.version == local_loss(Norms).plugin.version


NESTED = [{"loss": [["batch_hard"]]}, {"loss": 3}, {"backbone": [["tiny"]]}]


@pytest.mark.parametrize("given", [{"loss": []}, {"seed": []}, {"seed": 1.5}, {"seed": "1"}, {"backbone": []}, *NESTED])
def test_wrong_lists_are_refused_by_name(given):
    with pytest.raises(OptionError, match=rf"^{next(iter(given))}"):
        reidbench.run(**given)


def test_wrong_loss_objects_are_refused_by_name():
    class batch_hard(Norms):  # noqa: N801 - the name of a plugin's loss
        pass

    with pytest.raises(OptionError, match="batch_hard"):
        reidbench.run(loss=batch_hard, **SMALL)

    class NoInfo(Loss):
        pass

    with pytest.raises(PluginError, match="NoInfo"):
        reidbench.run(loss=NoInfo, **SMALL)


def test_a_record_of_a_loss_object_cannot_be_reproduced(tmp_path):
    (record,) = reidbench.run(loss=Norms, **SMALL)
    file = tmp_path / RECORD
    file.write_text(record.to_json())
    with pytest.raises(DataError, match="Norms"):
        read_request(str(file), {})
    assert [field for field, _ in record_problems(record, allow_dirty=True)] == ["items.loss.plugin"]


def test_batches_without_pairs_teach_nothing_and_the_record_says_so():
    class Pull(Norms):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            pairs = (labels[:, None] == labels).triu(1)
            return ((embeddings[:, None] - embeddings).square().sum(2) * pairs).sum()

    (record,) = reidbench.run(loss=Pull, **SMALL | {"recipe": "quick(steps=2, p=4, k=1)"})
    assert (record.status, record.observed.verdict, record.scored) == ("no_gradient", "no_gradient", True)
    assert "all 2 steps" in record.error
    assert [field for field, _ in record_problems(record)] == ["status"]


def test_collapsed_or_failed_runs_are_among_the_records():
    class Nan(Norms):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum(1) * torch.nan

    class Exits(Nan):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            sys.exit(0)

    records = reidbench.run(loss=[Nan, Exits, "none"], **SMALL)
    assert records[1].error.startswith("SystemExit: 0")
    assert [record.status for record in records] == ["failed", "failed", "ok"]
    assert records.to_frame()["status"].tolist() == ["failed", "failed", "ok"]
