"""A record is read as it was written, and every kind of damage is named with its place."""

import dataclasses
import json
from dataclasses import MISSING, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import Recipe, RunRecord
from reidbench.errors import DataError
from reidbench.plugins.catalogue import load
from reidbench.runs.job import resolve
from reidbench.runs.record import TrainingEnvironment, read_record
from reidbench.utils.machine import Environment
from tests.support.cases import cases
from tests.support.paths import CHECKOUT
from tests.support.records import make_item, make_record, replace_parts

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = {name: st.integers(-(2**63), 2**63 - 1) for name in ("cores", "threads", "processes")}
scores = st.dictionaries(st.sampled_from(["map_market", "r1", "queries"]), st.floats(0, 1) | st.integers(0, 10**6))


@given(
    st.sampled_from(["ok", "failed", "interrupted", "collapsed", "no_gradient"]),
    scores,
    texts,
    st.builds(TrainingEnvironment, earlier_parts=st.lists(st.builds(Environment, **counts), max_size=2), **counts),
    st.booleans(),
    st.lists(texts, max_size=3),
)
def test_a_record_is_read_as_it_was_written(status, numbers, error, machine, flag, lines):
    record = replace_parts(
        make_record(), status=status, scores=numbers, error=error, environment=machine, dirty=flag, deviations=lines
    )
    assert RunRecord.from_json(record.to_json(), "here") == record


def test_the_text_is_stable_and_ends_with_a_line_end():
    record = make_record("batch_hard(margin=0.2)", error="naïve ✓")
    text = record.to_json()
    assert text.endswith("}\n")
    assert "naïve ✓" in text
    assert RunRecord.from_json(text, "here").to_json() == text
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(RunRecord) if field.default is field.default_factory]
)
def test_a_missing_field_is_named(field):
    data = json.loads(make_record().to_json())
    del data[field]
    with pytest.raises(DataError, match=rf"^runs/7/record\.json: is no run record: {field} is missing$"):
        RunRecord.from_json(json.dumps(data), "runs/7/record.json")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        *cases(__file__, "damage_is_named_with_its_place"),
        ("items.loss.given", None, r"items\.loss\.given .*string, got None"),
        ("schema", None, "schema .*2, got None"),
        ("dataset.digest", None, r"dataset\.digest .*string, got None"),
    ],
)
def test_damage_is_named_with_its_place(path, value, named):
    data = json.loads(make_record().to_json())
    *above, last = path.split(".")
    part = data
    for name in above:
        part = part[name]
    part[last] = value
    with pytest.raises(DataError, match=rf"^r\.json: is no run record: {named}$"):
        RunRecord.from_json(json.dumps(data), "r.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(number):
    text = make_record(scores={"r1": 0.123456789}).to_json().replace("0.123456789", number)
    with pytest.raises(DataError, match=r"scores\.r1 .*finite number, got -?(nan|inf)"):
        RunRecord.from_json(text, "r.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_record(scores={"r1": float(number.lower().replace("infinity", "inf"))}).to_json()


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 1' + "0" * 5_000 + "}", "[" * 100_000, "[1]", '"text"', "null"], ids=range(7)
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(DataError, match=r"^r\.json: is no run record: "):
        RunRecord.from_json(text, "r.json")


def test_a_cut_file_is_never_taken_for_a_record():
    text = make_record().to_json()
    for end in range(0, len(text) - 2, 37):
        with pytest.raises(DataError, match=r"^r\.json: "):
            RunRecord.from_json(text[:end], "r.json")


def test_a_track_is_all_but_the_loss_and_the_seed():
    plain = make_record("a").track
    assert plain == "backbone=tiny recipe=quick metric=auto rerank=none"
    assert make_record("b", 7).track == plain
    chosen = make_record("a", evaluation={"metric_is_auto": False}).track
    assert chosen == "backbone=tiny recipe=quick metric=euclidean rerank=none"
    hard = make_item("synthetic", "synthetic(difficulty=hard)", "synthetic(difficulty=hard)")
    assert make_record("a", items={"protocol": hard}).track == f"protocol=synthetic(difficulty=hard) {plain}"


def test_committed_records_are_read_and_written_unchanged():
    later = {part.name: part.default for part in fields(Recipe) if part.default is not MISSING}
    for file in (CHECKOUT / "leaderboards").glob("records/*/*/record.json"):
        record, read = read_record(file), json.loads(file.read_text())
        written = json.loads(record.to_json())
        read["recipe"] = json.loads(json.dumps(later)) | read["recipe"]  # what newer recipes can say has its default
        read["items"] = {kind: {"references": [], "label": ""} | item for kind, item in read["items"].items()}
        assert written | {"checksum": ""} == read | {"checksum": ""}


def test_the_ids_of_committed_records_do_not_change():
    for file in (CHECKOUT / "leaderboards").glob("records/*/*/record.json"):
        record = read_record(file)
        resolved = resolve(record.job, load())
        for kind, item in resolved.items.items():
            assert item.identity == (record.items[kind].identity or record.items[kind].spec)
        ids = record.ids()
        assert ids == {name: getattr(record, name) for name in ("id", "train_id", "group")}
