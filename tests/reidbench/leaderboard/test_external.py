"""Rows made by other programs: from two files of embeddings to a verified row; forgeries are refused."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

import reidbench
from reidbench.cli.evaluate import evaluate
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.board import check, merge
from reidbench.leaderboard.external import add_external, load_external
from reidbench.leaderboard.site import build_site
from reidbench.leaderboard.verify import verify, write
from reidbench.plugins.catalogue import load
from reidbench.runs.prepare import Planner
from reidbench.utils.machine import local_machine
from tests.support.cases import cases

PROTOCOL = "synthetic(identities=12, cameras=3)"
CODE, WEIGHTS = "https://example.org/code", "http://example.org/weights.pt"


def evaluate_random(folder, data, seed, protocol):
    """Write random embeddings of the protocol's lists, and their scores to SEED.json."""
    split = reidbench.build("dataset", PROTOCOL, data)
    generator = np.random.default_rng(seed)
    people = generator.normal(size=(1 + int(split.gallery.pids.max()), 8))
    files = {}
    for name, part in {"query": split.query, "gallery": split.gallery}.items():
        files[name] = folder / f"{name}{seed}.npz"
        rows = people[part.pids] + generator.normal(size=(len(part), 8))
        np.savez(files[name], embeddings=rows, pids=part.pids, cams=part.cams)
    evaluate(**files, protocol=protocol, metric="cosine", as_json=folder / f"{seed}.json")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, data_folder):
    folder = tmp_path_factory.mktemp("evaluated")
    for seed in (0, 1):
        evaluate_random(folder, data_folder, seed, PROTOCOL)
    return folder


@pytest.fixture
def scored(evaluated, tmp_path):
    """A folder with the embeddings and scores of two programs, 0.json and 1.json."""
    return shutil.copytree(evaluated, tmp_path / "scored")


@pytest.fixture
def boards(scored):
    for seed in (0, 1):
        add_external(scored / f"{seed}.json", scored / "boards", f"Method {seed}", CODE, WEIGHTS)
    return scored / "boards"


def planner(data):
    return Planner(load(), local_machine(data=data))


def tiers(boards, data, **options):
    """Return the tiers, the problems and the notes of what is verified."""
    result = verify(boards, planner(data), **options)
    return [each.tier for each in result.rows.values()], [str(each) for each in result.problems], result.notes


def test_from_embeddings_to_a_verified_row(scored, data_folder, reidbench_main, reidbench_call):
    boards = scored / "boards"
    words = ["--external", "--method", "My method", "--code", CODE, "--weights-url", WEIGHTS, "--folder", str(boards)]
    assert reidbench_main("leaderboard", "add", str(scored / "0.json"), *words) == (0, "")
    (row,) = csv.DictReader((boards / "external" / "rows.csv").read_text().splitlines())
    scores = json.loads((scored / "0.json").read_text())
    assert (row["track"], row["method"], row["code"]) == ("training not controlled", "My method", CODE)
    assert (row["map_market"], row["r1"]) == (f"{scores['map_market']:.6f}", f"{scores['r1']:.6f}")
    assert (row["metric"], row["protocol"][-2:]) == ("cosine", "@1")
    before = {file: file.read_bytes() for file in boards.rglob("*.*")}
    assert add_external(scored / "0.json", boards, "My method", CODE, WEIGHTS) == []
    assert reidbench_main("leaderboard", "check", "--folder", str(boards)) == (0, "")
    done = reidbench_call("leaderboard", "verify", "--folder", str(boards), "--weights", str(scored), "--write")
    assert f"{row['id']}  consistent on " in done.stdout
    assert f"note: {row['id']} (My method): scored again from its embeddings" in done.stdout
    assert {file: file.read_bytes() for file in boards.rglob("*.*")} == before
    assert not list(boards.glob("*.csv"))  # no row among those of trainings
    index, page = build_site(boards, scored / "site")
    assert f'href="{page.name}"' in index.read_text()
    assert all(text in page.read_text() for text in ("My method", f'href="{CODE}"', f'href="{WEIGHTS}"'))


@pytest.mark.parametrize(("change", "named"), cases(__file__, "forged_files"))
def test_forged_files_and_other_links_are_refused(scored, change, named):
    words = {"method": "M", "code": CODE, "weights": WEIGHTS}
    content = json.loads((scored / "0.json").read_text())
    for key, value in change.items():
        if key in words:
            words[key] = value
        else:
            content[key] = content[key] | value if isinstance(value, dict) else value
    (scored / "0.json").write_text(json.dumps(content))
    with pytest.raises(ReidbenchError, match=named):
        add_external(scored / "0.json", scored / "boards", **words)
    assert not list((scored / "boards").glob("external/*"))


def test_a_scores_file_without_protocol_is_refused(tmp_path, data_folder):
    evaluate_random(tmp_path, data_folder, 0, None)
    with pytest.raises(DataError, match="--protocol"):
        add_external(tmp_path / "0.json", tmp_path / "boards", "M", CODE)


def test_changed_files_are_named(boards):
    assert check(boards) == []
    first, second = load_external(boards)[0]
    table = boards / "external" / "rows.csv"
    table.write_text(table.read_text().replace("0.", "0.9", 1))
    assert [problem.file for problem in check(boards)] == [table, table]
    merge(boards)
    assert check(boards) == []
    shutil.copy(first / "rankings.npz", second / "rankings.npz")
    (first / "external.json").write_text((first / "external.json").read_text().replace("Method", "method"))
    edited = {place / "external.json" for place in (first, second)}
    assert {problem.file for problem in check(boards)} == {table, *edited}


def test_rankings_of_other_lists_are_no_more_than_self_reported(scored, data_folder):
    with np.load(scored / "gallery0.npz") as arrays:
        gallery = dict(arrays)
    np.savez(scored / "other.npz", **{name: rows[::-1] for name, rows in gallery.items()})
    evaluate(scored / "query0.npz", scored / "other.npz", protocol=PROTOCOL, as_json=scored / "2.json")
    add_external(scored / "2.json", scored / "boards", "M", CODE)
    names, problems, _ = tiers(scored / "boards", data_folder)
    assert names == ["self-reported"]
    assert any("than the lists" in problem for problem in problems)
    with pytest.raises(DataError, match="nothing was written"):
        write(scored / "boards", verify(scored / "boards", planner(data_folder)))


def test_embeddings_at_hand_must_give_the_scores(scored, data_folder):
    contents = [json.loads((scored / f"{seed}.json").read_text()) for seed in (0, 1)]
    contents[0]["evaluation"]["inputs"] = contents[1]["evaluation"]["inputs"]
    (scored / "0.json").write_text(json.dumps(contents[0]))
    add_external(scored / "0.json", scored / "boards", "M", CODE)
    assert tiers(scored / "boards", data_folder) == (["consistent"], [], [])
    names, problems, _ = tiers(scored / "boards", data_folder, weights=scored)
    assert names == ["self-reported"]
    assert "gives other scores than its embeddings do here: map_market" in problems[0]
