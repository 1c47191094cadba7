"""Strong baselines: published numbers, the suites that run them, their page, and the section that shows both."""

import re

from reidbench_reports.published import published_numbers

from reidbench import load_suite, resolved_items
from reidbench.runs.suite import find_suite
from tests.support.parts import build_part, printed
from tests.support.paths import CHECKOUT
from tests.support.records import run_of

NUMBERS = published_numbers("baselines")


def test_the_suites_run_what_has_a_number_on_its_side_of_the_neck():
    suite = load_suite(find_suite("paper/baselines"))
    assert {number.job for number in NUMBERS if number.job} == {job for job in suite.jobs if job.loss != "none"}
    assert {job.recipe for job in suite.jobs if job.loss == "none"} == {"bag_of_tricks", "agw", "transformer"}
    for job in (*suite.jobs, *suite.scale("tiny").jobs.values()):
        items, _ = resolved_items(job)
        before = job.recipe.startswith("transformer")
        assert ("test_feature=pooled" in items["backbone"]) == before
        assert ("views=original" in items["protocol"], items["metric"].partition("(")[0]) == (True, "cosine")
        if job.loss != "none":
            metric_loss, classifier = items["loss"].split(" + ")[:2]
            assert metric_loss.endswith("feature=pooled)")
            assert ("bias=false" in classifier, "feature=neck" in classifier) == (True, before)


def test_the_page_has_the_published_numbers():
    page = (CHECKOUT / "docs" / "baselines.md").read_text(encoding="utf-8")
    places = {(number.row, number.column) for number in NUMBERS}
    shown = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([0-9.]+) \| ([0-9.]+) \| ([0-9.–]+) \|$", page, re.MULTILINE)
    assert len(shown) == len(places)
    expected = {(number.row, number.column, number.score): number.printed for number in NUMBERS}
    for row, column, *values in shown:
        assert values == [expected.get((row, column, score), "–") for score in ("map_step", "r1", "minp")]


def test_runs_of_a_suite_are_beside_the_published():
    number = next(number for number in NUMBERS if number.row == "AGW" and number.job)
    part = build_part("paper(table=baselines)", [run_of(number.job, scores={"map_step": 0.9}, deviations=["recipe"])])
    assert [text for text in printed(part.tables[0], "ours: mAP (step)") if text != "–"] == ["90.00 (+2.20)"]
    assert (len(part.tables), part.notes[0].split(";")[0]) == (1, "3 of 60 numbers have one of ours")
