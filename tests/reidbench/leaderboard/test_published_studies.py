"""A study is added with the ranks of its final runs; its rows follow from them, and what was changed is named."""

import json
import shutil

import pytest

from reidbench.leaderboard.board import check, load_boards, merge
from reidbench.leaderboard.published_studies import add_study, load_studies
from reidbench.leaderboard.site import board_page
from reidbench.leaderboard.site_entries import entries_of
from reidbench.studies.define import define_study
from reidbench.studies.page import compare_study
from reidbench.studies.run_study import write_trials
from reidbench.studies.study import Final, LossResult, StudyResult, Trial, store_study
from tests.support.boards import put, rows_of, tree, valid_record
from tests.support.cases import cases
from tests.support.records import digest, make_item

FILE = cases(__file__, "file")
TUNED = "quick(learning_rate=0.003)"
OTHERS = "of batch_hard, with the seeds of the searches and map_market under euclidean and cosine"


def trial(loss: str, search: int, number: int) -> Trial:
    text, recipe = (loss, "quick") if number == 1 else (f"{loss}(margin=0.3)", TUNED)
    scores = {"euclidean": 0.1 * number, "cosine": 0.05}
    ids = {metric: digest(loss, search, number, metric) for metric in scores}
    return Trial(loss, search, number, text, recipe, 10_000 + search, ids, scores, "map_market", "ok", "", 1.0, "c")


def record(loss, seed, recipe="quick"):
    return valid_record(loss, seed, items={"recipe": make_item(recipe), "backbone": make_item("tiny")})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the folder of a study in the results of two losses and two seeds, whose second trials were better."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "boards" / "studies" / "mine.toml"
    file.parent.mkdir(parents=True)
    file.write_text(FILE)
    definition, results = define_study(str(file), {}), folder / "results"
    losses = []
    for loss in definition.losses:
        trials = [trial(loss, search, number) for search in (0, 1) for number in (1, 2) if loss != "none"]
        texts = [(loss, "quick"), *([(f"{loss}(margin=0.3)", TUNED)] if trials else [])]
        runs = [[Final(*put(results / "runs" / digest(text, seed), record(text[0], seed, text[1])))
                 for seed in (0, 1)] for text in texts]  # fmt: skip
        losses.append(LossResult(loss, dict(zip(("default", "tuned"), runs, strict=False)), trials))
    result = StudyResult(definition, losses, results / "studies" / "mine-1234567890")
    write_trials([each for loss in losses for each in loss.trials], result.folder / "trials.jsonl")
    store_study(result, result.folder, lambda final: f"../../runs/{final.folder.name}")
    return result.folder


@pytest.fixture(scope="module")
def published(study):
    folder = study.parents[2] / "boards"
    add_study(study, folder)
    assert merge(folder) == [folder / "synthetic.csv"]
    return folder


@pytest.fixture
def boards(published, tmp_path):
    return shutil.copytree(published, tmp_path / "boards")


def test_rows_of_a_study_follow_from_its_final_runs(boards, study, tmp_path, reidbench_main):
    assert check(boards) == []
    rows = {(row["loss"], row["tuning"]): row for row in rows_of(boards)}
    assert rows.keys() == {*((loss, tuning) for loss in ("batch_hard", "batch_all") for tuning in ("tuned", "default")),
                           ("none", "default")}  # fmt: skip
    tuned, default = rows["batch_hard", "tuned"], rows["batch_hard", "default"]
    assert (tuned["study"], tuned["n_seeds"], tuned["loss_params"]) == ("mine", "2", "batch_hard(margin=0.3)")
    start = "backbone=tiny recipe=quick metric={} rerank=none study(seeds=2, trials={}"
    assert tuned["track"].startswith(start.format("euclidean|cosine", "2, searches=2, ranges="))
    assert default["track"] == start.format("auto", "0)") == rows["none", "default"]["track"]
    assert len({row["track"] for row in rows.values()}) == 2
    ((published,), _) = load_studies(boards)
    (scores,) = [each for each in compare_study(published).losses if each.name == "batch_hard"]
    assert (tuned["map_market"], tuned["map_market_sd"]) == (f"{scores.mean:.6f}", f"{scores.sd:.6f}")
    sizes = [file.stat().st_size for file in boards.glob("studies/mine/*/rankings.npz")]
    assert len(sizes) == 10
    before = tree(boards)
    for arguments in (["merge"], ["html", str(tmp_path / "site")]):
        assert reidbench_main("leaderboard", *arguments, "--folder", str(boards))[0] == 0
    assert tree(boards) == before
    assert "tuned" in (tmp_path / "site" / "synthetic.html").read_text()
    code, output = reidbench_main("leaderboard", "add", str(study), "--folder", str(boards))
    assert (code, "studies/mine" in output) == (2, True)
    (boards / "studies" / "mine.toml").unlink()
    assert [problem.file.name for problem in check(boards)] == ["mine.toml"]


