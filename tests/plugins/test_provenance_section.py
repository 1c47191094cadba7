"""The section ``provenance``: commands that can be pasted back, and what made the numbers."""

from __future__ import annotations

import shlex

from reidbench_reports.provenance import command

from reidbench.reports.artifacts import RunFiles
from reidbench.runs.record import RunRecord
from tests.support.jobs import plan_of
from tests.support.parts import build_part, printed
from tests.support.records import make_item, make_record


def test_the_command_gives_the_same_run(ran: tuple[list[RunRecord], RunFiles]) -> None:
    from reidbench.runs.job import Job

    for record in ran[0]:
        program, verb, *flags = shlex.split(command(record))
        assert (program, verb) == ("reidbench", "run")
        given = dict(zip([flag.removeprefix("--") for flag in flags[::2]], flags[1::2], strict=True))
        asked = Job(**{**given, "seed": int(given["seed"])})  # type: ignore[arg-type]
        plan, _ = plan_of(asked, data=ran[1].machine.data, results=ran[1].machine.results)
        assert plan.id == record.id


def test_hostile_specs_are_quoted() -> None:
    record = make_record("x; rm -rf / $(touch y)", dirty=True, deviations=["recipe quick"], standin=True)
    other = make_record("b", items={"metric": make_item("xqda")})
    part = build_part("provenance", [record, other])
    runs, commands, machines, plugins = part.tables
    assert shlex.split(printed(commands, "command")[0])[5] == "x; rm -rf / $(touch y)"
    assert printed(runs, "commit")[0].endswith("with changes")
    assert printed(runs, "data")[0].endswith("stand-in")
    assert printed(runs, "deviations") == ["recipe quick", "none"]
    assert printed(machines, "runs") == ["2"]
    assert ["metric", "xqda", "reidbench_items", "reidbench 0.1.0"] in plugins.cells()
