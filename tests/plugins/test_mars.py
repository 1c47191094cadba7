"""MARS: finding the tree, parsing lists and tables, refused files, the official tables, and the protocols."""

import json

import numpy as np
import pytest
from reidbench_datasets.mars import (
    INFO_SPELLINGS,
    PUBLISHED,
    PUBLISHED_TRACKLETS,
    SPELLINGS,
    label,
    mars,
)
from reidbench_datasets.mars_protocols import mars_protocol, mars_torchreid_gallery_protocol, mars_val_protocol
from scipy.io import savemat

from reidbench import DataError, IntArray, OptionError
from reidbench.data.positives_and_exclusions import unmatched
from reidbench.data.protocol import is_standin, verdict
from reidbench.plugins.catalogue import load
from tests.support.cases import cases
from tests.support.trees import official_mars_tree, units_of

# frames, pid, camera. One camera sees identity 2 twice; the last query's only other tracklet is a query itself.
TRAIN = [(3, 2, 1), (2, 2, 1), (4, 2, 5), (1, 7, 2), (2, 7, 3)]
TEST = [(2, -1, 1), (3, 0, 4), (2, 1, 1), (4, 1, 1), (1, 1, 6), (2, 9, 2), (3, 9, 3)]
QUERIES = [3, 6, 7]
NO_TABLES = (b"", b"MATLAB 5.0 MAT-file".ljust(400), b"\x89HDF\r\n\x1a\n" * 20)


def names_of(rows: list[tuple[int, int, int]]) -> list[str]:
    """Return the names of a part; tracklet numbers have gaps, as the official ones do."""
    return [
        f"{label(pid)}C{camera}T{2 * number:04d}F{frame:03d}.jpg"
        for number, (frames, pid, camera) in enumerate(rows, start=1)
        for frame in range(1, frames + 1)
    ]


def table_of(rows: list[tuple[int, int, int]]) -> IntArray:
    last = np.cumsum([frames for frames, *_ in rows])
    return np.array([(end - row[0] + 1, end, *row[1:]) for end, row in zip(last, rows, strict=True)], dtype=np.int32)


def write_tree(tree, info="info", nested=False, train=TRAIN):
    """Write a tree of empty images with its lists and tables."""
    place = tree / info
    for part, rows in (("train", train), ("test", TEST)):
        folder = tree / f"bbox_{part}" / (f"bbox_{part}" if nested else "")
        for name in names_of(rows):
            (folder / name[:4]).mkdir(parents=True, exist_ok=True)
            (folder / name[:4] / name).touch()
        place.resolve().mkdir(parents=True, exist_ok=True)
        (place / f"{part}_name.txt").write_text("".join(f"{name}\n" for name in names_of(rows)))
        savemat(place / f"tracks_{part}_info.mat", {f"track_{part}_info": table_of(rows)})
    savemat(place / "query_IDX.mat", {"query_IDX": np.array([QUERIES], dtype=np.uint16)})
    return tree


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path)


# The tree


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_tree_is_found_in_every_spelling(spelling, tmp_path):
    root = tmp_path / "0042C3T0001F001"
    tree = write_tree(root / spelling)
    split = mars(root)
    assert split.train.root.samefile(tree / "bbox_train")
    assert split.gallery.path(0).is_file()


@pytest.mark.parametrize("info", INFO_SPELLINGS)
def test_lists_and_tables_are_found_in_every_spelling(info, tmp_path):
    assert len(mars(write_tree(tmp_path / "mars", info=info)).gallery) == len(TEST)


def test_a_nested_mirror_is_the_same_data(tmp_path):
    plain, nested = mars(write_tree(tmp_path / "a")), mars(write_tree(tmp_path / "b", nested=True))
    assert nested.gallery.path(0).parts[-4:-2] == ("bbox_test", "bbox_test")
    assert nested.digest == plain.digest


def test_without_a_tree_every_tried_folder_is_named(tmp_path):
    (tmp_path / "mars" / "bbox_test").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        mars(tmp_path)
    lines = str(caught.value).splitlines()
    for spelling in SPELLINGS:
        assert any(line.strip().startswith(f"{tmp_path / spelling}: ") for line in lines)
    assert f"  {tmp_path / 'mars'}: lacks bbox_train; has bbox_test" in lines
    assert "synthesize mars" in lines[-1]


def test_without_lists_every_tried_folder_is_named(tree, tmp_path):
    (tree / "info" / "test_name.txt").unlink()
    with pytest.raises(
        DataError, match=r"info: lacks test_name\.txt; has .*\n(.|\n)*MARS-evaluation beside bbox_train"
    ):
        mars(tmp_path)


