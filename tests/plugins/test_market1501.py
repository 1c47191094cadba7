"""Market-1501: finding the tree, parsing names, skipped files, the official lists, and the protocols."""

import json
from pathlib import Path

import pytest
from reidbench_datasets.market1501 import (
    FOLDERS,
    NAMING,
    PUBLISHED,
    SPELLINGS,
    market1501,
    market1501_protocol,
    market1501_val_protocol,
)
from reidbench_datasets.named_images import parse_names

from reidbench import DataError, Samples, Split, hold_out
from reidbench.plugins.catalogue import load
from tests.support.trees import official_market_names, write_empty

TRAIN = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000776_01.jpg", "0007_c3s3_077419_03.jpg")
QUERY = ("0001_c1s1_001051_00.jpg", "1488_c2s3_065527_00.jpg.jpg")
PARTS = ("train", "query", "gallery")
GALLERY = (
    "-1_c1s1_000401_03.jpg",
    "0000_c4s6_022316_04.jpg",
    "0001_c2s1_000301_01.jpg",
    "0001_c6s4_002202_01.jpg",
    "1488_c1s6_023021_02.jpg",
)


def write_tree(tree, train=TRAIN, query=QUERY, gallery=GALLERY):
    return write_empty(tree, dict(zip(FOLDERS, (train, query, gallery), strict=True)))


def base_names(samples: Samples) -> list[str]:
    return [Path(name).name for name in samples.images.tolist()]


@pytest.fixture(scope="module")
def official():
    return official_market_names()


# The tree


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_tree_is_found_in_every_spelling(spelling, tmp_path):
    root = tmp_path / "2024_c1_backup"
    tree = write_tree(root / spelling)
    split = market1501(root)
    assert split.train.root.samefile(tree)
    assert split.train.pids.tolist() == [2, 2, 7]
    assert split.train.path(0).is_file()


