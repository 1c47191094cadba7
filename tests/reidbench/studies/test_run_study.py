"""A study that is interrupted, killed, or run by other processes ends with the table of an undisturbed one."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

import reidbench
from reidbench import Loss, TrainInfo
from reidbench.errors import Interrupted, OptionError
from reidbench.reports.sections import default_parts
from reidbench.reports.text_formats import to_terminal
from reidbench.runs.execute import read_choices
from reidbench.studies.define import define_study
from reidbench.studies.page import StudyFiles
from reidbench.studies.run_study import run_study
from reidbench.studies.trainings import Trainings
from reidbench.utils.machine import local_machine
from tests.plugins.test_ray import cluster  # noqa: F401
from tests.plugins.test_slurm import fake_slurm  # noqa: F401
from tests.support.executions import third_party_package
from tests.support.jobs import SMALL_PROTOCOL

RECIPE = "quick(steps=2, p=4, k=2)"


class MeanPull(Loss):
    """Pulls each image to its batch's mean."""

    def __init__(self, info: TrainInfo) -> None:
        super().__init__()

    def forward(self, embeddings, labels):
        return (embeddings - embeddings.mean(0)).square().sum(1)


class MeanPullAgain(MeanPull):
    """The same function by another name."""


@dataclass
class Log:
    """Lines of a study, the last of which interrupts it where there are ``most``."""

    most: int = 1000
    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) >= self.most:
            raise Interrupted("a signal")

    @property
    def trained(self) -> int:
        return sum(line.startswith("[") for line in self.lines)


def begin(folder, data, log, *, loss=None, trials=2, seeds=2, hours=None):
    losses = loss or ["batch_hard", MeanPull]
    choices, catalogue = read_choices({"loss": losses, "protocol": SMALL_PROTOCOL, "recipe": RECIPE})
    study = define_study(None, {**choices, "trials": trials, "seeds": seeds, "hours": hours})
    settings = {"data": data, "results": folder / "results", "cache": data / "cache"}
    machine = local_machine(device="cpu", threads=1, log=log, **settings)
    return run_study(Trainings(study, machine, catalogue, folder / "study"))


def table(result):
    files = StudyFiles(result, local_machine())
    return to_terminal(default_parts("study_sections", files.records, files))


