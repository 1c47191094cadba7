"""The section ``study_table``: the table of a study and the sentences below it, on invented results."""

from dataclasses import replace

import numpy as np
import pytest

from reidbench import RunFiles, StudyFiles
from reidbench.errors import DataError
from reidbench.ranking.rankings import read_ranking, save_ranking
from reidbench.ranking.scores import average_precision
from reidbench.reports.sections import build_sections
from reidbench.reports.text_formats import to_terminal
from reidbench.utils.machine import local_machine
from tests.support.rankings import renumber
from tests.support.studies import LOSSES, make_study


def part_of(result):
    files = StudyFiles(result, local_machine(results=result.folder))
    (part,) = build_sections(["study_table"], files.records, files)
    assert not part.error
    return part


def printed(result):
    return to_terminal([part_of(result)])


def row_of(result, loss):
    (row,) = [row for row in part_of(result).tables[0].rows if row["loss"] == loss]
    return dict(row)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_table_is_readable_at_every_width(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(make_study(tmp_path, against="batch_hard"))
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert all(loss in words for loss in LOSSES)
    assert "The best of these 3 losses is among: my_loss, lifted_generalized (95 %)." in words
    assert "my_loss is better than batch_hard (Holm over 3 pairs)." in words
    assert "Against batch_hard (named beforehand, Holm over 2): better: my_loss, lifted_generalized." in words
    assert "searches and query identities" in words
    assert "synthetic(identities=60), tiny, quick(steps=200) ‡, 3 seeds, each with a search of its own of 4" in words


def test_data_and_schedule_are_marked_as_in_a_report(tmp_path):
    result = make_study(tmp_path, standin=True)
    part = part_of(result)
    assert part.tables[0].title.startswith("synthetic(identities=60) (stand-in data †), tiny, quick(steps=200) ‡, ")
    (report,) = build_sections(["table"], list(result.runs.values()), RunFiles([], local_machine(results=tmp_path)))
    marked = [[note for note in each.notes if note[0] in "†‡"] for each in (part, report)]
    assert marked[0] == marked[1]


def test_rows_hold_means_places_gains_and_verdicts(tmp_path):
    result = make_study(tmp_path, against="batch_hard")
    (loss,) = [each for each in result.losses if each.loss == "my_loss"]
    tuned, default = (
        np.mean([average_precision(read_ranking(final.folder), "market").mean() for final in finals])
        for finals in (loss.finals, loss.defaults)
    )
    row = row_of(result, "my_loss")
    assert row["mean"] == pytest.approx(tuned)
    assert row["gain"] == pytest.approx(tuned - default)
    assert (row["best_place"], row["worst_place"], row["may_be_best"]) == (1, 2, "yes")
    against = part_of(result).tables[1]
    assert against.columns[1].heading == "difference (95 %)"
    verdicts = [(row["loss"], row["verdict"]) for row in against.rows]
    assert verdicts == [("my_loss", "better"), ("lifted_generalized", "better")]
    assert row_of(result, "none")["may_be_best"] == "not compared"


def test_nothing_measured_is_printed(tmp_path):
    result = make_study(tmp_path)
    slower = []
    for each in result.losses:
        finals = [
            replace(final, record=replace(final.record, seconds={"train": 1e6}, peak_memory_mib=1, started="later"))
            for final in each.finals
        ]
        trials = [replace(trial, seconds=1e6) for trial in each.trials]
        slower.append(replace(each, by_tuning={**each.by_tuning, "tuned": finals}, trials=trials))
    assert printed(replace(result, losses=slower)) == printed(result)


def test_options_as_given_form_the_families(tmp_path):
    result = make_study(tmp_path, trials=0)
    part = part_of(result)
    assert "tuned" not in " ".join(column.heading for column in part.tables[0].columns)
    assert "options found" not in " ".join(part.notes)
    assert "other options" in " ".join(part.notes)


def test_one_seed_says_nothing_of_the_losses(tmp_path):
    text = printed(make_study(tmp_path, seeds=1, searches=1))
    assert "One seed: these checkpoints only, not the losses." in text
    assert "is better than" not in text
    assert "may be best" not in text


def test_flawed_losses_are_listed_with_all_seeds_and_not_compared(tmp_path):
    losses = {**LOSSES, "batch_all": 0.2}
    statuses = {("my_loss", 1): "collapsed", ("lifted_generalized", 0): "failed", ("lifted_generalized", 2): "failed"}
    result = make_study(tmp_path, losses, statuses=statuses)
    text = printed(result)
    assert "my_loss is in no comparison: unstable: 1 seed collapsed or failed." in text
    assert "lifted_generalized is in no comparison: unstable: 2 seeds collapsed or failed." in text
    assert "best of these 2 losses" in text
    assert row_of(result, "my_loss")["seeds"] == 3
    assert row_of(result, "lifted_generalized")["seeds"] == 1
    assert row_of(result, "my_loss")["gain"] is None


def test_search_that_chose_the_options_as_given_has_no_gain(tmp_path):
    result = make_study(tmp_path)
    losses = [
        replace(each, by_tuning=dict.fromkeys(each.by_tuning, each.defaults)) if each.loss == "my_loss" else each
        for each in result.losses
    ]
    same = replace(result, losses=losses)
    assert row_of(same, "my_loss")["gain"] is None
    assert "my_loss: every search chose the options as given." in printed(same)


def test_rankings_of_other_queries_are_named(tmp_path):
    result = make_study(tmp_path)
    final = result.losses[1].finals[2]
    save_ranking(final.folder, renumber(read_ranking(final.folder), 3, 7777))
    with pytest.raises(DataError, match=str(final.folder)):
        part_of(result)


def test_study_without_any_score_is_an_error(tmp_path):
    statuses = {("my_loss", seed): "failed" for seed in range(3)}
    result = make_study(tmp_path, {"my_loss": 0.0}, trials=0, statuses=statuses)
    with pytest.raises(DataError, match=str(tmp_path)):
        part_of(result)