def test_units_are_those_of_the_tables_in_their_order(tmp_path):
    split = mars(write_tree(tmp_path))
    assert split.gallery.pids.tolist() == [pid for _, pid, _ in TEST]
    assert split.gallery.cams.tolist() == [camera for _, _, camera in TEST]
    assert units_of(split.gallery)[0] == ["00-1/00-1C1T0002F001.jpg", "00-1/00-1C1T0002F002.jpg"]
    assert units_of(split.query) == [units_of(split.gallery)[number - 1] for number in QUERIES]
    assert (split.counts["junk"], split.counts["distractors"]) == (1, 1)


def test_other_files_are_ignored_and_a_missing_one_named(tree):
    clean = mars(tree).digest
    (tree / "bbox_test" / "0001" / "Thumbs.db").touch()
    (tree / "bbox_test" / "0055").mkdir()
    (tree / "bbox_test" / "0055" / "0055C1T0001F001.jpg").touch()
    assert mars(tree).digest == clean
    (tree / "bbox_train" / "0002" / "0002C5T0006F004.jpg").unlink()
    with pytest.raises(DataError, match=r"0002C5T0006F004\.jpg: cannot be read: No such file"):
        _ = mars(tree).digest


def test_windows_line_ends_are_read(tree):
    clean = mars(tree).digest
    file = tree / "info" / "train_name.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert mars(tree).digest == clean


# Training


def test_per_tracklet_trains_on_tracklets(tmp_path):
    train = mars(write_tree(tmp_path), frames="per_tracklet").train
    assert train.pids.tolist() == [pid for _, pid, _ in TRAIN]
    assert np.diff(train.starts).tolist() == [frames for frames, *_ in TRAIN]


def test_a_metric_is_fitted_on_tracklets(tree):
    tracks = mars(tree, frames="per_tracklet")
    assert tracks.fit is tracks.train
    assert mars(tree).fit.digest == tracks.train.digest != mars(tree).train.digest
    held = mars(tree, holdout=1)
    assert held.fit.pids.tolist() == mars(tree, holdout=1, frames="per_tracklet").train.pids.tolist()
    assert not set(held.fit.pids) & set(held.gallery.pids)


def test_tracklets_are_counted(tree):
    names = list(PUBLISHED_TRACKLETS)
    assert [mars(tree).counts[name] for name in names] == [len(TRAIN), len(QUERIES), len(TEST)]
    assert mars(tree, gallery="torchreid").counts["gallery_tracklets"] == 3
    assert "gallery_tracklets" not in mars(tree, gallery="torchreid").expected
    assert mars(tree, holdout=1).counts["train_tracklets"] < len(TRAIN)


# torchreid's gallery, and held-out identities


def test_torchreids_gallery_lacks_queries_and_junk(tree):
    split = mars(tree, gallery="torchreid")
    assert split.gallery.pids.tolist() == [0, 1, 1]
    assert split.query.digest == mars(tree).query.digest
    assert unmatched(mars_torchreid_gallery_protocol(), split).absent == 2
    assert unmatched(mars_protocol(), mars(tree)).total == 0


def test_identities_are_held_out_by_tracklet(tree):
    split = mars(tree, holdout=1)
    assert split.counts["train_identities"] == 1
    assert not set(split.train.pids) & set(split.gallery.pids)
    whole = mars(tree, frames="per_tracklet").train
    held = whole.take(np.flatnonzero(np.isin(whole.pids, split.gallery.pids)))
    assert held.digest == split.gallery.digest
    pairs = list(zip(split.query.pids.tolist(), split.query.cams.tolist(), strict=True))
    assert sorted(pairs) == sorted(set(zip(held.pids.tolist(), held.cams.tolist(), strict=True)))
    assert len(split.train) == len(split.train.images)
    assert not split.expected


def test_the_seed_chooses_the_held_out_identities(tree):
    held = [int(mars(tree, holdout=1, holdout_seed=seed).gallery.pids[0]) for seed in range(8)]
    assert set(held) == {2, 7}
    assert held == [int(mars(tree, holdout=1, holdout_seed=seed).gallery.pids[0]) for seed in range(8)]


def test_holding_out_all_identities_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"150 of 2 training identities .*mars_val\(holdout=1\)"):
        mars(write_tree(tmp_path), holdout=150)
    with pytest.raises(OptionError, match="option holdout"):
        mars(tmp_path, holdout=-1)


