"""What no leaderboard accepts in a run: values, digests, items, times, intervals and camera matrices."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reidbench.errors import DataError
from reidbench.leaderboard.board import check, merge
from reidbench.leaderboard.check_record import record_problems
from reidbench.runs.job import Job
from reidbench.runs.provenance import LOCAL, code_digest
from reidbench.runs.record import CameraMatrix, MonitorRecord, RunRecord
from tests.support.boards import add_all, edit_record, rows_of, tree, valid_record
from tests.support.cases import cases
from tests.support.records import digest, make_item, replace_parts, set_field

LOSS = make_item("one")
SHA = f"sha256:{digest('file')}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        *cases(__file__, "invalid_runs_are_refused"),
        ({"group": "A" * 64}, r"group is 'A{12}'"),
        ({"items": {"loss": make_item("bad", "a(")}}, r"items\.loss\.spec "),
        ({"items": {"protocol": make_item("../../x")}}, r"items\.protocol\.spec "),
        ({"items": {"backbone": make_item("a + b")}}, r"items\.backbone\.spec .*expected a single item"),
        ({"items": {"loss": replace(make_item("bad"), plugin=LOCAL)}}, r"items\.loss\.plugin .*bad was given as a"),
        ({"job": Job("synthetic", "bad", "tiny", "auto", "auto", "none", -1)}, r"job\.seed "),
        ({"cameras": CameraMatrix()}, r"cameras\.cameras "),
        # What a forger tries without inventing rankings.
        ({"items": {"loss": make_item("b\u0430tch_hard")}}, r"items\.loss\.spec cannot be used"),
        ({"items": {"loss": replace(LOSS, distribution="reidb\u0435nch")}}, r"items\.loss\.distribution .*ASCII"),
        ({"items": {"protocol": make_item("a/b/synthetic")}}, r"items\.protocol\.spec cannot be used"),
        ({"items": {"loss": replace(LOSS, origins={"junk": "given"})}}, r"items\.loss\.origins .*junk"),
        ({"items": {"loss": replace(make_item("one(a=1)"), origins={"a": "\u202e"})}}, r"items\.loss\.origins .*'a'"),
        ({"items": {"extra": LOSS}}, r"items\.extra is no kind"),
        ({"code_files": {}, "code": code_digest({})}, r"code_files is empty"),
        ({"code_files": {"reidbench/x.py": ""}}, r"code_files\.reidbench/x\.py must be 64 hex digits"),
        ({"weights": "junk"}, r"weights must be 64 hex digits"),
        ({"evaluation": {"primary": "junk"}}, r"evaluation\.primary must be a score"),
        ({"observed": MonitorRecord("collapsed")}, r"observed\.verdict is collapsed"),
    ],
)
def test_invalid_runs_are_refused(tmp_path, changes, problem):
    boards, valid = tmp_path / "boards", valid_record("valid")
    with pytest.raises(DataError, match=rf"^nothing was added:\n(.|\n)*runs/1-.*/record\.json: {problem}"):
        add_all(boards, [valid, valid_record("bad", **changes)])
    assert tree(boards) == {}


@pytest.mark.parametrize("score", ["map_market", "map_step", "r1", "minp", "queries", "unmatched"])
def test_scores_that_rankings_do_not_give_are_refused(tmp_path, score):
    away = {"queries": 1.0, "unmatched": 1.0, "map_step": 1e-6}.get(score, -1e-6)
    with pytest.raises(DataError, match=rf"0-batch_hard/record\.json: scores\.{score} is .* the rankings give"):
        add_all(tmp_path / "boards", [valid_record(scores={score: valid_record().scores[score] + away})])


@pytest.mark.parametrize(
    ("edits", "field", "text"),
    [
        *cases(__file__, "edited_stored_records_are_refused"),
        ({"cameras.map_market.0.0": None}, "cameras.map_market", "null"),
    ],
)
def test_edited_stored_records_are_refused(tmp_path, edits, field, text):
    add_all(tmp_path / "boards", [valid_record("one(margin=0.2)")])
    file = edit_record(tmp_path / "boards", lambda data: [set_field(data, *edit) for edit in edits.items()])
    problems = [problem for problem in check(tmp_path / "boards") if problem.file == file]
    assert any(problem.field == field and text in problem.text for problem in problems), problems
    with pytest.raises(DataError, match=re.escape(f": {field} ")):
        merge(tmp_path / "boards")


def test_a_fast_clock_is_tolerated(tmp_path):
    soon = datetime.now(UTC) + timedelta(minutes=5)
    add_all(tmp_path / "boards", [valid_record("one", finished=soon.isoformat())])
    assert check(tmp_path / "boards") == []
    record = valid_record(finished="2026-11-22T10:00:00+00:00")
    assert fields(replace(record, started="2026-11-22T10:09:00+00:00")) == []
    assert fields(replace(record, started="2026-11-22T10:11:00+00:00")) == ["started"]


def test_rows_of_an_older_protocol_version_have_their_own_track(tmp_path):
    old = replace_parts(valid_record("one"), evaluation={"version": 0})
    add_all(tmp_path / "boards", [replace(old, **old.ids()), valid_record("two")])
    assert check(tmp_path / "boards") == []
    assert len({(row["protocol"], row["track"]) for row in rows_of(tmp_path / "boards")}) == 2


# --- the texts of an item --------------------------------------------------------------------------------------------


def with_backbone(given: str, spec: str, short: str, identity: str, origins: dict[str, str]) -> RunRecord:
    item = replace(make_item(given, spec, short), identity=identity, origins=origins)
    record = valid_record(items={"backbone": item})
    return replace(record, **record.ids())


def fields(record: RunRecord) -> list[str]:
    return [field for field, _ in record_problems(record)]


def test_equal_options_in_other_words_are_accepted():
    """Defaults, an item as a value, a whole number, a file."""
    spec = 'wide(height=none, size=1.0, inner="crop(of=2)", weights=some/net.safetensors, parts=[1, 2])'
    digested = spec.replace("some/net.safetensors", f'"{SHA}"')
    given = "wide(size=1, height=none, inner=crop(of=2), weights=./some/net.safetensors, parts=[1.0, 2])"
    assert fields(with_backbone(given, spec, "wide(weights=net.safetensors)", digested, {})) == []
    assert fields(valid_record("2*one(margin=0.2) + two")) == []


@pytest.mark.parametrize("folder", ["", "/data/", "../"])
def test_a_file_is_a_path_a_name_or_a_digest_by_field(folder):
    spec = f"tiny(norm=batch, weights={folder}w.pth)"
    named = {"path": f"{folder}w.pth", "name": "w.pth", "digest": f'"{SHA}"'}
    right = {"given": "path", "short": "name", "identity": "digest"}
    origins = {"norm": "default", "weights": "given"}

    def problems(**changes):
        chosen = {field: named[how] for field, how in (right | changes).items()}
        texts = (f"tiny(weights={chosen['given']})", spec, f"tiny(weights={chosen['short']})")
        return fields(with_backbone(*texts, f"tiny(norm=batch, weights={chosen['identity']})", origins))

    assert problems() == []
    assert problems(short="digest") == ["items.backbone.short"]
    assert problems(given="digest") == ["job.backbone"]
    if folder:
        assert problems(given="name") == ["job.backbone"]
        assert problems(identity="name") == ["items.backbone.identity"]


@pytest.mark.parametrize("forged", [SHA, SHA.upper(), "sha256:", SHA + "0", "sha256:batch"])
@pytest.mark.parametrize("field", ["given", "short", "identity"])
def test_a_digest_replaces_files_only(field, forged):
    valid = "tiny(norm=batch)"
    texts = {"given": valid, "short": valid, "identity": valid} | {field: f'tiny(norm="{forged}")'}
    expected = "job.backbone" if field == "given" else f"items.backbone.{field}"
    assert fields(with_backbone(spec=valid, origins={}, **texts)) == [expected]


@pytest.mark.parametrize("forged", ["sha256:", SHA + "0", "sha256:w.pth", SHA.upper()])
def test_a_digest_of_a_file_has_64_hex_digits(forged):
    record = with_backbone("tiny(w=a/b.pth)", "tiny(w=a/b.pth)", "tiny(w=b.pth)", f'tiny(w="{forged}")', {})
    assert fields(record) == ["items.backbone.identity"]


def test_the_job_has_every_given_option():
    spec = "tiny(norm=batch, dim=128)"
    for origin, expected in (("default", []), ("protocol", []), ("given", ["job.backbone"])):
        assert fields(with_backbone("tiny", spec, "tiny", spec, {"norm": "default", "dim": origin})) == expected
    assert fields(with_backbone("tiny(dim=128)", spec, "tiny", spec, {"norm": "default", "dim": "given"})) == []


def test_every_part_of_a_sum_has_its_given_options():
    spec = "hard(m=1) + soft(m=1) + hard(m=1)"
    origins = {"hard.m": "default", "soft.m": "default", "hard:2.m": "given"}

    def run(given):
        item = replace(make_item(given, spec, "hard + soft + hard"), origins=origins)
        return valid_record(given, items={"loss": item})

    assert fields(run("hard + soft + hard(m=1)")) == []
    assert fields(run("hard(m=1) + soft(m=1) + hard")) == ["job.loss"]


def test_only_data_have_a_label_that_ids_lack() -> None:
    text = "tiny(norm=batch)"
    record = with_backbone(text, text, text, "tiny", {})
    labelled = record.items | {"backbone": replace(record.items["backbone"], label="batch")}
    expected = ["items.backbone.label", "items.backbone.identity"]
    assert fields(replace(record, items=labelled)) == expected
