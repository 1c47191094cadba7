"""The page of a study in a browser; what fails in it hides neither the rest nor the table."""

import re

import pytest
import reidbench_reports.study_charts

from reidbench.studies.page import PAGE, StudyFiles, study_command, write_page
from reidbench.utils.machine import local_machine
from tests.support.documents import commands_in
from tests.support.studies import make_study

HOSTILE = 'csv(file="<script>alert(1)</script> $x$ {{ 7 * 7 }}")'


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    losses = {"batch_hard": 0.0, HOSTILE: 0.3, "none": -1.0}
    return make_study(tmp_path_factory.mktemp("study"), losses, against="batch_hard")


def page_of(result):
    write_page(StudyFiles(result, local_machine(results=result.folder)), result.folder / PAGE)
    return result.folder / PAGE


def test_page_is_accessible_and_shows_every_part(result, open_page):
    file = page_of(result)
    text = file.read_text()
    assert 'class="error"' not in text
    visit = open_page(file, dark=True)  # the colours of the light page are those of every page
    assert visit.violations() == []
    visit.page.set_viewport_size({"width": 390, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
    headings = visit.page.locator("h2").all_inner_texts()
    assert len(headings) == 6
    assert visit.page.locator("figure").count() == 2 + 2 + 4 + 2
    assert visit.page.locator(f"text={HOSTILE}").count() > 3


def test_section_that_fails_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(reidbench_reports.study_charts, "matrix", lambda _: 1 / 0)
    text = page_of(make_study(tmp_path, trials=0)).read_text()
    assert "ZeroDivisionError" in text
    assert "(95 %)" in text
    assert "Score against peak memory" in text


def test_command_on_the_page_repeats_the_study(result):
    (command,) = commands_in("page", study_command(result.study))
    flags = dict(zip(command.words[1::2], command.words[2::2], strict=True))
    assert flags["--against"] == "batch_hard"
    assert (flags["--trials"], flags["--seeds"], flags["--searches"]) == ("4", "3", "3")
    assert re.findall(r"--loss", study_command(result.study)) == ["--loss"] * 2
