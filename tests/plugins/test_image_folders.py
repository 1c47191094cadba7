"""MSMT17, CUHK03-NP, VeRi-776 and any tree like Market-1501's: layouts, pids, counts, stand-ins, and complete runs."""

from pathlib import Path

import pytest
from reidbench_datasets.image_folders import FOLDERS, PUBLISHED, SPELLINGS, market_layout
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
    steps = list(reidbench.build("synthesizer", f"{request.param}(identities=8)", root / SPELLINGS[request.param][-1]))
    assert steps[-1][0] == steps[-1][1] == len(list(root.rglob("*.jpg")))
    return root, request.param


def split_of(protocol: str, root: Path) -> reidbench.Split:
    built = load().resolve("protocol", protocol).build()
    return load().resolve("dataset", built.dataset).build(root)


def write_msmt17(tree: Path, **lists: str) -> Path:
    lines = {"train": "0000/0000_000_03_a.jpg 0\n0001/0001_000_15_a.jpg 1\n", "val": "0002/0002_001_01_a.jpg 2\n"}
    lines |= {"query": "0000/0000_000_02_b.jpg 0\n", "gallery": "0000/0000_001_11_b.jpg 0\n"}
    write_empty(tree, {"train": [], "test": []})
    for name, text in {**lines, **lists}.items():
        (tree / f"list_{name}.txt").write_text(text)
    return tree


@pytest.mark.parametrize("dataset", ["msmt17", "cuhk03_np", "veri776"])
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
        assert split.standin
        assert not split.ignored
        assert not split.contradictions
    held_out = split_of(held_out_protocol, root)
    assert held_out.standin
    assert not held_out.wrong_counts
    assert held_out.counts["train_before_holdout"] > held_out.counts["train"] > 0


def test_a_stand_in_trains_and_scores(tree, tmp_path):
    root, dataset = tree
    asked = job(
        protocol=f"{dataset}(views=original)", backbone="tiny(height=32, width=16)", recipe="quick(steps=2, p=2, k=2)"
    )
    _, record, _ = run(asked, data=root, results=tmp_path)
    assert record.standin
    assert 0 < record.scores["map_market"] <= 1


def test_a_plan_follows_from_its_seed():
    first, same, other = (plan(STANDINS["veri776"], STANDINS["veri776"].trees[""], 8, seed) for seed in (0, 0, 1))
    assert first == same != other


@pytest.mark.parametrize("dataset", CASES)
def test_a_stand_in_of_too_few_identities_is_refused(dataset, tmp_path):
    with pytest.raises(OptionError, match=f"{dataset}: .*got identities=7"):
        reidbench.build("synthesizer", f"{dataset}(identities=7)", tmp_path)


@pytest.mark.parametrize("dataset", CASES)
def test_a_wrong_layout_names_what_is_looked_for_and_there(dataset, tmp_path):
    missing = CASES[dataset][2]
    (tmp_path / SPELLINGS[dataset][1] / "cuhk-03.mat").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        split_of(dataset, tmp_path)
    lines = str(caught.value).splitlines()
    for spelling in SPELLINGS[dataset]:
        assert any(line.strip().startswith(f"{tmp_path / spelling}: ") for line in lines)
    assert any(missing in line and line.endswith("has cuhk-03.mat") for line in lines)
    assert ("cuhk03_new_protocol" in str(caught.value)) == (dataset == "cuhk03_np")
    assert f"synthesize {dataset}" in lines[-1]


def test_msmt17_counts_pids_from_one_and_test_pids_on(tmp_path):
    write_msmt17(tmp_path / "MSMT17_V1")
    for protocol, pids, cams in (("msmt17", [1, 2], [3, 15]), ("msmt17(train=train_val)", [1, 2, 3], [3, 15, 1])):
        split = split_of(protocol, tmp_path)
        assert (split.train.pids.tolist(), split.train.cams.tolist()) == (pids, cams)
        assert (split.query.pids.tolist(), split.gallery.pids.tolist()) == ([4], [4])
        assert split.query.images.tolist() == ["test/0000/0000_000_02_b.jpg"]
        assert split.wrong_counts
        assert not split.standin


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0000_c1.jpg 0", "line 1.*0000_c1.jpg 0"),
        ("../0000_000_03_a.jpg 0", "line 1"),
        ("0/0_0_1_a.jpg x", "line 1"),
        ("", "empty"),
    ],
)
def test_a_bad_line_of_a_list_is_named(text, found, tmp_path):
    with pytest.raises(DataError, match=rf"list_query\.txt: .*{found}"):
        split_of("msmt17", write_msmt17(tmp_path, query=text))


def test_versions_of_msmt17_are_not_mixed_up(tmp_path):
    write_msmt17(tmp_path / "MSMT17")
    with pytest.raises(DataError, match=r"msmt17_v2: .*mask_train_v2"):
        split_of("msmt17_v2", tmp_path)


@pytest.mark.parametrize("names", [("0012_c1_93.png", "0012_c2_1.jpg"), ("0012_c3_93.png", "x.png")])
def test_cuhk03_reads_both_suffixes_and_skips_other_names(names, tmp_path):
    part = ["0001_c1_1.png", *names]
    write_empty(tmp_path, {f"labeled/{folder}": part for folder in FOLDERS})
    split = split_of("cuhk03_np(boxes=labelled)", tmp_path)
    readable = [name for name in sorted(part) if "_c1_" in name or "_c2_" in name]
    assert split.train.images.tolist() == [f"labeled/bounding_box_train/{name}" for name in readable]
    assert sum(split.ignored.values()) == 3 * (len(part) - len(readable))


def test_zero_is_a_person_or_a_distractor(tmp_path):
    tree = write_empty(tmp_path / "sets" / "own", dict(zip(FOLDERS, (TRAIN, QUERY, GALLERY), strict=True)))
    split = market_layout(tmp_path, folder="sets/own", zero="person")
    assert (split.train.pids.tolist(), split.query.pids.tolist()) == ([1], [1, 6])
    assert split.gallery.pids.tolist() == [-1, 1, 6]
    assert split.query.cams.tolist() == [12, 2]
    assert not split.expected
    with pytest.raises(DataError, match=r"bounding_box_train: 1 junk or distractor.*0_c1_7\.png.*zero=person"):
        market_layout(tree)
    for folder in ("../own", "/own"):
        with pytest.raises(OptionError, match=f"option folder: .*{folder}"):
            market_layout(tmp_path, folder=folder)


def test_the_folder_of_a_tree_is_its_name_and_no_part_of_ids():
    one, other = (load().resolve("protocol", f'market_layout_val(folder="{name}")') for name in ("own", "other"))
    assert (one.label, other.label) == ("own", "other")
    assert one.identity == other.identity
