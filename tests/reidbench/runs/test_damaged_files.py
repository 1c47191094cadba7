"""A flipped byte in any file that is read back: the scores are those of the undamaged file, or an error names it."""

import shutil

import pytest

from reidbench.errors import DataError, Interrupted
from reidbench.runs.record import RECORD
from reidbench.training.checkpoint import SUMMARY, WEIGHTS, TrainingState
from tests.support.damage import flip
from tests.support.image_lists import run, write_set


def test_a_flipped_byte_never_changes_a_score(tmp_path, monkeypatch):
    file, messages = write_set(tmp_path / "set"), list[str]()

    def stop(state, *others):
        raise Interrupted("stopped")

    def settings(name):
        return {"results": tmp_path / name / "results", "cache": tmp_path / name / "cache"}

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "finish", stop)
        with pytest.raises(Interrupted):
            run(file, checkpoint_seconds=0.0, **settings("stopped"))
    record = run(file, **settings("scored"))
    shutil.copytree(tmp_path / "scored", tmp_path / "trained")
    (found,) = (tmp_path / "trained").rglob(RECORD)
    found.unlink()
    patterns = {
        "scored": [RECORD],
        "trained": [SUMMARY, WEIGHTS, "embeddings-*/000001.npz", "cache/contents/*"],
        "stopped": ["checkpoint-*1.*", "checkpoint-*2.*", "cache/pixels/*.pixels", "cache/contents/*"],
    }
    noticed = set()
    for layout, names in patterns.items():
        for name in names:
            for share in (0.15, 0.6):
                shutil.copytree(tmp_path / layout, tmp_path / "damaged")
                damaged = min((tmp_path / "damaged").rglob(name))
                flip(damaged, int(share * damaged.stat().st_size))
                messages.clear()
                try:
                    again = run(file, messages, **settings("damaged"))
                    assert (again.scores, again.weights) == (record.scores, record.weights), damaged
                except DataError as error:
                    messages.append(str(error))
                noticed |= {(layout, name) for message in messages if damaged.name in message}
                shutil.rmtree(tmp_path / "damaged")
    # The older checkpoint is not read where the newer one is whole.
    everything = {(layout, name) for layout, names in patterns.items() for name in names}
    assert everything - noticed == {("stopped", "checkpoint-*1.*")}