def test_a_link_to_the_tree_will_do(tmp_path):
    tree = write_tree(tmp_path / "0042_c3s1_elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "market1501").symlink_to(tree)
    assert len(market1501(tmp_path / "data").gallery) == len(GALLERY)


def test_without_a_tree_every_tried_folder_is_named(tmp_path):
    (tmp_path / "market1501" / "query").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        market1501(tmp_path)
    lines = str(caught.value).splitlines()
    for spelling in SPELLINGS:
        assert any(line.strip().startswith(f"{tmp_path / spelling}: ") for line in lines)
    assert f"  {tmp_path / 'market1501'}: lacks bounding_box_train, bounding_box_test; has query" in lines
    assert f"  {tmp_path / 'Market'}: no such folder" in lines
    assert "synthesize market1501" in lines[-1]


def test_pid_camera_and_order_come_from_names(tmp_path):
    split = market1501(write_tree(tmp_path))
    assert base_names(split.query) == list(QUERY)
    assert base_names(split.gallery) == list(GALLERY)
    assert split.query.pids.tolist() == [1, 1488]
    assert split.query.cams.tolist() == [1, 2]
    assert split.gallery.pids.tolist() == [-1, 0, 1, 1, 1488]
    assert split.gallery.cams.tolist() == [1, 4, 2, 6, 1]
    assert split.counts["junk"] == split.counts["distractors"] == 1
    assert not split.ignored


def test_other_files_are_skipped_and_counted(tmp_path):
    tree = write_tree(tmp_path)
    clean = market1501(tree)
    for folder in FOLDERS:
        (tree / folder / "Thumbs.db").touch()
    (tree / "query" / "README").touch()
    (tree / "query" / "@eaDir").mkdir()
    train = tree / "bounding_box_train"
    for name in (".DS_Store", "._0002_c1s1_000451_03.jpg"):
        (train / name).touch()
    wrong = ["2_c1s1_000451_03.jpg", "0002_c7s1_000451_03.jpg", "x0002_c1s1_000451_03.jpg", "0002_c1s1_451_03.jpg"]
    wrong += ["0002_c1s1_000451_03 (1).jpg", "-2_c1s1_000451_03.jpg", "０００２_c1s1_000451_03.jpg", "montage.jpg"]
    for name in wrong:
        (train / name).touch()
    split = market1501(tree)
    assert split.digest == clean.digest
    ignored = {"bounding_box_train/*.db": 1, "bounding_box_train/*.jpg": len(wrong), "bounding_box_train/.*": 2}
    ignored |= {"bounding_box_test/*.db": 1, "query/*.db": 1, "query/README": 1, "query/@eaDir": 1}
    assert split.ignored == ignored


def test_a_folder_without_an_image_is_an_error(tmp_path):
    tree = write_tree(tmp_path, query=["0005_c2_f0046985.jpg"])
    with pytest.raises(DataError, match=r"query: no image is named like.*1 entries, the first is 0005_c2_f0046985"):
        market1501(tree)


@pytest.mark.parametrize("name", [GALLERY[0], GALLERY[1]])
def test_junk_and_distractors_belong_in_the_gallery(name, tmp_path):
    with pytest.raises(DataError, match=f"bounding_box_train: 1 junk or distractor.*{name}"):
        market1501(write_tree(tmp_path, train=[*TRAIN, name]))


# Expected counts


def test_published_counts_are_expected_unless_a_stand_in(tmp_path):
    split = market1501(write_tree(tmp_path))
    assert split.expected == PUBLISHED
    assert set(split.counts) == set(PUBLISHED)
    counts = {**split.counts, "train": 5}
    (tmp_path / "STANDIN.json").write_text(json.dumps({"counts": counts}))
    assert market1501(tmp_path).expected == counts


@pytest.mark.parametrize(
    "card",
    ["", "[]", "{}", '{"counts": 7}', '{"counts": {"train": 1}}', json.dumps({"counts": {**PUBLISHED, "query": 1.5}})],
)
def test_a_stand_in_without_valid_counts_is_refused(card, tmp_path):
    (write_tree(tmp_path) / "STANDIN.json").write_text(card)
    with pytest.raises(DataError, match=r"STANDIN.json: cannot read the stand-in's counts"):
        market1501(tmp_path)


# Held-out identities


def test_identities_are_held_out_of_the_training_images(tmp_path):
    train = [f"{pid:04d}_c{camera}s1_000001_01.jpg" for pid in range(1, 21) for camera in (1, 2, 5)]
    tree = write_tree(tmp_path, train=train)
    (tree / "bounding_box_train" / "Thumbs.db").touch()
    split = market1501(tree, holdout=0.2)
    assert sorted(base_names(split.train + split.gallery)) == train
    assert split.counts["train_identities"] == 16
    assert split.counts["query"] == 4 * 3
    assert not split.expected
    assert split.ignored == {"bounding_box_train/*.db": 1}
    assert split.digest == market1501(tree, holdout=0.2, holdout_seed=0).digest
    assert split.digest != market1501(tree, holdout=0.2, holdout_seed=1).digest


# The official lists


@pytest.fixture(scope="module")
def published(official):
    """The three parts as the dataset reads them, from the names alone."""
    return {folder: parse_names(Path("tree"), folder, names[::-1], NAMING)[0] for folder, names in official.items()}


def test_every_official_name_is_read(official, published):
    assert Split(*(published[folder] for folder in FOLDERS)).counts == PUBLISHED
    for folder, samples in published.items():
        names = base_names(samples)
        assert names == sorted(official[folder])
        for name, pid, camera in zip(names, samples.pids, samples.cams, strict=True):
            assert name.startswith(f"{pid:04d}_c{camera}s" if pid >= 0 else f"-1_c{camera}s")


def test_the_official_names_are_recognised(published):
    digests = {part: published[folder].name_digest for part, folder in zip(PARTS, FOLDERS, strict=True)}
    assert digests == dict(market1501_protocol().names)


@pytest.mark.parametrize(("holdout", "seed"), [(0.2, 0), (0.5, 3)])
def test_official_names_are_recognised_with_any_holdout(holdout, seed, published):
    split = hold_out(published[FOLDERS[0]], holdout, seed)
    names = market1501_val_protocol(holdout=holdout, holdout_seed=seed).names
    assert names == {"train+gallery": (split.train + split.gallery).name_digest}


# Protocols


def test_the_protocol_is_the_papers():
    protocol = market1501_protocol()
    assert (protocol.dataset, protocol.recipe, protocol.views) == ("market1501", "hermans2017", "five_crops_flip")
    assert set(protocol.exclude) == {"junk", "same_camera"}
    assert protocol.primary == "map_market"
    assert not protocol.defaults
    assert market1501_protocol(views="center").views == "center"


def test_the_val_protocol_passes_its_options_on(tmp_path):
    catalogue = load()
    spec = "market1501_val(holdout=0.5, holdout_seed=7, views=center_flip)"
    protocol = catalogue.resolve("protocol", spec).build()
    split = catalogue.resolve("dataset", protocol.dataset).build(write_tree(tmp_path))
    assert split.digest == market1501(tmp_path, holdout=0.5, holdout_seed=7).digest
    assert split.counts["train_identities"] == 1
    assert protocol.views == "center_flip"
    assert market1501_val_protocol().dataset == "market1501(holdout=0.2, holdout_seed=0)"