def edit(file, change):
    lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    values = [json.loads(line) for line in lines]
    change(values if file.suffix == ".jsonl" else values[0])
    file.write_text("\n".join(map(json.dumps, values)))


def swap_tuning(stored) -> None:
    finals = stored["finals"]["batch_hard"]
    finals["tuned"], finals["default"] = finals["default"], finals["tuned"]


def test_of_equal_scores_that_of_the_first_metric_of_the_study_counts(boards):
    def equal_scores(trials) -> None:
        for each in trials:
            each["scores"] = dict.fromkeys(("cosine", "euclidean"), each["scores"]["euclidean"])

    edit(boards / "studies" / "mine" / "trials.jsonl", equal_scores)
    ((published,), problems) = load_studies(boards, files=True)
    assert problems == []
    assert {trial.metric for loss in published.losses for trial in loss.winners} == {"euclidean"}


@pytest.mark.parametrize(
    ("name", "change", "where", "words"),
    [
        ("study.json", lambda stored: stored["finals"]["none"]["default"].pop(), "study.json", "1 final runs of none"),
        ("study.json", lambda stored: stored["finals"]["batch_all"]["tuned"].append("0" * 12), "study.json", "000000"),
        ("study.json", lambda stored: stored["finals"]["batch_all"]["tuned"].reverse(), "record.json", "job.seed"),
        (
            "study.json",
            lambda stored: stored.update(finals={}),
            "study.json",
            "no final run of batch_hard",
        ),
        ("study.json", swap_tuning, "record.json", "batch_hard, default"),
        ("study.json", lambda stored: stored["study"].update(trials=1), "mine.toml", "another study"),
        ("trials.jsonl", lambda trials: trials[0]["scores"].update(euclidean=0.9), "record.json", "batch_hard, tuned"),
        ("trials.jsonl", lambda trials: trials.pop(), "trials.jsonl", "1 to 2 in searches 0 to 1 of batch_all"),
        ("trials.jsonl", lambda trials: trials[0].pop("code"), "study.json", "trials.jsonl: [0].code"),
        ("trials.jsonl", lambda trials: trials[0]["scores"].update(xqda=0.9), "trials.jsonl", OTHERS),
        ("trials.jsonl", lambda trials: trials[0]["scores"].pop("cosine"), "trials.jsonl", OTHERS),
        ("trials.jsonl", lambda trials: trials[1].update(scores={}), "trials.jsonl", OTHERS),
        ("trials.jsonl", lambda trials: trials[0].update(runs={}), "trials.jsonl", OTHERS),
        ("trials.jsonl", lambda trials: trials[0].update(seed=0), "trials.jsonl", OTHERS),
        ("trials.jsonl", lambda trials: trials[0].update(primary="r1"), "trials.jsonl", OTHERS),
    ],
)
def test_changed_files_of_a_study_are_named(boards, name, change, where, words, reidbench_main):
    edit(boards / "studies" / "mine" / name, change)
    problems = [problem for problem in check(boards) if problem.file.suffix != ".csv"]
    assert [str(problem) for problem in problems if problem.file.name == where and words in str(problem)], problems
    code, output = reidbench_main("study", str(boards / "studies" / "mine"))
    assert (code, words in output, "Losses by score" in output) == (2, True, False), "printed as if nothing were wrong"


def test_changed_scores_and_copied_ranks_are_named(boards):
    first, second = sorted(boards.glob("studies/mine/*/record.json"))[:2]
    data = json.loads(first.read_text())
    del data["checksum"]
    data["scores"]["r1"] = 0.0
    first.write_text(json.dumps(data))
    shutil.copy(first.with_name("rankings.npz"), second.with_name("rankings.npz"))
    assert {problem.file for problem in check(boards)} >= {first, second}


def test_the_site_shows_tuned_rows_without_searched_options(published):
    entries = list(entries_of(load_boards(published)[0][0]))
    page = board_page("synthetic", entries)
    assert {entry.parts["recipe"] for entry in entries} == {"quick"}
    assert {entry.parts["study"] for entry in entries if entry.row["tuning"] == "default"} == {"seeds=2, trials=0"}
    assert page.count('<code dir="ltr">reidbench study boards/studies/mine.toml</code>') == len(entries) == 5
    assert '<option dir="auto" value="tuned">' in page
