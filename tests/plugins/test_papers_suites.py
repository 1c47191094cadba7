"""The suites of the paper run its own experiments: each cell its job, and deviations only where they are listed."""

import csv
import os
import re
import shutil
from dataclasses import asdict, replace

import pytest
from PIL import Image
from reidbench_reports.published import TABLES, published_numbers

from reidbench import leaderboards_folder
from reidbench.images.augment import VIEWS
from reidbench.runs.job import Memo, resolved_items
from reidbench.runs.plan import make_plan, read_request
from reidbench.runs.suite import load_suite
from reidbench.utils.machine import local_machine
from tests.support.cases import cases
from tests.support.jobs import deviations_of
from tests.support.parts import build_part, printed
from tests.support.paths import CHECKOUT
from tests.support.records import run_of
from tests.support.trees import official_mars_tree

PAPER = leaderboards_folder() / "paper"
SYSTEMS = leaderboards_folder() / "systems"
LISTED = list(csv.DictReader((PAPER / "deviations.csv").read_text(encoding="utf-8").splitlines(), strict=True))
MOST_LINKS = 50_000  # to one file; ext4 allows 65,000

# What the label of a row or a column says of the resolved items of its jobs.
TABLE_4 = ("original", "center", "center + flip", "5 crops", "5 crops + flip")
LABELS = cases(__file__, "labels") | {
    **{f"margin {margin}": (f"(margin={margin},",) for margin in ("0.1", "0.2", "0.5", "1.0")},
    **{f"{2 * width} × {width}": (f"height={2 * width}, width={width}",) for width in (128, 64, 32)},
    **dict(zip(TABLE_4, ((f"views={view},",) for view in VIEWS), strict=True)),
    **{f"{number}19 732": (f"distractors={number}00000",) for number in range(1, 6)},
}


@pytest.mark.parametrize("table", TABLES)
def test_the_job_of_a_number_is_that_of_its_row_and_column(table):
    cells = {(number.row, number.column): number.job for number in published_numbers(table) if number.job}
    assert len(set(cells.values())) == len(cells)
    for (row, column), job in cells.items():
        text = "; ".join(resolved_items(job)[0].values())
        system, reranked = row.replace(" (Re-ra.)", "").replace(" (Re-ranked)", ""), " (Re-ra" in row
        assert not [part for label in (system, column) for part in LABELS[label] if part not in text], (row, column)
        assert table != 2 or "[" in row or "views=five_crops_flip" in text
        assert ("k_reciprocal(k1=20, k2=6, lam=0.3" in text) == bool(reranked)


def test_suites_deviate_only_as_listed():
    memo, found = Memo(), {}
    files = [
        file for file in sorted(PAPER.glob("*.toml")) if file.stem not in ("table2_authors", "baselines", "claims")
    ]
    files.append(PAPER.parent / "market1501_500k.toml")
    jobs = [(file.stem, job) for file in files for job in load_suite(file).jobs]
    assert len(jobs) == 36 + len(load_suite(SYSTEMS).jobs) + 5 + 15 + 12 + 12 + 5 + 4 + 6
    of_others = {number.job for number in published_numbers(2) if "[" in number.row and number.job}
    later = {number.job for number in published_numbers("baselines") if number.job}
    listed_of_others = {
        (kind, spec.partition("(")[0])
        for job in of_others | later
        for kind, spec in asdict(job).items()
        if kind != "seed"
    }
    for suite, job in jobs:
        if job in of_others or job.loss == "none":  # which are no experiments of the paper
            continue
        recipe, info, deviations = deviations_of(job, memo)
        texts = [*deviations]
        texts += [] if recipe.faithful_to == "Hermans et al. (2017)" else [f"recipe {job.recipe}"]
        texts += [f"backbone {job.backbone}"] if info.pretrained else []  # by weights that are not He et al.'s
        for kind, item in (text.split(" ", 1) for text in texts):
            found[kind, item.partition("(")[0]] = f"{suite}: {job}"
    listed = {(row["kind"], row["item"]) for row in LISTED}
    assert found.keys() <= listed, found
    assert listed - found.keys() <= listed_of_others


def test_the_docs_list_the_same_deviations_and_tests_that_exist():
    lines = (CHECKOUT / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines()
    later = (CHECKOUT / "docs" / "baselines.md").read_text(encoding="utf-8").splitlines()
    for row in LISTED:
        assert f"| {row['kind']} `{row['item']}` | {row['deviation']} | {row['reason']} |" in lines + later
    tests = {
        name for line in lines for name in re.findall(r"`((?:plugins|reidbench)/[a-z0-9_/]*test_[a-z0-9_]+)", line)
    }
    assert len(tests) > 20
    assert not [name for name in tests if not (CHECKOUT / "tests" / f"{name}.py").is_file()]


def test_figure_9_is_the_first_starred_cell_of_table_1():
    (job,) = load_suite(PAPER / "fig9.toml").jobs
    starred = next(number for number in published_numbers(1) if "*" in number.mark)
    assert (starred.row, starred.column) == ("Triplet (L_tri) + OHM", "margin 0.1")
    assert replace(job, seed=0) == starred.job


@pytest.fixture
def training_tree(tmp_path):
    """MARS with its 509,914 training images as hard links to a few images, and no test image."""
    tree = official_mars_tree(tmp_path / "mars")
    for number, name in enumerate((tree / "info" / "train_name.txt").read_text().split()):
        source = tmp_path / f"{number // MOST_LINKS}.jpg"
        if number % MOST_LINKS == 0:
            Image.new("RGB", (16, 32), (number // MOST_LINKS * 20, 0, 0)).save(source)
        (tree / "bbox_train" / name[:4]).mkdir(exist_ok=True)
        os.link(source, tree / "bbox_train" / name[:4] / name)
    yield tree
    shutil.rmtree(tree)


@pytest.mark.slow
def test_table_1_on_the_official_training_images_is_the_papers(training_tree):
    machine = local_machine(data=training_tree, device="cpu", threads=1)
    plan = make_plan(read_request("paper/table1", {}), machine)
    assert len(plan.runs) == 36
    for run in plan.runs:
        assert (run.faithful, run.standin, run.deviations, run.split.wrong_counts) == (True, False, (), [])
        counts = run.split.counts
        assert (counts["train_identities"], counts["query_identities"]) == (475, 150)
    job = plan.runs[0].job
    (augmented,) = make_plan(
        replace(read_request("paper/table1", {}), jobs=[replace(job, recipe="auto")]), machine
    ).runs
    assert augmented.deviations == ("recipe hermans2017, where the protocol's paper has crop=false and flip=false",)
    records = [
        run_of(run.job, deviations=list(run.deviations), faithful=run.faithful, scores={"map_market": score})
        for run, score in ((plan.runs[0], 0.5), (augmented, 0.7))
    ]
    both, alone = (build_part("paper(table=1)", each) for each in (records, records[1:]))
    assert [text for text in printed(both.tables[0], "ours: mAP (market)") if text != "–"] == ["50.00 (+9.20)"]
    assert (len(both.tables), len(alone.tables)) == (1, 1)
    assert alone.notes[0].startswith("0 of 72 ")
