"""Strong baselines: published numbers, the suites that run them, their page, and the section that shows both."""

import re
from dataclasses import replace

import pytest
from reidbench_reports.published import published_numbers

from reidbench import load_suite, resolved_items
from reidbench.runs.suite import find_suite
from tests.support.parts import build_part, printed
from tests.support.paths import CHECKOUT
from tests.support.records import run_of

NUMBERS = published_numbers("baselines")
SUITES = ("bag_of_tricks", "agw", "transformer")


def test_the_suites_run_what_has_a_number_and_controls():
    suites = {name: load_suite(find_suite(name)) for name in SUITES}
    together = load_suite(find_suite("paper/baselines"))
    published = {number.job for number in NUMBERS if number.job}
    assert published == {job for job in together.jobs if job.loss != "none"}
    assert set(together.jobs) == {job for suite in suites.values() for job in suite.jobs}
    for name, suite in suites.items():
        assert {job.recipe for job in suite.jobs} == {name}
        assert [job.protocol for job in suite.jobs if job.loss == "none"] == ["market1501(views=original)"]
    small = together.scale("tiny").jobs
    for job in (*together.jobs, *small.values()):
        items, _ = resolved_items(job)
        assert "views=original" in items["protocol"]
        assert items["metric"].startswith("cosine")


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_trains_the_losses_on_their_sides_of_the_neck(name):
    job = load_suite(find_suite(name)).jobs[0]
    items, _ = resolved_items(job)
    metric_loss, classifier = items["loss"].split(" + ")[:2]
    assert metric_loss.endswith("feature=pooled)")
    assert ("test_feature=pooled" in items["backbone"]) == ("feature=neck" in classifier) == (name == "transformer")
    assert "bias=false" in classifier


def test_the_page_has_the_published_numbers():
    rows = {}
    for number in NUMBERS:
        rows.setdefault((number.row, number.column), {})[number.score] = number.printed
    page = (CHECKOUT / "docs" / "baselines.md").read_text(encoding="utf-8")
    scores = ("map_step", "r1", "minp")
    for (row, column), values in rows.items():
        cells = (row, column, *(values.get(score, "–") for score in scores))
        assert f"| {' | '.join(cells)} |\n" in page
    assert len(re.findall(r"\| [0-9.]+ \| [0-9.]+ \| [0-9.–]+ \|\n", page)) == len(rows)


def test_runs_of_a_suite_are_beside_the_published():
    job = load_suite(find_suite("agw")).jobs[0]
    part = build_part("paper(table=baselines)", [run_of(job, scores={"map_step": 0.9}), run_of(replace(job, seed=1))])
    table = part.tables[0]
    row = list(zip(printed(table, "system"), printed(table, "data"), strict=True)).index(("AGW", "Market-1501"))
    assert printed(table, "mAP (step)")[row] == "87.8"
    assert [text for text in printed(table, "ours: mAP (step)") if text != "–"] == [
        printed(table, "ours: mAP (step)")[row]
    ]
    assert part.notes[0].startswith("3 of 60 numbers have one of ours; reidbench run paper/baselines ")
    assert "Strong baselines" in part.title
