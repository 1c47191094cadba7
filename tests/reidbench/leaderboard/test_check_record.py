"""What a record says it was asked for, in every wording, is what it says was run."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from reidbench.leaderboard.check_record import record_problems
from reidbench.runs.record import RunRecord
from tests.support.boards import sound
from tests.support.records import digest, make_item

SHA = f"sha256:{digest('file')}"


def with_backbone(given: str, spec: str, short: str, identity: str, origins: dict[str, str]) -> RunRecord:
    item = replace(make_item(given, spec, short), identity=identity, origins=origins)
    record = sound(items={"backbone": item})
    return replace(record, **asdict(record.identity()))


def columns(record: RunRecord) -> list[str]:
    return [field for field, _ in record_problems(record)]


GIVEN = {"norm": "default", "weights": "given"}


@pytest.mark.parametrize("folder", ["", "/data/", "../"])
def test_a_file_is_its_path_its_name_or_its_digest_each_in_its_place(folder: str) -> None:
    spec = f"tiny(norm=batch, weights={folder}w.pth)"
    named = {"path": f"{folder}w.pth", "name": "w.pth", "digest": f'"{SHA}"'}
    right = {"given": "path", "short": "name", "identity": "digest"}

    def texts(**changes: str) -> dict[str, Any]:
        chosen = {field: named[how] for field, how in (right | changes).items()}
        return {
            "given": f"tiny(weights={chosen['given']})",
            "short": f"tiny(weights={chosen['short']})",
            "identity": f"tiny(norm=batch, weights={chosen['identity']})",
        }

    assert columns(with_backbone(spec=spec, origins=GIVEN, **texts())) == []
    assert columns(with_backbone(spec=spec, origins=GIVEN, **texts(short="digest"))) == ["items.backbone.short"]
    assert columns(with_backbone(spec=spec, origins=GIVEN, **texts(given="digest"))) == ["job.backbone"]
    if folder:
        assert columns(with_backbone(spec=spec, origins=GIVEN, **texts(given="name"))) == ["job.backbone"]
        assert columns(with_backbone(spec=spec, origins=GIVEN, **texts(identity="name"))) == ["items.backbone.identity"]


@pytest.mark.parametrize("forged", [SHA, SHA.upper(), "sha256:", SHA + "0", "sha256:batch"])
@pytest.mark.parametrize("field", ["given", "short", "identity"])
def test_no_digest_stands_for_a_text_that_is_no_file(field: str, forged: str) -> None:
    fine = "tiny(norm=batch)"
    texts = {"given": fine, "short": fine, "identity": fine} | {field: f'tiny(norm="{forged}")'}
    said = "job.backbone" if field == "given" else f"items.backbone.{field}"
    assert columns(with_backbone(spec=fine, origins={}, **texts)) == [said]


@pytest.mark.parametrize("forged", ["sha256:", SHA + "0", "sha256:w.pth", SHA.upper()])
def test_a_digest_of_a_file_has_64_hex_digits(forged: str) -> None:
    record = with_backbone("tiny(w=a/b.pth)", "tiny(w=a/b.pth)", "tiny(w=b.pth)", f'tiny(w="{forged}")', {})
    assert columns(record) == ["items.backbone.identity"]


def test_what_was_given_stands_in_the_job() -> None:
    spec = "tiny(norm=batch, dim=128)"
    for origin, said in (("default", []), ("protocol", []), ("given", ["job.backbone"])):
        assert columns(with_backbone("tiny", spec, "tiny", spec, {"norm": "default", "dim": origin})) == said
    assert columns(with_backbone("tiny(dim=128)", spec, "tiny", spec, {"norm": "default", "dim": "given"})) == []


def test_of_a_sum_every_part_is_asked_for_what_was_given_to_it() -> None:
    spec = "hard(m=1) + soft(m=1) + hard(m=1)"
    origins = {"hard.m": "default", "soft.m": "default", "hard:2.m": "given"}

    def run(given: str) -> RunRecord:
        return sound(given, items={"loss": replace(make_item(given, spec, "hard + soft + hard"), origins=origins)})

    assert columns(run("hard + soft + hard(m=1)")) == []
    assert columns(run("hard(m=1) + soft(m=1) + hard")) == ["job.loss"]


def test_clocks_may_differ_by_minutes_between_start_and_end() -> None:
    record = sound(finished="2026-11-22T10:00:00+00:00")
    assert columns(replace(record, started="2026-11-22T10:09:00+00:00")) == []
    assert columns(replace(record, started="2026-11-22T10:11:00+00:00")) == ["started"]
