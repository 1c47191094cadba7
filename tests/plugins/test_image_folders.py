"""MSMT17, CUHK03-NP, VeRi-776 and any tree like Market-1501's: layouts, pids, counts, stand-ins, and complete runs."""

from pathlib import Path

import pytest
from reidbench_datasets.image_folders import FOLDERS, MSMT17_LISTS, PUBLISHED, SPELLINGS, market_layout
from reidbench_datasets.image_folders_standin import STANDINS, plan
from reidbench_datasets.standin_people import counts

import reidbench
from reidbench import DataError, OptionError
from reidbench.plugins.catalogue import load
from tests.support.jobs import job, run
from tests.support.trees import write_empty

# The protocols of each dataset, the last of held-out identities; its published counts; a file that it cannot lack.
CASES = {
    "msmt17": (("msmt17", "msmt17(train=train_val)", "msmt17_val"), ("train_val",), "list_gallery.txt"),
    "msmt17_v2": (("msmt17_v2", "msmt17_v2_val"), ("train_val",), "list_val.txt"),
    "cuhk03_np": (("cuhk03_np", "cuhk03_np(boxes=labelled)", "cuhk03_np_val"), ("detected", "labelled"), "query"),
    "veri776": (("veri776", "veri776_val"), ("veri776",), "image_query"),
}
TRAIN, QUERY, GALLERY = ["0_c1_7.png"], ["0_c12s3_1.jpg.jpg", "5_c2_x.JPEG"], ["-1_c1_1.jpg", "0_c2_9.jpg", "5_c3.jpg"]


@pytest.fixture(scope="module", params=CASES)
def tree(request, tmp_path_factory):
    """The data root and the name of a dataset of which there is a small stand-in."""
    root = tmp_path_factory.mktemp(request.param)
    list(reidbench.build("synthesizer", f"{request.param}(identities=8)", root / SPELLINGS[request.param][-1]))
    return root, request.param


def split_of(protocol: str, root: Path) -> reidbench.Split:
    built = load().resolve("protocol", protocol).build()
    return load().resolve("dataset", built.dataset).build(root)


def write_msmt17(tree: Path, query: str = "0000/0000_000_02_b.jpg 0") -> Path:
    write_empty(tree, {"train": [], "test": []})
    train = "0000/0000_000_03_a.jpg 0\n0001/0001_000_15_a.jpg 1\n"
    texts = (train, "0002/0002_001_01_a.jpg 2", query, "0000/0000_001_11_b.jpg 0")
    for name, text in zip(MSMT17_LISTS, texts, strict=True):
        (tree / name).write_text(text)
    return tree


@pytest.mark.parametrize("dataset", ["cuhk03_np", "veri776", pytest.param("msmt17", marks=pytest.mark.slow)])
def test_the_full_plan_has_the_published_counts(dataset):
    for real, published in zip(STANDINS[dataset].trees.values(), CASES[dataset][1], strict=True):
        images = plan(STANDINS[dataset], real, real.identities, 0)
        assert counts([image for _, image in images]) == PUBLISHED[published]
        assert len({path for path, _ in images}) == len(images)


def test_a_stand_in_is_read_as_planned_and_flagged(tree):
    root, dataset = tree
    *protocols, held_out_protocol = CASES[dataset][0]
    for protocol in protocols:
        split = split_of(protocol, root)
        assert split.counts == split.expected
        assert (split.standin, split.ignored, split.contradictions) == (True, {}, {})
    held_out = split_of(held_out_protocol, root)
    assert (held_out.standin, held_out.wrong_counts) == (True, [])
    assert held_out.counts["train_before_holdout"] > held_out.counts["train"] > 0


def test_a_stand_in_trains_and_scores(tree, tmp_path):
    root, dataset = tree
    recipe = "quick(steps=2, p=2, k=2)"
    asked = job(protocol=f"{dataset}(views=original)", backbone="tiny(height=32, width=16)", recipe=recipe)
    _, record, _ = run(asked, data=root, results=tmp_path)
    assert record.standin
    assert 0 < record.scores["map_market"] <= 1
    with pytest.raises(OptionError, match=f"{dataset}: .*got identities=7"):
        reidbench.build("synthesizer", f"{dataset}(identities=7)", tmp_path)


