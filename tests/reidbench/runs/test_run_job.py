"""The road end to end, small: train once, score, print again, go on after a kill, notice edited code."""

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pytest

from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import load
from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import score
from reidbench.runs.preflight import check_batch, check_request, preflight
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RunRecord
from reidbench.runs.run_job import run_job
from reidbench.runs.store import RunState
from reidbench.training.checkpoint import latest_step
from reidbench.utils import lock as utils_lock
from reidbench.utils.lock import lock
from reidbench.utils.machine import local_machine
from tests.support import image_lists
from tests.support.distributions import few_plugins
from tests.support.executions import third_party_package
from tests.support.jobs import SMALL_RECIPE, job, plan_of, run, small_run
from tests.support.logs import assert_same_log, outcome, read_log


def test_a_run_leaves_a_record_from_which_its_scores_follow():
    plan, record, _ = run(job())
    assert record.status == "ok", record.error
    kept = RunRecord.from_json((plan.run_folder / "record.json").read_text(), "record")
    assert kept == record
    again = score(read_ranking(plan.run_folder), len(plan.split.gallery), plan.protocol.rank_scores)
    assert again.as_dict() == record.scores
    assert 0 <= record.scores["map_market"] <= record.scores["map_step"] <= 1
    assert record.scores["queries"] == len(plan.split.query)
    np.testing.assert_array_equal(read_log(plan.training_folder)["step"], np.arange(plan.recipe.steps))
    assert not list(plan.training_folder.glob("checkpoint-*"))
    weights = (plan.training_folder / "weights.safetensors").read_bytes()
    assert record.weights == hashlib.sha256(weights).hexdigest()
    # The same job again computes nothing.
    written = [path for path in plan.training_folder.iterdir() if path.name != "lock"]
    before = [path.stat().st_mtime_ns for path in written]
    assert run(job())[1] == record
    assert [path.stat().st_mtime_ns for path in written] == before


def test_ids_tell_seeds_and_options_apart_and_groups_join_seeds():
    base = plan_of(job())[0]
    assert plan_of(job(loss='batch_hard(margin="soft")'))[0].id == base.id, "a spelt-out default is the same run"
    other_seed = plan_of(job(seed=1))[0]
    assert other_seed.id != base.id
    assert other_seed.group == base.group
    changes = {"loss": "batch_hard(margin=0.2)", "backbone": "tiny(norm=none)", "recipe": "quick(steps=5, p=6, k=2)"}
    for kind, text in changes.items():
        other = plan_of(job(**{kind: text}))[0]
        assert other.train_id != base.train_id
        assert other.group != base.group


def test_the_untrained_network_is_scored_without_a_step():
    _, record, said = run(job(loss="none"))
    assert record.status == "ok", record.error
    assert (record.seconds["train"], record.weights) == (0, "")
    assert not [line for line in said if "resumed" in line]


def test_all_mistakes_of_a_request_come_together():
    with pytest.raises(OptionError) as caught:
        plan_of(job(loss="batch_hart(margin=0.2)", backbone="tinny", recipe="quick(stepps=3)"))
    said = str(caught.value)
    assert all(word in said for word in ("batch_hard", "tiny", "steps"))


def test_more_identities_a_batch_than_there_are_are_refused():
    with pytest.raises(OptionError, match=r"p=500 .* 28 to train on; lower it to p=28 or less"):
        check_request(*plan_of(job(recipe="quick(steps=4, p=500, k=2)")))


@pytest.mark.parametrize("seed", [-1, 2**63, 10**400])
def test_a_seed_that_is_none_is_refused_before_anything(seed):
    with pytest.raises(OptionError, match=r"seed: expected a whole number from 0 to 9223372036854775807, got "):
        plan_of(job(seed=seed))
    with pytest.raises(OptionError, match=r"seed: expected a whole number"):
        plan_of(job(protocol=f"synthetic(identities=12, seed={seed})"))


def test_a_gpu_that_is_not_there_is_refused():
    import torch

    index = torch.cuda.device_count()
    with pytest.raises(OptionError, match=rf"cuda:{index}.*shows {index} GPUs.*--device cpu"):
        local_machine(device=f"cuda:{index}")


