"""The section ``provenance``: commands that can be pasted back, and what made the numbers."""

from __future__ import annotations

import shlex

from reidbench_reports.provenance import command

from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.runs.record import RunRecord
from reidbench.utils.machine import local_machine
from tests.support.jobs import plan_of
from tests.support.records import make_item, make_record


def test_the_command_asks_for_the_same_run(ran: tuple[list[RunRecord], RunFiles]) -> None:
    from reidbench.runs.job import Job

    for record in ran[0]:
        program, verb, *flags = shlex.split(command(record))
        assert (program, verb) == ("reidbench", "run")
        given = dict(zip([flag.removeprefix("--") for flag in flags[::2]], flags[1::2], strict=True))
        asked = Job(**{**given, "seed": int(given["seed"])})  # type: ignore[arg-type]
        plan, _ = plan_of(asked, data=ran[1].machine.data, results=ran[1].machine.results)
        assert plan.id == record.id


def test_hostile_specs_are_quoted_and_everything_is_named() -> None:
    record = make_record("x; rm -rf / $(touch y)", dirty=True, deviations=["recipe quick"], standin=True)
    other = make_record("b", items={"metric": make_item("xqda")})
    (part,) = build_sections(["provenance"], [record, other], RunFiles([], local_machine()))
    runs, commands, machines, plugins = part.tables
    assert shlex.split(commands["command"][0])[5] == "x; rm -rf / $(touch y)"
    assert runs["commit"][0].endswith("with changes")
    assert runs["data"][0].endswith("stand-in")
    assert runs["deviations"].tolist() == ["recipe quick", "none"]
    assert machines["runs"].tolist() == ["2"]
    assert ["metric", "xqda", "reidbench_items", "reidbench 0.1.0"] in plugins.to_numpy().tolist()