@pytest.mark.parametrize("dataset", CASES)
def test_a_wrong_layout_names_what_is_looked_for_and_there(dataset, tmp_path):
    (tmp_path / SPELLINGS[dataset][1] / "cuhk-03.mat").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        split_of(dataset, tmp_path)
    lines = str(caught.value).splitlines()
    for spelling in SPELLINGS[dataset]:
        assert any(line.strip().startswith(f"{tmp_path / spelling}: ") for line in lines)
    assert any(CASES[dataset][2] in line and line.endswith("has cuhk-03.mat") for line in lines)
    assert ("cuhk03_new_protocol" in str(caught.value)) == (dataset == "cuhk03_np")
    assert f"synthesize {dataset}" in lines[-1]


def test_msmt17_counts_pids_from_one_and_test_pids_on(tmp_path):
    write_msmt17(tmp_path / "MSMT17_V1")
    for protocol, pids, cams in (("msmt17", [1, 2], [3, 15]), ("msmt17(train=train_val)", [1, 2, 3], [3, 15, 1])):
        split = split_of(protocol, tmp_path)
        assert (split.train.pids.tolist(), split.train.cams.tolist()) == (pids, cams)
        assert (split.query.pids.tolist(), split.gallery.pids.tolist()) == ([4], [4])
        assert split.query.images.tolist() == ["test/0000/0000_000_02_b.jpg"]
        assert (bool(split.wrong_counts), split.standin) == (True, False)


@pytest.mark.parametrize("text", ["0000_c1.jpg 0", "../0000_000_03_a.jpg 0", "0/0_0_1_a.jpg x", ""])
def test_a_bad_list_and_the_other_version_are_refused(text, tmp_path):
    write_msmt17(tmp_path / "MSMT17", query=text)
    with pytest.raises(DataError, match=rf"list_query\.txt: (line 1.*{text}|is empty)"):
        split_of("msmt17", tmp_path)
    with pytest.raises(DataError, match=r"msmt17_v2: .*mask_train_v2"):
        split_of("msmt17_v2", tmp_path)


def test_cuhk03_reads_both_suffixes_and_skips_other_names(tmp_path):
    write_empty(
        tmp_path, {f"labeled/{folder}": ["0012_c1_93.png", "0012_c2_1.jpg", "0012_c3_1.png"] for folder in FOLDERS}
    )
    split = split_of("cuhk03_np(boxes=labelled)", tmp_path)
    assert [name.rpartition("/")[2] for name in split.train.images.tolist()] == ["0012_c1_93.png", "0012_c2_1.jpg"]
    assert split.ignored == {f"labeled/{folder}/*.png": 1 for folder in FOLDERS}


def test_zero_is_a_person_or_a_distractor(tmp_path):
    tree = write_empty(tmp_path / "sets" / "own", dict(zip(FOLDERS, (TRAIN, QUERY, GALLERY), strict=True)))
    split = market_layout(tmp_path, folder="sets/own", zero="person")
    pids = [part.pids.tolist() for part in (split.train, split.query, split.gallery)]
    assert (pids, split.query.cams.tolist(), split.expected) == ([[1], [1, 6], [-1, 1, 6]], [12, 2], {})
    with pytest.raises(DataError, match=r"bounding_box_train: 1 junk or distractor.*0_c1_7\.png.*zero=person"):
        market_layout(tree)
    with pytest.raises(OptionError, match=r"option folder: .*\.\./own"):
        market_layout(tmp_path, folder="../own")


def test_the_folder_of_a_tree_is_its_name_and_no_part_of_ids():
    one, other = (load().resolve("protocol", f'market_layout_val(folder="{name}")') for name in ("own", "other"))
    assert (one.label, other.label) == ("own", "other")
    assert one.identity == other.identity
