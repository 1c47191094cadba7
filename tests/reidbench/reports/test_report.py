"""Reports from Python: the parts of the command, printed, in a notebook, as a page and as figures."""

from types import SimpleNamespace

import pytest

import reidbench
from reidbench.errors import OptionError
from tests.support.boards import put, valid_record


@pytest.fixture
def records(tmp_path):
    for number, loss in enumerate(("batch_hard", "<i>a</i>")):
        put(tmp_path / "results" / "runs" / str(number), valid_record(loss))
    return reidbench.records(tmp_path / "results")


def test_a_report_prints_and_is_shown_in_a_notebook(records, tmp_path):
    report = reidbench.report(records)
    assert "mAP (market)" in repr(report)
    html = report._repr_html_()
    assert html.startswith("<h3>Scores</h3>\n<table>")
    assert "&lt;i&gt;a&lt;/i&gt;" in html
    assert "<i>" not in html
    assert "<th>mAP (market)</th>" in report[0].tables[0]._repr_html_()
    curves = reidbench.report(records.folders, sections=["curves"], html=tmp_path / "page.html", plots=tmp_path)
    assert '<img alt="' in curves._repr_html_()
    assert (tmp_path / "page.html").read_text().startswith("<!")
    assert len(list(tmp_path.glob("*.png"))) == len(curves[0].charts) > 0


def test_a_part_that_cannot_be_shown_leaves_the_others(records, monkeypatch):
    broken = SimpleNamespace(savefig=lambda *_, **__: {}["blank"], get_label=lambda: "x")
    monkeypatch.setattr("reidbench_reports.curves.Curves.build", lambda *_: reidbench.Part("C", figures=[broken]))
    html = reidbench.report(records, sections=["curves", "table"])._repr_html_()
    assert "section &#x27;C&#x27; failed" in html
    assert "mAP (market)" in html


def test_wrong_requests_are_refused(records, tmp_path):
    with pytest.raises(OptionError, match="no figure"):
        reidbench.report(records, sections=["provenance"], plots=tmp_path / "plots")
    with pytest.raises(OptionError, match="tabel"):
        reidbench.report(records, sections="tabel")


def test_a_comparison_is_that_of_the_command(records):
    comparison = reidbench.compare(*records.folders)
    first = comparison.differences[0]
    assert first.score == "map_market"
    assert [first.a, first.b] == pytest.approx([each.scores["map_market"] for each in records])
    assert repr(comparison) == repr(reidbench.compare(*(record.id[:12] for record in records)))
    assert f"{100 * first.difference:+.2f}" in repr(comparison)
    assert "batch_hard, tiny, seed 0 · B: &lt;i&gt;a&lt;/i&gt;" in comparison._repr_html_()
    with pytest.raises(OptionError, match="same runs"):
        reidbench.compare(records.folders[0], records.folders[0] / "record.json")
