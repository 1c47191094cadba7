"""The section ``training_log``: every training once, long ones in groups of steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from reidbench_reports.training_log import MOST_POINTS, QUANTITIES, _grouped

from tests.support.parts import build_part, printed
from tests.support.rankings import with_rankings
from tests.support.records import make_record


def test_every_training_is_a_line_of_each_chart(ran):
    records, files = ran
    reranked = replace(records[0], id="other", finished=records[0].finished)
    part = build_part("training_log", [*records, reranked], files)
    assert [chart.title for chart in part.charts] == [name for name in QUANTITIES if "validation" not in name]
    loss = part.charts[0]
    assert [series.name for series in loss.series] == ["batch_hard", "classification"]
    (table,) = part.tables
    assert printed(table, "steps") == ["4", "4"]
    log = files.log(records[0])
    assert printed(table, "loss")[0] == f"{log['loss'][-1]:.4g}"
    line = loss.series[0]
    for values, column in ((line.x, "step"), (line.y, "item_mean"), (line.high, "item_95")):
        np.testing.assert_allclose(values, log[column], rtol=1e-6)
    np.testing.assert_allclose(part.charts[1].series[1].y, 100 * files.log(records[1])["active"])


def test_a_record_without_its_log_is_named(tmp_path):
    records = [make_record("a"), make_record("none")]
    files = with_rankings(tmp_path, [(record, None) for record in records])
    part = build_part("training_log", records, files)
    assert part.charts == []
    assert len(part.notes) == 1
    assert "is missing" in part.notes[0]


def test_long_training_is_shown_in_groups_of_steps():
    values = np.random.default_rng(0).random(4_000)
    values[40:80], values[100] = np.nan, np.inf
    groups = _grouped(values)
    assert len(groups) == MOST_POINTS
    assert np.isnan(groups[1])
    np.testing.assert_allclose(groups[3:], values[120:].reshape(-1, 40).mean(axis=1))
    np.testing.assert_allclose(groups[2], np.mean(np.delete(values[80:120], 20)))
    np.testing.assert_allclose(_grouped(values[:9]), values[:9])


def test_validation_scores_are_shown_at_their_steps(ran):
    records, files = ran

    class Validated:
        def log(self, record):
            return {**files.log(record), "validation.map_market": np.array([np.nan, 0.25, np.nan, 0.5])}

    charts = {chart.title: chart for chart in build_part("training_log", records[:1], Validated()).charts}
    (line,) = charts["validation mAP (market), %"].series
    assert (line.x, line.y) == ([1.0, 3.0], [25.0, 50.0])
