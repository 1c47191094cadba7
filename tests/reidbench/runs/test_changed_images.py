"""Images that change under the same names and sizes: no result of the old ones counts, and what changed is named."""

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from reidbench.data.samples import Samples
from reidbench.errors import DataError, Interrupted
from reidbench.images import contents
from reidbench.images.decode import decode_images
from reidbench.plugins.catalogue import load
from reidbench.runs.execute import execute
from reidbench.runs.plan import make_plan, read_request
from reidbench.training.checkpoint import WEIGHTS
from reidbench.utils.machine import local_machine
from tests.support.damage import flip
from tests.support.image_lists import plan_of, run, write_images, write_set
from tests.support.images import write_noise
from tests.support.tiny_training import Spread, fit, noise


@contextmanager
def counted_reads(monkeypatch):
    """Yield the files whose content is read for their digests in the block."""
    read, files = contents.read_files, list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(contents, "read_files", lambda names, *others: [files.extend(names), read(names, *others)][1])
        yield files


def test_only_changed_content_trains_again(tmp_path, monkeypatch):
    file = write_set(tmp_path / "set")
    with counted_reads(monkeypatch) as files:
        record = run(file)
        assert len(files) == 40
        plan = plan_of(file)
        assert [state.record for state in plan.states] == [record]
        assert len(files) == 40
        for image in file.parent.glob("*.bmp"):
            os.utime(image)
        for reads in (80, 80):  # once
            assert [state.record for state in plan_of(file).states] == [record]
            assert len(files) == reads
        copy = shutil.copytree(file.parent, tmp_path / "copy" / "set") / "list.csv"
        assert run(copy) == record
    assert set(record.dataset.content) == {"train", "query", "gallery"}

    write_images(file.parent, range(5), seed=1)
    write_images(file.parent, range(28, 29), seed=1)
    plan = plan_of(file)
    (state,) = plan.states
    assert str(state) == "new images"
    assert state.changes == "content of the train and query images differs"
    messages: list[str] = []
    other = run(file, messages)
    assert any(f"{state.changes}: the earlier results are renamed" in message for message in messages)
    assert other.id == record.id
    assert other.weights != record.weights
    fresh = run(file, results=tmp_path / "fresh", cache=tmp_path / "cache")
    assert (other.scores, other.weights, other.dataset) == (fresh.scores, fresh.weights, fresh.dataset)
    (folder,) = (run.training_folder for run in plan.runs)
    assert (folder / f"{WEIGHTS}.superseded").is_file()
    assert (plan.runs[0].run_folder / "record.json.superseded").is_file()

    # --- a changed test image is embedded again, and nothing is trained ---
    write_images(file.parent, range(39, 40), seed=2)
    (state,) = plan_of(file).states
    assert state.status == "trained"
    assert state.changes == "content of the gallery images differs"
    scored = run(file)
    assert scored.weights == other.weights
    assert scored.scores == run(file, results=tmp_path / "fresh").scores

    # --- a record of other images is reproduced, and says so ---
    messages.clear()
    request = read_request(str(plan.runs[0].run_folder / "record.json"), {})
    machine = replace(plan.machine, log=messages.append)
    write_images(file.parent, range(2), seed=3)
    list(execute(make_plan(request, machine, load())))
    lines = [message for message in messages if "content of the train images differs" in message]
    assert len(lines) == 2
    assert lines[-1].startswith("differs: content of the train")
    assert not any(message.startswith("reproduced") for message in messages)
    assert any("on other images, not reproduced" in message for message in messages)


def test_a_training_resumes_on_the_same_images_only(tmp_path, capsys):
    with pytest.raises(Interrupted):
        fit(Spread, tmp_path / "stopped", stop_at=3)
    samples = noise(tmp_path / "noise")
    write_noise(samples.root, samples.images[:2].tolist(), seed=9)
    _, _, resumed = fit(Spread, tmp_path / "stopped")
    _, _, fresh = fit(Spread, tmp_path / "fresh")
    assert (resumed.resumed_at, resumed.content) == (0, fresh.content)
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == (tmp_path / "fresh" / WEIGHTS).read_bytes()
    assert "checkpoint-00000004.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["bmp", "png", "jpg"])
def test_an_image_that_changes_during_a_run_is_named(suffix, tmp_path):
    write_images(tmp_path / "set", range(3), seed=0, suffix=suffix)
    names = [f"{number:02d}.{suffix}" for number in range(3)]
    samples = Samples.of_images(tmp_path / "set", names, [1] * 3, [1] * 3)
    machine = local_machine(device="cpu", threads=1)
    digests = contents.image_digests(samples, machine)
    write_images(tmp_path / "set", range(1, 2), seed=1, suffix=suffix)
    out = np.empty((3, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=rf"01\.{suffix}: .*changed"):
        decode_images(samples, range(3), out, digests)
    after = contents.image_digests(replace(samples), machine)
    assert (digests != after).any(1).tolist() == [False, True, False]


def test_a_damaged_table_is_read_again(tmp_path):
    write_images(tmp_path / "set", range(3), seed=0)
    samples = Samples.of_images(tmp_path / "set", ["00.bmp", "02.bmp"], [1] * 2, [1] * 2)
    messages: list[str] = []
    machine = local_machine(device="cpu", threads=1, cache=tmp_path / "cache", log=messages.append)
    digests = contents.image_digests(samples, machine)
    (file,) = (tmp_path / "cache" / contents.FOLDER).iterdir()
    whole = file.read_bytes()
    for place in range(0, len(whole), 19):
        flip(file, place)
        assert np.array_equal(contents.image_digests(replace(samples), machine), digests)
        file.write_bytes(whole)
    assert any(file.name in message for message in messages)