def test_a_locked_folder_is_named_with_its_process():
    plan, machine = plan_of(job())
    with lock(plan.training_folder / "lock", "a test"), pytest.raises(DataError, match=f"{os.getpid()}"):
        run_job(plan, machine)


def test_a_run_needs_no_extras_of_a_file_system(monkeypatch, tmp_path):
    """SMB, VirtualBox and FUSE folders: no locks, no fsync, nothing reserved, no permissions, no sizes, no hints."""
    for module, name in ((os, "fsync"), (os, "posix_fallocate"), (os, "fchmod"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, Mock(side_effect=OSError(errno.EINVAL, "Invalid argument")))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (0, 0, 0))
    monkeypatch.setattr(utils_lock, "SETTLE_SECONDS", 0.01)
    _, record, _ = run(job(recipe="quick(steps=1, p=6, k=2)"), results=tmp_path, pixels="map", cache=tmp_path)
    assert record.status == "ok", record.error


def test_a_damaged_image_is_named_before_the_first_step(tmp_path):
    file = image_lists.write_set(tmp_path / "set")
    (tmp_path / "set" / "39.bmp").write_bytes(b"BM, cut")
    plan = image_lists.plan_of(file)
    with pytest.raises(DataError, match=r"39\.bmp"):
        preflight(plan.runs, [RunState()], plan.machine)


def test_an_edited_loss_retrains_and_an_edited_neighbour_not(tmp_path, reidbench_process):
    plugin = tmp_path / "plugin"
    env = third_party_package(plugin) | {"REIDBENCH_LOAD_PLUGINS": few_plugins("somebodys-losses")}
    (plugin / "test_mine.py").write_text("x = 1\n")
    asked = small_run("--loss", "centre_pull")
    first = reidbench_process(*asked, env=env)
    assert first.returncode == 0, first.stderr
    (plugin / "test_mine.py").write_text("x = 2\n")
    assert "done" in reidbench_process(*asked, "--dry-run", env=env).stdout
    (module,) = plugin.glob("*losses.py")
    module.write_text(module.read_text().replace("square().sum(1)", "square().mean(1)"))
    edited = reidbench_process(*asked, "--dry-run", env=env)
    assert module.name in edited.stdout
    assert "changed" in edited.stdout


