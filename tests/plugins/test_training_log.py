"""The section ``training_log``: every training once, long ones in groups of steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from reidbench_reports.training_log import _grouped, draw

from reidbench.reports.artifacts import RunFiles
from reidbench.reports.figures import to_svg
from reidbench.runs.record import RunRecord
from tests.support.parts import build_part, printed
from tests.support.rankings import with_rankings
from tests.support.records import make_record

Ran = tuple[list[RunRecord], RunFiles]


def test_every_training_is_drawn_once_from_its_log(ran: Ran) -> None:
    records, files = ran
    reranked = replace(records[0], id="other", finished=records[0].finished)
    part = build_part("training_log", [*records, reranked], files)
    losses = ("batch_hard", "classification")
    assert [figure.get_label() for figure in part.figures] == [f"Training log: {loss}" for loss in losses]
    (table,) = part.tables
    assert printed(table, "steps") == ["4", "4"]
    log = files.log(records[0])
    assert printed(table, "loss")[0] == f"{log['loss'][-1]:.4g}"
    titles = [axes.get_title(loc="left") for axes in part.figures[0].axes]
    assert len(titles) == 7
    mean = next(line for line in part.figures[0].axes[1].lines if line.get_label() == "mean")
    np.testing.assert_allclose(mean.get_ydata(), log["item_mean"], rtol=1e-6)
    rate = part.figures[0].axes[6].lines[0]
    np.testing.assert_allclose(rate.get_ydata(), log["learning_rate"])


def test_a_record_without_its_log_is_named(tmp_path: Path) -> None:
    records = [make_record("a"), make_record("none")]
    files = with_rankings(tmp_path, [(record, None) for record in records])
    part = build_part("training_log", records, files)
    assert part.figures == []
    assert len(part.notes) == 1
    assert "is missing" in part.notes[0]


def test_a_long_training_is_drawn_in_groups_of_steps() -> None:
    steps = 4_000
    draw_from = np.random.default_rng(0)
    log = {name: draw_from.random(steps) for name in ("item_mean", "item_5", "active", "learning_rate", "loss")}
    log |= {
        f"{what}_{percentile}": draw_from.random(steps) + percentile
        for what in ("norm", "entry", "distance")
        for percentile in (0, 5, 50, 95, 100)
    }
    log["norm_100"][1_234] = 5_000.0
    log["step"] = np.arange(steps)
    log["items"] = draw_from.random((steps, 128)).astype(np.float16)
    log["items"][:, 100:] = np.nan
    figure = draw("long", log)
    svg = to_svg(figure, "a")
    assert len(svg) < 1_500_000
    x, top = _grouped(log["step"], log["norm_100"], np.nanmax)
    assert len(x) == 400
    assert top.max() == 5_000.0
    _, mean = _grouped(log["step"], log["item_mean"])
    np.testing.assert_allclose(mean, log["item_mean"].reshape(400, 10).mean(axis=1))
