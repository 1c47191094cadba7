"""The section ``claims``: what its file may hold, how it is shown without a run, and the table of the docs."""

import importlib
import json
import math
import re
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from reidbench_reports.claims import read_claims

from reidbench import DataError
from tests.support.cases import cases
from tests.support.paths import CHECKOUT
from tests.support.records import make_record, put

CLAIM = {"name": "far_away", "section": "2", "claim": "It is far.", "published": "9", "command": "reidbench run"}
CLAIM |= {"scaled": "reidbench run\nreidbench report", "verdict": "holds", "measured": "8 [7, 9]"}
OTHER = {"name": "near", "section": "3.4", "claim": "It is near, by the distance that the network has learned."}
OTHER |= {
    "verdict": "not told apart",
    "measured": "1 [0, 2]",
    "command": "",
    "scaled": "reidbench study",
    "note": "<b>",
}
MISTAKES = cases(__file__, "mistakes")
HEADINGS = "\n| section | claim | verdict |\n|---|---|---|\n"


def toml(claim):
    return "\n".join(["[[claim]]", *(f"{key} = {json.dumps(value)}" for key, value in claim.items())])


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_file_claim_and_key(mistake, tmp_path):
    claim = {key: value for key, value in (CLAIM | mistake.get("changes", {})).items() if key != mistake.get("remove")}
    file = tmp_path / "claims.toml"
    file.write_text(mistake.get("text", toml(claim)))
    with pytest.raises(DataError) as raised:
        read_claims(file)
    text = str(raised.value)
    assert [part for part in (str(file), *mistake["expected"]) if part not in text] == []


def test_claims_are_shown_without_a_run(reidbench_call, tmp_path, monkeypatch):
    section = ("report", "--section", "claims")
    file = tmp_path / "leaderboards" / "paper" / "claims.toml"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(toml, (CLAIM, CLAIM | OTHER))))
    monkeypatch.setattr("reidbench_reports.claims.leaderboards_folder", lambda: tmp_path / "leaderboards")
    shown = reidbench_call(*section, env={"COLUMNS": "80"})
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[1] == "2 claims: holds 1, does not hold here 0, not told apart 1, not run 0"
    assert ["claim", "section", "verdict", "measured"] in [line.split()[:4] for line in lines]
    assert [line for line in lines if "It is far." in line and "8 [7, 9]" in line]
    assert [line for line in lines if line.startswith("Not shown at this width") and "scaled run" in line]
    page = tmp_path / "page.html"
    (part,) = json.loads(reidbench_call(*section, "--json", "-", "--html", str(page)).stdout)
    assert part["tables"][0]["rows"][0] == CLAIM | {"note": ""}
    html = page.read_text(encoding="utf-8")
    assert "<title>Claims of the paper</title>" in html
    assert "reidbench run &amp;&amp; reidbench report" in html
    assert "&lt;b&gt;" in html
    alone = reidbench_call(*section, "--section", "table")
    assert (alone.returncode, "holds no finished run" in alone.stderr) == (2, True)
    put(tmp_path / "results" / "runs" / "a", make_record("of-a-run"), None)
    assert "of-a-run" in reidbench_call(*section, "--section", "table").stdout


def test_the_claims_are_no_suite(reidbench_main):
    code, output = reidbench_main("run", "paper/claims")
    assert (code, "paper/claims: is no suite" in output, "report --section claims" in output) == (2, True, True)


def test_the_page_has_every_claim_with_its_verdict():
    page = (CHECKOUT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    table = page.partition(HEADINGS)[2].partition("\n\n")[0].splitlines()
    assert table == [f"| {claim.section} | {claim.claim} | {claim.verdict} |" for claim in read_claims()]


@pytest.mark.parametrize(
    ("script", "study", "page", "number"),
    [
        ("planned_differences", "table1", "studies/table1", 2),
        ("planned_differences", "steps", "studies/learning_curves", 2),
        ("planned_differences", "ablation", "studies/embedding_and_batch", 2),
        ("searched_study", "losses", "losses/index", 3),
        ("searched_study", "omniglot", "studies/real_pictures", 3),
    ],
)
def test_pages_of_studies_follow_from_their_records(script, study, page, number):
    command = [sys.executable, CHECKOUT / "benchmarks" / "studies" / f"{script}.py", study]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tables = [block for block in done.stdout.strip().split("\n\n") if block.startswith("|")]
    text = (CHECKOUT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert len(tables) == number
    assert [table for table in tables if f"\n\n{table}\n\n" not in text] == []


def test_the_page_says_how_far_two_studies_agree():
    command = [
        sys.executable,
        CHECKOUT / "benchmarks" / "studies" / "searched_study.py",
        "omniglot",
        "--other",
        "losses",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tau, first, second, both, same = re.findall(r"[\d.]+", done.stdout)
    text = " ".join((CHECKOUT / "docs" / "studies" / "real_pictures.md").read_text(encoding="utf-8").split())
    assert both == same
    assert f"{both} pairs of losses are told apart in both studies, all in the same order" in text
    assert f"(Kendall's τ {tau})" in text
    assert f"{first} of the 66 pairs are told apart here, {second} there" in text


def test_interval_of_splits_that_share_people_agrees_with_its_formula(monkeypatch):
    monkeypatch.syspath_prepend(CHECKOUT / "benchmarks" / "studies")
    gains = [0.01, 0.02, 0.03, 0.04, 0.10]
    mean = sum(gains) / 5
    variance = sum((gain - mean) ** 2 for gain in gains) / 4
    half = 2.776445 * math.sqrt((1 / 5 + 1) * variance)  # 97.5 % of Student's t with four degrees of freedom
    interval = importlib.import_module("faces").corrected_interval(np.array(gains))
    expected = [100 * end for end in (mean, mean - half, mean + half)]
    assert [interval.gap, interval.low, interval.high] == pytest.approx(expected, rel=1e-6)


def test_verdicts_on_table_1_follow_from_its_published_runs(monkeypatch):
    monkeypatch.syspath_prepend(CHECKOUT / "benchmarks" / "studies")
    importlib.import_module("claims_of_table1")
    rules = importlib.import_module("scaled_runs")
    runs, checked = rules.Runs(str(CHECKOUT / "leaderboards" / "studies" / "table1"), seeds=rules.SEEDS), 0
    for claim in read_claims():
        if claim.scaled == rules.TABLE1 and claim.name in rules.RULES:
            with suppress(rules.MissingRunsError):  # logs are not published
                assert rules.RULES[claim.name](runs) == (claim.verdict, claim.measured, claim.scaled)
                checked += 1
    assert checked > 10