def trials_of(result):
    """Return the lines about trials without what is measured."""
    lines = [json.loads(line) for line in (result.folder / "trials.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_folder):
    log = Log()
    return begin(tmp_path_factory.mktemp("undisturbed"), data_folder, log), log


def test_result_holds_trials_winners_and_finals(undisturbed):
    result, log = undisturbed
    assert [each.loss for each in result.losses] == ["batch_hard", "MeanPull", "none"]
    for each in result.losses[:2]:
        assert [(trial.search, trial.number) for trial in each.trials] == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert [winner.search for winner in each.winners] == [0, 1]
        for final, winner in zip(each.finals, each.winners, strict=True):
            job = final.record.job
            assert (job.protocol, job.seed) == (SMALL_PROTOCOL, winner.search)
            assert final.record.items["metric"].short == winner.metric
            assert {"loss": job.loss, "recipe": job.recipe} == {"loss": winner.loss_text, "recipe": winner.recipe_text}
        assert [final.record.items["metric"].short for final in each.defaults] == ["euclidean"] * 2
    untrained = result.losses[2]
    assert not untrained.trials
    assert [final.record.job.seed for final in untrained.finals] == [0, 1]
    lines = [json.loads(line) for line in (result.folder / "trials.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == ["batch_hard"] * 4 + ["MeanPull"] * 4
    assert all(line["self_reported"] and len(line["code"]) == 64 for line in lines)
    frame = result.to_frame()
    assert len(frame) == 2 * 2 * 2 + 2
    assert set(frame["tuning"]) == {"tuned", "default"}
    assert len(result.trials_frame()) == 8
    assert log.trained == len({line.partition("] ")[2] for line in log.lines if line.startswith("[")})


def test_interrupted_twice_it_ends_the_same_and_trains_nothing_again(undisturbed, tmp_path, data_folder):
    result, whole = undisturbed
    logs = [Log(most) for most in (3, 8, 1000)]
    for log in logs[:2]:
        with pytest.raises(Interrupted):
            begin(tmp_path, data_folder, log)
    resumed = begin(tmp_path, data_folder, logs[2])
    assert table(resumed) == table(result)
    assert trials_of(resumed) == trials_of(result)
    lines, expected = (
        [line.partition(", about ")[0] for log in each for line in log.lines if line[0] == "["]  # without the time left
        for each in (logs, [whole])
    )
    assert lines == expected


def test_when_the_hours_are_over_the_complete_seeds_are_compared(undisturbed, tmp_path, data_folder):
    result, _ = undisturbed
    shutil.copytree(result.folder.parent / "results", tmp_path / "results")
    for each in result.losses[1:]:
        shutil.rmtree(tmp_path / "results/runs" / each.defaults[1].folder.name)
    log = Log()
    stopped = begin(tmp_path, data_folder, log, hours=1e-9)
    assert stopped.study.seeds == 1
    assert [len(each.finals) for each in stopped.losses] == [1, 1, 1]
    assert stopped.notes == ["Stopped by --hours 1e-09, with 1 of 2 seeds."]
    assert log.trained == 1
    assert (stopped.folder / "trials.jsonl").is_file()  # though no trial was run
    assert table(begin(tmp_path, data_folder, log)) == table(result)
    with pytest.raises(Interrupted, match="resumes"):
        begin(tmp_path / "nothing", data_folder, log, hours=1e-9)


class NoNumber(MeanPull):
    """Is nan for every image."""

    def forward(self, embeddings, labels):
        return super().forward(embeddings, labels) * float("nan")


def test_a_training_that_diverges_counts_and_is_not_repeated(tmp_path, data_folder):
    logs = [Log(), Log()]
    results = [begin(tmp_path, data_folder, log, loss=NoNumber, trials=1, seeds=1) for log in logs]
    assert [log.trained for log in logs] == [3, 0]  # the trial, the final run, and the untrained network
    for result in results:
        assert [trial.status for trial in result.losses[0].trials] == ["failed"]
        assert result.losses[0].finals[0].flawed
    (tmp_path / "results/runs" / results[0].losses[0].finals[0].folder.name / "record.json").unlink()
    begin(tmp_path, data_folder, logs[1], loss=NoNumber, trials=1, seeds=1)
    assert logs[1].trained == 1


def test_the_python_call_finds_the_same_runs(undisturbed, data_folder):
    result, _ = undisturbed
    again = reidbench.study(
        loss=["batch_hard", MeanPull], protocol=SMALL_PROTOCOL, recipe=RECIPE, trials=2, seeds=2,
        results=result.folder.parent / "results", data_root=data_folder, cache=data_folder / "cache",
        device="cpu", threads=1,
    )  # fmt: skip
    assert table(again) == table(result)
    assert again.folder.parent == result.folder.parent / "results/studies"
    with pytest.raises(OptionError, match="trails"):
        reidbench.study(loss="batch_hard", trails=3)


def test_the_command_prints_the_table_alone_and_the_plan_beside_it(undisturbed, data_folder, reidbench_call):
    result, _ = undisturbed
    words = f"study --loss batch_hard --protocol {SMALL_PROTOCOL} --trials 0 --seeds 2 --device cpu --threads 1".split()
    words += ["--recipe", RECIPE, "--results", str(result.folder.parent / "results")]
    done = reidbench_call(*words, env={"REIDBENCH_CACHE": str(data_folder / "cache")})
    assert done.returncode == 0, done.stderr
    assert "2 seeds, options as given" in done.stdout
    assert "tuned" not in done.stdout
    assert "for each loss 2 seeds with the options as given" in done.stderr
    plan = reidbench_call(*words, "--dry-run", "--verbose", env={"REIDBENCH_CACHE": str(data_folder / "cache")})
    final = result.losses[0].defaults[0].record
    assert plan.returncode == 0
    assert final.id in plan.stdout
    assert reidbench_call(*words, "--against", "triplet").returncode == 2
    failed = result.losses[0].defaults[0].folder / "record.json"
    good = failed.read_text()
    record = dataclasses.replace(final, status="collapsed", error="collapsed")
    failed.write_text(record.to_json())
    assert reidbench_call(*words, env={"REIDBENCH_CACHE": str(data_folder / "cache")}).returncode == 1
    failed.write_text(good)


# --- processes --------------------------------------------------------------------------------------------------------

LOSSES = ("batch_hard", "centre_pull", "classification")
FLAGS = ["--protocol", SMALL_PROTOCOL, "--recipe", "quick(steps=8, p=6, k=2)", "--trials=2", "--seeds=3"]
FLAGS += ["--against=batch_hard", "--device=cpu", "--threads=1", "--checkpoint-seconds=0"]
FLAGS += [f"--loss={loss}" for loss in LOSSES]


def start(folder, *more):
    """Start a study of three losses, one of them a third party's package, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "reidbench", "study", *FLAGS, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"REIDBENCH_RESULTS": str(folder)} | third_party_package(folder.parent / "package"),
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def printed(tmp_path_factory, data_folder):
    """What the study prints where nothing disturbs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in {"DATA": data_folder, "CACHE": data_folder / "cache"}.items():
            patch.setenv(f"REIDBENCH_{name}", str(folder))
        patch.setenv("COLUMNS", "200")
        return finish(start(tmp_path_factory.mktemp("printed") / "results"))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "local(workers=2)"])
def test_killed_twice_it_prints_the_same(executor, printed, tmp_path):
    assert all(loss in printed for loss in LOSSES)
    folder = tmp_path / "results"
    for records in (5, 25):
        process = start(folder, f"--executor={executor}")
        while len(list(folder.glob("runs/*/record.json"))) < records:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.kill()
        process.communicate()
    assert finish(start(folder, f"--executor={executor}")) == printed
    assert finish(start(folder)) == printed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fixture"), [("slurm", "fake_slurm"), ("ray", "cluster")])
def test_clusters_print_the_same(name, fixture, printed, tmp_path, request):
    found = request.getfixturevalue(fixture)
    address = f'address="{found.address}", ' if name == "ray" else ""
    assert finish(start(tmp_path / "results", f"--executor={name}({address}gpus=0, cpus=1)")) == printed


def test_two_names_of_one_function_are_not_told_apart(tmp_path, data_folder):
    result = begin(tmp_path, data_folder, Log(), loss=[MeanPull, MeanPullAgain], seeds=3)
    files = StudyFiles(result, local_machine(data=data_folder))
    one, other = files.result.losses[:2]
    own, others = ({trial.recipe_text for trial in loss.trials if trial.number > 1} for loss in (one, other))
    assert own.isdisjoint(others)  # each name has options of its own
    assert files.comparison.claims
    assert [pair.verdict for pair in files.comparison.pairs] == ["not told apart"]
    assert {loss.name for loss in files.comparison.losses if loss.may_be_best} == {"MeanPull", "MeanPullAgain"}
