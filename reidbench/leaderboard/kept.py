"""One run as a leaderboard looks at it, the same wherever it is looked at: in add, merge, check and verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reidbench.data.protocol import Protocol
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.check_record import faults_of, ranking_faults, score_faults
from reidbench.leaderboard.findings import Finding, in_record
from reidbench.leaderboard.rows import board_name
from reidbench.plugins.catalogue import load
from reidbench.ranking.rankings import RANKINGS, read_ranking
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.store import AGAIN


def run_findings(path: Path, record: RunRecord, *, allow_dirty: bool) -> Iterator[Finding]:
    """Yield what is wrong with a run in its folder: with the record, with the rankings beside it, or between them."""
    file, rankings = path / RECORD, path / RANKINGS
    faults = [in_record(file, *fault) for fault in faults_of(record, allow_dirty=allow_dirty)]
    if faults:
        yield from faults
        return
    yield from _wrong_version(file, record)
    try:
        ranking = read_ranking(path)
    except DataError as error:
        yield Finding(rankings, 0, "", str(error).removeprefix(f"{rankings}: "))
        return
    structure = [Finding(rankings, 0, "", what) for what in ranking_faults(ranking)]
    yield from structure or (in_record(file, *fault) for fault in score_faults(record, ranking))


def kept_run(file: Path, name: str) -> tuple[list[Finding], RunRecord | None]:
    """Return what is wrong with a record that is kept for the leaderboard ``name``, and with the rankings beside it.

    And the record itself, where rows can be made of it.
    """
    found, record = kept_record(file, name)
    if record is not None:
        found += run_findings(file.parent, record, allow_dirty=True)
    return found, record


def kept_record(file: Path, name: str) -> tuple[list[Finding], RunRecord | None]:
    """Return the same without a look at the rankings, which takes a moment for each."""
    try:
        record = read_record(file)
    except DataError as error:
        return [Finding(file, 0, "", str(error).removeprefix(f"{file}: "))], None
    faults = [in_record(file, *fault) for fault in faults_of(record, allow_dirty=True)]
    return (faults, None) if faults else (list(_misplaced(file, record, name)), record)


def _misplaced(file: Path, record: RunRecord, name: str) -> Iterator[Finding]:
    own, home = board_name(record), file.parent.parent if file.parent.name == AGAIN else file.parent
    if own != name:
        mark = own.removesuffix(".standin") == name.removesuffix(".standin")
        field = "standin" if mark else "items.protocol.spec"
        yield in_record(file, field, f"says that it belongs to {own}.csv, but it is kept for {name}.csv")
    if home.name != record.id[:12]:
        yield in_record(file, "id", f"begins with {record.id[:12]}, but its folder is named {home.name}")


def _wrong_version(file: Path, record: RunRecord) -> Iterator[Finding]:
    """Yield whether the protocol has moved on; a protocol that is not installed here cannot be asked."""
    try:
        protocol = load().resolve("protocol", record.items["protocol"].spec).build()
    except ReidbenchError:
        return
    version = record.evaluation.version
    if isinstance(protocol, Protocol) and protocol.version != version:
        yield in_record(file, "evaluation.version", f"is {version}, but the protocol's version is {protocol.version}")