def stop_at_a_checkpoint(asked, results, how):
    """Start a run, send it a signal as soon as it has a further checkpoint, and return what it prints to stderr."""

    def step():
        return max((latest_step(folder) for folder in results.glob("trainings/*")), default=0)

    before, command = step(), [sys.executable, "-m", "reidbench", *asked, "--results", str(results)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while step() <= before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (-how if how == signal.SIGKILL else 130), said
    return said


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_stopped_and_killed_run_resumes_and_ends_like_a_whole_one(how, tmp_path, reidbench_call):
    asked, stopped = small_run("--loss", "batch_hard", "--checkpoint-seconds", "0.1"), tmp_path / "stopped"
    asked[asked.index(SMALL_RECIPE)] = "quick(steps=120, p=6, k=3)"
    assert "run the same command to resume" in stop_at_a_checkpoint(asked, stopped, how)
    stop_at_a_checkpoint(asked, stopped, signal.SIGKILL)
    resumed = reidbench_call(*asked, "--results", str(stopped))
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step" in resumed.stderr
    assert "resumed at step 0 " not in resumed.stderr
    undisturbed = reidbench_call(*asked, "--results", str(tmp_path / "undisturbed"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert outcome(stopped) == outcome(tmp_path / "undisturbed")
    assert_same_log(*(next((tmp_path / name / "trainings").iterdir()) for name in ("stopped", "undisturbed")))


def test_a_record_is_reproduced_with_the_same_scores(tmp_path, reidbench_call):
    plan, record, _ = run(job())
    flags = ["--device", "cpu", "--threads", "1"]
    done = reidbench_call("run", str(plan.run_folder / "record.json"), *flags)
    assert done.returncode == 0, done.stderr
    assert "every score is the same to the last digit" in done.stderr
    (again,) = (tmp_path / "results" / "again").rglob("record.json")
    assert json.loads(again.read_text())["scores"] == record.scores
    third = reidbench_call("run", str(again), *flags)
    assert third.returncode == 2, "it would be written over itself"
    assert "name another folder with --results" in third.stderr


def test_a_record_names_the_machines_of_training_and_scoring():
    _, trained, _ = run(job())
    assert (trained.environment.threads, trained.scored_in.threads) == (1, 1)
    asked, chosen = job(metric="euclidean(normalize=true)"), local_machine(device="cpu", threads=2)
    scored = run_job(Planner(load(), chosen).plan(asked), chosen)
    assert scored.train_id == trained.train_id
    assert (scored.environment.threads, scored.scored_in.threads) == (1, 2)
    assert scored.environment == trained.environment


def test_the_metric_of_auto_is_auto_when_given_explicitly():
    assert plan_of(job())[0].evaluation.metric_is_auto
    assert plan_of(job(metric="euclidean"))[0].evaluation.metric_is_auto
    assert not plan_of(job(metric="euclidean(normalize=true)"))[0].evaluation.metric_is_auto


def test_batches_larger_than_the_training_set_are_refused():
    plan, _ = plan_of(job())
    recipe = dataclasses.replace(plan.recipe, batches="shuffled", p=10_000)
    with pytest.raises(OptionError, match="frames=2, but every training unit is one image"):
        check_batch(dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, frames=2)))
    with pytest.raises(OptionError, match=r"p \* k = 20000 a batch, .* \d+ to train on"):
        check_batch(dataclasses.replace(plan, recipe=recipe))


def test_a_single_training_identity_is_refused_without_advice_on_p():
    plan, _ = plan_of(job())
    train = plan.split.train.take(np.flatnonzero(plan.split.train.pids == plan.split.train.pids[0]))
    with pytest.raises(OptionError, match="1 identities") as caught:
        check_batch(dataclasses.replace(plan, split=dataclasses.replace(plan.split, train=train)))
    assert "p=" not in str(caught.value)


def test_files_of_a_killed_process_are_removed():
    plan, chosen = plan_of(job())
    left = [folder / ".record.json.abc.tmp" for folder in (plan.run_folder, plan.training_folder)]
    for file in (*left, plan.run_folder / "traceback.txt"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
    run_job(plan, chosen)
    assert not any(file.exists() for file in left)
    assert not (plan.run_folder / "traceback.txt").exists()


def test_a_damaged_record_is_named_with_what_to_do():
    plan, _ = plan_of(job(loss="none"))
    plan.run_folder.mkdir(parents=True)
    (plan.run_folder / "record.json").write_text("{")
    with pytest.raises(DataError, match=r"record\.json: .*; delete it, and the same command scores again"):
        run(job(loss="none"))


def test_an_edited_record_is_not_reproduced(tmp_path, reidbench_call):
    plan, _, _ = run(job(loss="none"))
    edited = json.loads((plan.run_folder / "record.json").read_text())
    edited["job"]["seed"] = 5
    del edited["checksum"]
    (tmp_path / "record.json").write_text(json.dumps(edited))
    asked = reidbench_call("run", str(tmp_path / "record.json"), "--device", "cpu", "--threads", "1")
    assert asked.returncode == 2
    assert f"the record says {plan.id[:12]}: it was edited" in asked.stderr


def test_a_collapsed_run_is_shown_again_and_ends_with_1(tmp_path, reidbench_call):
    plan, record, _ = run(job())
    collapsed = dataclasses.replace(record, status="collapsed", error="one point")
    (plan.run_folder / "record.json").write_text(collapsed.to_json())
    done = reidbench_call(*small_run("--loss", "batch_hard"))
    assert done.returncode == 1, done.stderr
    assert "collapsed" in done.stderr
    assert "starts" not in done.stderr
    assert "batch_hard ‡*" in done.stdout
    added = reidbench_call("leaderboard", "add", str(plan.run_folder), "--folder", str(tmp_path / "boards"))
    assert added.returncode == 2
    assert "is collapsed, expected ok" in added.stderr
    assert not list(tmp_path.glob("boards/*.csv"))
