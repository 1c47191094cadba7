"""Files beside records are read from their folders only, and data only if they are the run's."""

from dataclasses import replace

import pytest

from reidbench import build
from reidbench.errors import DataError
from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import SCALES, local_machine
from tests.support.records import make_item, make_record, put, replace_parts


def test_a_record_leads_out_of_no_results_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "log.npz").write_bytes(b"secret")
    for training in ("../../outside", str(outside), "trainings/gone"):
        record = make_record("a", training=training)
        files = RunFiles([put(tmp_path / "results" / "deep" / "runs" / "a", record)], local_machine(data=tmp_path))
        with pytest.raises(DataError, match="is missing: a record does not contain it"):
            files.log(record)


def test_missing_files_are_named(tmp_path):
    record, failed = make_record("a"), make_record("b", status="failed", error="no memory")
    folders = [put(tmp_path / "runs" / "a", record, None), put(tmp_path / "runs" / "b", failed)]
    files = RunFiles(folders, local_machine(data=tmp_path))
    with pytest.raises(DataError, match=r"rankings\.npz"):
        files.ranking(record)
    with pytest.raises(DataError, match="was not scored: no memory"):
        files.ranking(failed)
    with pytest.raises(DataError, match="has no folder here"):
        files.ranking(replace(record, id="elsewhere"))
    with pytest.raises(DataError, match="the untrained network has no log"):
        files.log(make_record("none"))


def test_the_data_of_a_scale_are_below_the_cache_folder(tmp_path):
    """``run --scale`` synthesizes outside of the data root; nothing is synthesized elsewhere."""
    machine = local_machine(data=tmp_path / "data", cache=tmp_path / "cache")
    tree = machine.cache / SCALES / "tiny-0123" / "market1501"
    list(build("synthesizer", "market1501(identities=4)", tree))
    (machine.cache / SCALES / "other" / "mars").mkdir(parents=True)
    split = build("dataset", "market1501", tree.parent)
    record = make_record("a", items={"dataset": make_item("market1501", "market1501", "market1501")})
    own = replace_parts(record, dataset={"digest": split.digest})
    files = RunFiles([put(tmp_path / "runs" / "a", own)], machine)
    assert files.split(own).digest == split.digest
    with pytest.raises(DataError, match="no folder with bounding_box_train"):
        files.split(record)
    assert not list((machine.cache / SCALES / "other").rglob("market1501"))


@pytest.mark.parametrize(
    "spec", ["a**b", "*", "**", "?arket1501", "[m]arket1501", "", "/etc", "../other", "none", "a + b", "a" * 1999]
)
def test_an_unknown_dataset_of_a_record_is_no_path(tmp_path, spec):
    """The text is not used as a pattern of folders."""
    machine = local_machine(data=tmp_path / "data", cache=tmp_path / "cache")
    (machine.cache / SCALES / "tiny-0123" / "market1501").mkdir(parents=True)
    record = make_record("a", items={"dataset": make_item("synthetic", spec, "synthetic")})
    files = RunFiles([put(tmp_path / "runs" / "a", record)], machine)
    with pytest.raises(DataError) as error:
        files.split(record)
    assert str(tmp_path) not in str(error.value)
