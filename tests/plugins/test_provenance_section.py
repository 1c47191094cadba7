"""The sections ``provenance`` and ``run``: commands that can be pasted back, and what made the numbers."""

import shlex
from dataclasses import replace

from reidbench_reports.provenance import command

from reidbench.reports.text_formats import to_terminal
from tests.support.jobs import plan_of
from tests.support.parts import build_part, printed
from tests.support.records import make_item, make_record


def test_the_command_gives_the_same_run(ran):
    from reidbench.runs.job import Job

    for record in ran[0]:
        program, verb, *flags = shlex.split(command(record))
        assert (program, verb) == ("reidbench", "run")
        given = dict(zip([flag.removeprefix("--") for flag in flags[::2]], flags[1::2], strict=True))
        asked = Job(**{**given, "seed": int(given["seed"])})
        plan, _ = plan_of(asked, data=ran[1].machine.data, results=ran[1].machine.results)
        assert plan.id == record.id


def test_hostile_specs_are_quoted():
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


def test_a_run_has_its_scores_commands_and_sentences(ran):
    record = ran[0][0]
    part = build_part("run", [record], ran[1])
    scores, options = part.tables
    assert printed(scores, "%")[0] == f"{100 * record.scores['map_market']:.2f}"
    assert printed(scores, "95 %")[0] == "–".join(f"{100 * end:.1f}" for end in record.intervals["map_market"])
    assert "quick(steps=4, " in printed(options, "item")[printed(options, "kind").index("recipe")]
    assert "p: given" in printed(options, "not at defaults")[printed(options, "kind").index("recipe")]
    assert part.commands[0] == command(record)
    assert part.commands[1] == f"reidbench run results/runs/{ran[1].folder(record).name}/record.json"
    text = to_terminal([part])
    assert part.commands[0] in text.splitlines()  # on one line, at any width
    for fact in (
        record.dataset.digest[:12],
        record.code[:12],
        "4 steps of 6 × 2 images",
        "Differs from its paper in: ",
    ):
        assert fact in " ".join(part.notes)
    failed = replace(record, status="failed", error="the reason", scores={}, seconds={}, intervals={})
    assert build_part("run", [failed], ran[1]).notes[0] == "Status failed: the reason"
