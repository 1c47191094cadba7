"""The record: what is written is read back, and every kind of damage is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import RunRecord
from reidbench.errors import DataError
from tests.support.records import make_item, make_record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scores = st.dictionaries(st.sampled_from(["map_market", "r1", "queries"]), st.floats(0, 1) | st.integers(0, 10**6))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["ok", "failed", "interrupted", "collapsed"]),
    scores,
    texts,
    st.dictionaries(texts, plain, max_size=3),
    st.booleans(),
    st.lists(texts, max_size=3),
)
def test_a_record_comes_back_as_it_was(
    status: Any, numbers: dict[str, float], error: str, anything: dict[str, Any], flag: bool, lines: list[str]
) -> None:
    record = dataclasses.replace(
        make_record(), status=status, scores=numbers, error=error, environment=anything, dirty=flag, deviations=lines
    )
    assert RunRecord.from_json(record.to_json(), "here") == record


def test_the_text_is_stable_and_ends_with_a_line_end() -> None:
    record = make_record("batch_hard(margin=0.2)", error="naïve ✓")
    text = record.to_json()
    assert text.endswith("}\n")
    assert "naïve ✓" in text
    assert RunRecord.from_json(text, "here").to_json() == text
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for field in dataclasses.fields(RunRecord)
        if field.name not in ("error", "intervals", "cameras", "schema")
    ],
)
def test_a_missing_field_is_named(field: str) -> None:
    data = json.loads(make_record().to_json())
    del data[field]
    with pytest.raises(DataError, match=rf"^runs/7/record\.json: the record lacks {field}$"):
        RunRecord.from_json(json.dumps(data), "runs/7/record.json")


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for name in above:
            data = data[name]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("status", "fine"), r"status must be 'ok' or 'failed' or 'interrupted' or 'collapsed', got 'fine'"),
        (put("dirty", 1), r"dirty must be bool, got 1"),
        (put("id", 12), r"id must be str, got 12"),
        (put("peak_memory_mib", 1.5), r"peak_memory_mib must be int, got 1\.5"),
        (put("peak_memory_mib", True), r"peak_memory_mib must be int, got True"),
        (put("scores.r1", "high"), r"scores\.r1 must be float, got 'high'"),
        (put("scores.r1", True), r"scores\.r1 must be float, got True"),
        (put("scores", [0.5]), r"scores must be dict.*, got \[0\.5\]"),
        (put("deviations", "none"), r"deviations must be list.*, got 'none'"),
        (put("deviations", ["a", 3]), r"deviations\[1\] must be str, got 3"),
        (put("job", "batch_hard"), r"job must be an object, got str"),
        (put("job.seed", "0"), r"job\.seed must be int, got '0'"),
        (put("job.sede", 1), r"job has unknown sede"),
        (put("items.loss.given", None), r"items\.loss\.given must be str, got None"),
        (put("items.loss.colour", "red"), r"items\.loss has unknown colour"),
        (put("surprise", 1), r"the record has unknown surprise"),
        (put("schema", 2), r"expected a run record with schema 1, got 2"),
        (put("schema", None), r"expected a run record with schema 1, got None"),
    ],
)
def test_damage_is_named_with_its_place(change: Callable[[dict[str, Any]], None], said: str) -> None:
    data = json.loads(make_record().to_json())
    change(data)
    with pytest.raises(DataError, match=rf"^r\.json: {said}$"):
        RunRecord.from_json(json.dumps(data), "r.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    text = make_record(scores={"r1": 0.123456789}).to_json().replace("0.123456789", number)
    with pytest.raises(DataError, match=r"scores\.r1 must be float, got -?(nan|inf)"):
        RunRecord.from_json(text, "r.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_record(scores={"r1": float(number.lower().replace("infinity", "inf"))}).to_json()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"schema": 1' + "0" * 5_000 + "}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "schema 1, got 'list'"),
        ('"text"', "schema 1, got 'str'"),
        ("null", "schema 1, got 'NoneType'"),
    ],
)
def test_what_is_no_record_is_named(text: str, said: str) -> None:
    with pytest.raises(DataError, match=f"^r.json: .*{said}"):
        RunRecord.from_json(text, "r.json")


def test_a_cut_file_is_never_taken_for_a_record() -> None:
    text = make_record().to_json()
    for end in range(0, len(text) - 2, 37):
        with pytest.raises(DataError, match=r"^r\.json: "):
            RunRecord.from_json(text[:end], "r.json")


def test_a_track_is_all_but_the_loss_and_the_seed() -> None:
    plain = make_record("a").track
    assert plain == "backbone=tiny recipe=quick metric=auto rerank=none"
    assert make_record("b", 7).track == plain
    chosen = make_record("a", evaluation={**make_record().evaluation, "metric_is_auto": False}).track
    assert chosen == "backbone=tiny recipe=quick metric=euclidean rerank=none"
    hard = make_item("synthetic", "synthetic(difficulty=hard)", "synthetic(difficulty=hard)")
    assert make_record("a", items={"protocol": hard}).track == f"protocol=synthetic(difficulty=hard) {plain}"


def test_what_a_record_lacks_is_said_at_once() -> None:
    record = make_record()
    assert list(record.lacks()) == []
    edited = dataclasses.replace(
        record, items={kind: item for kind, item in record.items.items() if kind != "metric"}, recipe={"steps": True}
    )
    assert list(edited.lacks()) == ["items.metric is missing", "recipe.steps must be int, got True"]