# What is refused


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0002C1T0002F003", "../../C1T0002F003", r"'\.\./.*' is not named like an image of MARS"),
        (
            "0002C1T0002F003.jpg\n0002C1T0004F001",
            "0002C1T0004F001.jpg\n0002C1T0002F003",
            r"expected .*, found 0002C1T0004F001",
        ),
    ],
)
def test_a_wrong_name_or_order_is_reported_with_its_line(old, new, message, tree):
    file = tree / "info" / "train_name.txt"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=rf"line 3: {message}"):
        mars(tree)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"), cases(__file__, "a_table_that_contradicts_the_list_is_refused")
)
def test_a_table_that_contradicts_the_list_is_refused(row, column, value, message, tree):
    table = table_of(TRAIN)
    table[row, column] = value
    savemat(tree / "info" / "tracks_train_info.mat", {"track_train_info": table})
    with pytest.raises(DataError, match=message):
        mars(tree)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        *((content, "cannot read the table track_test_info") for content in NO_TABLES),
        (np.array([[1.5, 2, 3, 4]]), "must be whole numbers"),
        (np.array([["a"]], dtype=object), "must be whole numbers"),
        (np.ones((1, 3), dtype=np.int64), r"expected a table of 4 columns .* got \(1, 3\)"),
    ],
)
def test_an_invalid_table_is_refused(table, message, tree):
    file = tree / "info" / "tracks_test_info.mat"
    if isinstance(table, bytes):
        file.write_bytes(table)
    else:
        savemat(file, {"track_test_info": table})
    with pytest.raises(DataError, match=rf"tracks_test_info\.mat: .*{message}"):
        mars(tree)


@pytest.mark.parametrize("queries", [[0], [8], [3, 3], [1], [2], []])
def test_invalid_queries_are_refused(queries, tree):
    savemat(tree / "info" / "query_IDX.mat", {"query_IDX": np.array([queries], dtype=np.uint16)})
    with pytest.raises(DataError, match=r"query_IDX\.mat: expected different numbers from 1 to 7"):
        mars(tree)


def test_published_counts_are_expected_unless_a_stand_in(tmp_path):
    split = mars(write_tree(tmp_path))
    assert split.expected == PUBLISHED | PUBLISHED_TRACKLETS
    card: dict[str, dict[str, int]] = {"counts": {}, "tracklets": {}}
    for name, count in split.counts.items():
        card["tracklets" if "tracklets" in name else "counts"][name.removesuffix("_tracklets")] = count
    (tmp_path / "STANDIN.json").write_text(json.dumps(card))
    assert mars(tmp_path).expected == split.counts
    assert not mars(tmp_path).wrong_counts
    assert not mars(tmp_path, gallery="torchreid").wrong_counts
    (tmp_path / "STANDIN.json").write_text("{}")
    with pytest.raises(DataError, match="cannot read the stand-in's counts"):
        mars(tmp_path)


# Protocols


def test_protocol_options_reach_the_dataset(tmp_path):
    write_tree(tmp_path)
    catalogue = load()

    def split_of(spec):
        protocol = catalogue.resolve("protocol", spec).build()
        return protocol, catalogue.resolve("dataset", protocol.dataset).build(tmp_path)

    protocol, split = split_of("mars")
    assert (protocol.recipe, protocol.views) == ("hermans2017", "five_crops_flip")
    assert protocol.exclude == ("junk", "same_camera")
    assert split.digest == mars(tmp_path).digest
    assert split_of("mars(frames=per_tracklet)")[1].digest == mars(tmp_path, frames="per_tracklet").digest
    assert split_of("mars_torchreid_gallery")[1].digest == mars(tmp_path, gallery="torchreid").digest
    protocol, split = split_of("mars_val(holdout=1, holdout_seed=3)")
    assert split.digest == mars(tmp_path, holdout=1, holdout_seed=3).digest
    assert split_of("mars(key_frames=1)")[1].digest == mars(tmp_path, key_frames=1).digest
    assert protocol.views == "original"
    assert not protocol.defaults, "crop and flip are turned off by the suite"
    assert all(is_standin(*split_of(spec)) for spec in ("mars", "mars_torchreid_gallery", "mars_val(holdout=1)"))
    assert "holdout=150" in mars_val_protocol().dataset


# The official tables


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return official_mars_tree(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def published(official):
    return mars(official)


def test_the_official_tables_are_read_whole(published):
    assert published.counts == published.expected == PUBLISHED | PUBLISHED_TRACKLETS
    assert published.fit.starts[-1] == len(published.train)
    assert len(published.fit) == 8298
    assert (len(published.query), len(published.gallery)) == (1980, 12180)
    assert unmatched(mars_protocol(), published).total == 0
    assert verdict(mars_protocol(), published).startswith("the real data")


@pytest.mark.slow
def test_the_variants_of_the_official_tables(official):
    split = mars(official, gallery="torchreid")
    assert (len(split.gallery), unmatched(mars_torchreid_gallery_protocol(), split).total) == (9330, 140)
    split = mars(official, holdout=150)
    assert (split.counts["train_identities"], split.counts["query_identities"]) == (475, 150)
    assert not is_standin(mars_val_protocol(), split)
