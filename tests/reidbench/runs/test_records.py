"""Records read from results folders, as a frame, printed, and in a notebook."""

import pytest

import reidbench
from reidbench.errors import DataError, OptionError
from tests.support.records import make_record, put


def test_a_results_folder_is_a_frame(tmp_path):
    runs = [make_record("a"), make_record("<b>", 1), make_record("c", status="failed", error="why", scores={})]
    for number, record in enumerate(runs):
        put(tmp_path / "results" / "runs" / str(number), record, None)
    records = reidbench.records(tmp_path / "results")
    assert list(records) == runs
    assert list(reidbench.records()) == runs, "REIDBENCH_RESULTS is the default"
    frame = records.to_frame()
    assert frame["loss"].tolist() == ["a", "<b>", "c"]
    assert list(reidbench.records(*frame["folder"][1:])) == runs[1:], "a row of the frame leads to its run"
    for text in (repr(records), records._repr_html_()):
        assert all(name in text for name in ("loss", "seed", "status", "map_market"))
        assert not any(name in text for name in ("backbone", "train_id", "sha256"))
    assert "&lt;b&gt;" in records._repr_html_()
    assert "<b>" not in records._repr_html_()


def test_places_without_records_are_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "results")):
        reidbench.records()
    with pytest.raises(DataError, match=str(tmp_path)):
        reidbench.records(tmp_path)
    with pytest.raises(OptionError, match="nothing/here"):
        reidbench.records("nothing/here")
