"""The sections of a study but its table: study_pairs, study_search, study_options, study_cost."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from reidbench_reports.study import order_changes, search_curve, spec_values

from reidbench import StudyFiles
from reidbench.utils.machine import local_machine
from tests.support.parts import build_part, headings, printed
from tests.support.studies import make_study

SECTIONS = ("study_table", "study_pairs", "study_search", "study_options", "study_cost")


def section_of(section, result):
    files = StudyFiles(result, local_machine(results=result.folder))
    return build_part(section, files.records, files)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("section", SECTIONS)
def test_without_a_study_a_note_says_so(section):
    assert "reidbench study" in build_part(section, []).notes[0]


def test_pairs_are_in_table_and_matrix(result):
    part = section_of("study_pairs", result)
    assert printed(part.tables[0], "a than b") == ["not told apart", "better", "better"]
    assert [chart.kind for chart in part.charts] == ["intervals", "intervals", "heatmap"]
    assert [row.name[:2] for row in part.charts[0].series[::2]] == ["★ ", "★ ", "ba", "no"]
    assert part.charts[0].title.endswith("; ★ may be the best")
    rows = part.charts[2].series
    cells = {(row.name, x): (y, label) for row in rows for x, y, label in zip(row.x, row.y, row.labels, strict=True)}
    assert [cells[row.name, row.name] for row in rows] == [(None, "")] * 3
    assert all(y == -cells[x, name][0] for (name, x), (y, _) in cells.items() if y is not None)
    assert sum(label.endswith("*") for _, label in cells.values()) == 4  # two told apart, from both sides


def test_study_of_one_seed_has_pairs_without_verdict(tmp_path):
    part = section_of("study_pairs", make_study(tmp_path, seeds=1, searches=1))
    assert "p by itself" not in headings(part.tables[0])
    assert not [label for row in part.charts[2].series for label in row.labels if label.endswith("*")]
    two = section_of("study_pairs", make_study(tmp_path / "two", {"batch_hard": 0.0, "my_loss": 0.5, "none": -1.0}))
    assert len(two.charts) == 2  # a matrix of one pair is the pair


def test_search_curve_is_the_mean_over_all_orders(result):
    trials = result.losses[0].trials
    expected = []
    for search in range(3):
        first, *others = [trial.score for trial in trials if trial.search == search]
        orders = [np.maximum.accumulate([first, *order]) for order in itertools.permutations(others)]
        expected.append(np.mean(orders, axis=0))
    assert search_curve(trials) == pytest.approx(np.mean(expected, axis=0))
    assert search_curve(trials[::-1]) == pytest.approx(search_curve(trials))
    assert search_curve([trial for trial in trials if trial.number == 1]) == pytest.approx(
        np.mean(expected, axis=0)[:1]
    )


def test_remarks_name_pairs_whose_order_depends_on_the_budget():
    slow_start = {"a": np.array([0.1, 0.3, 0.5]), "b": np.array([0.2, 0.4, 0.45]), "c": np.array([0.05, 0.06, 0.07])}
    (remark,) = order_changes(slow_start, dict.fromkeys("abc", 1.0))
    assert remark.startswith("a is ahead of b from 3 trials on")
    slow = {"a": np.array([0.1, 0.3, 0.5]), "b": np.array([0.05, 0.2, 0.3])}
    assert list(order_changes(slow, {"a": 1.0, "b": 1.0})) == []
    (remark,) = order_changes(slow, {"a": 3.0, "b": 1.0})  # in the three hours of b's trials a has had one
    assert remark.startswith("a is ahead of b after equal trials")


def test_search_shows_what_each_search_chose(result):
    part = section_of("study_search", result)
    assert len(part.charts) == 2
    assert len(part.tables[0].rows) == 9
    assert printed(part.tables[0], "trial") == [str(win.number) for each in result.losses for win in each.winners]


def test_options_show_what_was_searched_only(result):
    part = section_of("study_options", result)
    captions = [chart.title.partition(" (")[0] for chart in part.charts]
    assert captions == [f"{each.loss}: {name}" for each in result.losses[:3] for name in ("learning_rate", "margin")]


def test_choices_are_options_too(result):
    first = result.losses[0]
    trials = [replace(trial, loss_text=f"batch_hard(margin={value})")
              for trial, value in zip(first.trials, itertools.cycle(["soft", 0.1, 0.2, 0.5]))]  # fmt: skip
    part = section_of("study_options", replace(result, losses=[replace(first, trials=trials), *result.losses[1:]]))
    (chart,) = [chart for chart in part.charts if chart.title.startswith("batch_hard: margin")]
    assert {x for series in chart.series for x in series.x} == {0.1, 0.2, 0.5}


def test_values_of_a_sum_are_named_by_term(result):
    trial = replace(result.losses[0].trials[1], loss_text="batch_hard(margin=0.3) + 0.5*batch_hard(margin=0.4)")
    values = spec_values(replace(trial, recipe_text="quick(learning_rate=0.002)"))
    assert values["learning_rate"] == 0.002
    assert sorted(value for name, value in values.items() if name.endswith(".margin")) == [0.3, 0.4]
    assert sorted(value for name, value in values.items() if name.startswith("weight")) == [0.5, 1.0]


def test_cost_is_of_the_final_runs(result):
    part = section_of("study_cost", result)
    rows = {row["loss"]: row for row in part.tables[0].rows}
    assert rows["batch_hard"]["time"] == pytest.approx(60.0)
    assert "seconds" in headings(part.tables[0])[1]
    assert rows["lifted_generalized"]["memory"] == 650
    assert len(part.charts) == 2


def test_without_trials_search_and_options_say_so(tmp_path):
    result = make_study(tmp_path, trials=0)
    assert section_of("study_search", result).notes
    assert section_of("study_options", result).notes
