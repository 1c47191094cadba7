"""Market-1501 with multi-query or distractors: units, order, counts, recognition, complete runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_datasets.market1501 import FOLDERS, NAMING, PUBLISHED, add_distractors, market1501, multi_query
from reidbench_datasets.market1501_protocols import (
    market1501_500k_protocol,
    market1501_multiquery_protocol,
    market1501_protocol,
)
from reidbench_datasets.named_images import parse_names

import reidbench
from reidbench import DataError, OptionError, Protocol, Samples, Split, stream_key
from reidbench.data.positives_and_exclusions import unmatched
from reidbench.data.protocol import is_standin
from reidbench.embedding.pooling import pool_units
from reidbench.plugins.catalogue import load
from reidbench.ranking.scores import average_precision, score
from tests.support.jobs import job, plan_of, run
from tests.support.oracles import oracle
from tests.support.rankings import rank
from tests.support.trees import official_market_names, units_of, write_empty

TRAIN = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000776_01.jpg", "0007_c3s3_077419_03.jpg")
QUERY = ("0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg", "1488_c2s3_065527_00.jpg.jpg")
GALLERY = ("-1_c1s1_000401_03.jpg", "0000_c4s6_022316_04.jpg", "0001_c6s4_002202_01.jpg", "1488_c1s6_023021_02.jpg")
BOXES = (
    "0001_c1s1_001051_00.jpg",
    "0001_c1s2_003001_00.jpg",
    "0001_c2s1_000301_00.jpg",
    "0001_c3s1_000301_00.jpg",  # a camera without a query
    "0002_c1s1_000451_00.jpg",  # a training identity
    "1488_c2s3_065527_00.jpg.jpg",
    "1488_c2s3_065552_00.jpg",
)
# Real distractors have less regular names than the tree's images.
EXTRA = (*(f"0000_c{number % 9}s1_{number:07d}.jpg" for number in range(30)), "distractor 7.jpg", "1488_c2.jpg")


def write_tree(tree, boxes=BOXES, extra=EXTRA):
    parts = dict(zip(FOLDERS, (TRAIN, QUERY, GALLERY), strict=True))
    return write_empty(tree, {**parts, "gt_bbox": boxes, "images": extra})


# Multi-query


def test_a_multi_query_has_all_boxes_of_identity_and_camera(tmp_path):
    tree = write_tree(tmp_path)
    (tree / "gt_bbox" / "Thumbs.db").touch()
    (tree / "gt_bbox" / "-1_c1s1_000401_00.jpg").touch()
    single, multi = market1501(tree), market1501(tree, queries="multi")
    assert units_of(multi.query) == [
        ["gt_bbox/0001_c1s1_001051_00.jpg", "gt_bbox/0001_c1s2_003001_00.jpg"],
        ["gt_bbox/0001_c2s1_000301_00.jpg"],
        ["gt_bbox/1488_c2s3_065527_00.jpg.jpg", "gt_bbox/1488_c2s3_065552_00.jpg"],
    ]
    assert multi.query.pids.tolist() == single.query.pids.tolist()
    assert multi.query.cams.tolist() == single.query.cams.tolist()
    assert (multi.train.digest, multi.gallery.digest) == (single.train.digest, single.gallery.digest)
    assert multi.ignored == {"gt_bbox/*.db": 1}


PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 3))


@settings(max_examples=60)
@given(queries=st.lists(PAIRS, min_size=1, max_size=8), others=st.lists(PAIRS, max_size=12), data=st.data())
def test_multi_query_agrees_with_a_search_for_each_query(queries, others, data):
    boxes = data.draw(st.permutations([*queries, *others]))

    def samples(folder, pairs):
        names = [f"{folder}/{number}" for number in range(len(pairs))]
        return Samples.of_images(Path("tree"), names, (pid for pid, _ in pairs), (cam for _, cam in pairs))

    grouped_query = multi_query(samples("query", queries), samples("gt_bbox", boxes))
    expected = [[f"gt_bbox/{index}" for index, box in enumerate(boxes) if box == query] for query in queries]
    assert units_of(grouped_query) == expected
    assert list(zip(grouped_query.pids.tolist(), grouped_query.cams.tolist(), strict=True)) == queries


def test_multi_query_needs_a_box_for_every_query(tmp_path):
    with pytest.raises(DataError, match=r"gt_bbox: cannot be read: .*multi-query needs this folder"):
        market1501(write_tree(tmp_path / "none", boxes=None), queries="multi")
    lacking = write_tree(tmp_path / "one", boxes=[name for name in BOXES if not name.startswith("0001_c2")])
    with pytest.raises(
        DataError,
        match=r"gt_bbox: 1 of 3 queries have no image there, .*0001_c2s1_000301_00.jpg .*identity 1, camera 2",
    ):
        market1501(lacking, queries="multi")
    assert len(market1501(lacking).query) == len(QUERY)


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("norm", ["raw", "l2"])
def test_multi_query_gives_the_official_result(pool, norm):
    data = oracle("market_mq_dev")

    def samples(pids, cams):
        return Samples.of_images(Path("tree"), map(str, range(len(pids))), pids, cams)

    query = multi_query(samples(data["q_pid"], data["q_cam"]), samples(data["mq_pid"], data["mq_cam"]))
    images = torch.from_numpy(data["mqf"][query.images.astype(np.int64)])
    embeddings = pool_units(images, query.starts, "max" if pool == "max" else "mean")
    np.testing.assert_allclose(embeddings.numpy(), data[f"pooled_{pool}_raw"], rtol=0, atol=1e-12)
    metric = reidbench.build("metric", f"euclidean(normalize={str(norm == 'l2').lower()})")
    ranking = rank(
        embeddings, torch.from_numpy(data["gf"]), query.pids, query.cams, data["g_pid"], data["g_cam"], metric
    )
    np.testing.assert_allclose(average_precision(ranking, "market"), data[f"{pool}_{norm}_ap"], atol=1e-9)
    scores = score(ranking, 0)
    assert scores.map_market == pytest.approx(float(data[f"{pool}_{norm}_mAP"]), abs=1e-9)
    np.testing.assert_allclose(list(scores.cmc.values()), data[f"{pool}_{norm}_rank1_5_10_20"], atol=1e-9)


# Distractors


def test_distractors_follow_the_gallery(tmp_path):
    tree = write_tree(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "._0000_c1s1_0000001.jpg"):
        (tree / "images" / name).touch()
    plain, split = market1501(tree), market1501(tree, distractors=len(EXTRA))
    assert split.gallery.images[: len(GALLERY)].tolist() == plain.gallery.images.tolist()
    assert split.gallery.pids[: len(GALLERY)].tolist() == plain.gallery.pids.tolist()
    assert sorted(split.gallery.images[len(GALLERY) :].tolist()) == sorted(f"images/{name}" for name in EXTRA)
    assert set(split.gallery.pids[len(GALLERY) :].tolist()) == set(split.gallery.cams[len(GALLERY) :].tolist()) == {0}
    assert split.gallery.path(len(GALLERY)).is_file()
    assert split.ignored == {"images/*.db": 1, "images/.*": 2}
    assert (split.train.digest, split.query.digest) == (plain.train.digest, plain.query.digest)
    assert market1501(tree, distractors=0).digest == plain.digest


@pytest.mark.parametrize("seed", [0, 7])
def test_fewer_distractors_are_the_first_of_more(seed, tmp_path):
    tree = write_tree(tmp_path)
    numbers = np.random.Philox(key=stream_key(seed, "market1501", "distractors")).random_raw(len(EXTRA)).tolist()
    order = [f"images/{name}" for _, name in sorted(zip(numbers, sorted(EXTRA), strict=True))]
    for count in (1, 5, 20, len(EXTRA)):
        gallery = market1501(tree, distractors=count, distractors_seed=seed).gallery
        assert gallery.images[len(GALLERY) :].tolist() == order[:count]


def test_too_few_distractors_are_an_error(tmp_path):
    tree = write_tree(tmp_path / "some")
    with pytest.raises(DataError, match=r"images: expected 500,000 distractors, found 32 images"):
        market1501(tree, distractors=500_000)
    with pytest.raises(DataError, match=r"images: cannot be read: .*distractors_500k.zip"):
        market1501(write_tree(tmp_path / "none", extra=None), distractors=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distractors": -1}, "option distractors: expected 0 or more, got -1"),
        ({"holdout": -0.1}, "option holdout"),
        ({"holdout": 1.0}, "option holdout"),
        ({"holdout": 0.5, "distractors": 3}, "held-out.*distractors=3"),
        ({"holdout": 0.5, "queries": "multi"}, "held-out.*queries=multi"),
    ],
)
def test_invalid_and_contradicting_options_are_errors(options, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        market1501(write_tree(tmp_path), **options)


# Expected counts and recognition


def test_expected_counts_include_boxes_and_distractors(tmp_path):
    tree = write_tree(tmp_path)
    multi = market1501(tree, queries="multi")
    other_counts = {name: count for name, count in PUBLISHED.items() if name != "query"}
    assert multi.expected == other_counts | {"queries": 3368, "gt_bbox": 25259}
    assert (multi.counts["query"], multi.counts["queries"], multi.counts["gt_bbox"]) == (5, 3, len(BOXES))
    assert "gt bbox: 25,259 expected, 7 found" in multi.wrong_counts
    joined = market1501(tree, distractors=20)
    grown = {"gallery": 19752, "distractors": 2818, "cameras": 7, "images": 500_000}
    assert joined.expected == PUBLISHED | grown
    assert {name: joined.counts[name] for name in grown} == {
        "gallery": len(GALLERY) + 20,
        "distractors": 21,
        "cameras": 6,  # 5 are in this tree
        "images": len(EXTRA),
    }
    both = market1501(tree, queries="multi", distractors=20)
    assert both.expected == other_counts | grown | {"queries": 3368, "gt_bbox": 25259}


@pytest.mark.parametrize("images", [7, {"gt_bbox": "many"}, {"images": None}])
def test_invalid_counts_of_folders_are_refused(images, tmp_path):
    (write_tree(tmp_path) / "STANDIN.json").write_text(json.dumps({"counts": PUBLISHED, "images": images}))
    with pytest.raises(DataError, match=r"STANDIN.json: cannot read the stand-in's counts"):
        market1501(tmp_path)


@pytest.fixture(scope="module")
def official():
    """The official lists as single query, without a file."""
    names = official_market_names()
    return Split(*(parse_names(Path("tree"), folder, names[folder], NAMING)[0] for folder in FOLDERS))


def changed(samples: Samples) -> Samples:
    """Return the same units, one image of which has another name."""
    images = samples.images.copy()
    images[-1] = f"{Path(images[-1]).parent}/1501_c6s1_000001_09.jpg"
    return Samples(samples.root, images, samples.pids, samples.cams, samples.starts)


def joined(official: Split, count: int) -> Split:
    gallery = add_distractors(official.gallery, [f"{i}.jpg" for i in range(count)], count, 0)
    return Split(official.train, official.query, gallery)


def grouped(official: Split) -> Split:
    boxes = Samples(Path("tree"), *(getattr(official.query, name) for name in ("images", "pids", "cams", "starts")))
    return Split(
        official.train, multi_query(official.query, boxes + boxes.take(np.arange(0, 3368, 2))), official.gallery
    )


def test_any_change_of_the_official_lists_is_a_stand_in(official):
    multi, more = grouped(official), joined(official, 50)
    cases: list[tuple[Protocol, Split, tuple[str, ...]]] = [
        (market1501_multiquery_protocol(), multi, ("train", "gallery")),
        (market1501_500k_protocol(distractors=50), more, ("train", "query")),
        (market1501_500k_protocol(distractors=50), official, ("gallery",)),
        (market1501_500k_protocol(distractors=0), official, ("train", "query", "gallery")),
    ]
    for protocol, split, checked in cases:
        assert not is_standin(protocol, split)
        parts = {name: getattr(split, name) for name in ("train", "query", "gallery")}
        for name in checked:
            assert is_standin(protocol, Split(**parts | {name: changed(parts[name])})), name
    assert is_standin(market1501_protocol(), multi)
    images = more.gallery.images.copy()
    images[7] = "bounding_box_test/1501_c6s1_000001_09.jpg"
    other = dataclasses.replace(more, gallery=dataclasses.replace(more.gallery, images=images))
    assert is_standin(market1501_500k_protocol(distractors=50), other), (
        "one image of the original gallery has another name"
    )


def test_every_official_query_has_a_positive(official):
    multi, more = grouped(official), joined(official, 100)
    assert (len(multi.query), len(multi.query.images)) == (3368, 3368 + 1684)
    assert multi.counts["gallery"] == 19732
    assert (len(more.query), len(more.gallery), more.counts["junk"]) == (3368, 19832, 3819)
    assert unmatched(market1501_multiquery_protocol(), multi).total == 0
    assert unmatched(market1501_500k_protocol(), more).total == 0


# Protocols


def test_protocols_differ_only_in_data_and_pooling():
    single, multi, more = market1501_protocol(), market1501_multiquery_protocol(), market1501_500k_protocol()
    assert multi.dataset == "market1501(queries=multi)"
    assert more.dataset == "market1501(distractors=500000, distractors_seed=0)"
    assert (multi.pool, market1501_multiquery_protocol(pool="max").pool) == ("auto", "max")
    for other in (multi, more):
        for name in ("recipe", "views", "exclude", "primary", "ranks", "defaults"):
            assert getattr(other, name) == getattr(single, name)
    for build in (market1501_multiquery_protocol, market1501_500k_protocol):
        assert build(views="center").views == "center"


def test_protocol_options_reach_the_dataset(tmp_path):
    catalogue, tree = load(), write_tree(tmp_path)
    for spec, options in {
        "market1501_multiquery": {"queries": "multi"},
        "market1501_500k(distractors=9, distractors_seed=4)": {"distractors": 9, "distractors_seed": 4},
    }.items():
        protocol = catalogue.resolve("protocol", spec).build()
        split = catalogue.resolve("dataset", protocol.dataset).build(tree)
        assert split.digest == market1501(tree, **options).digest


# Complete runs on a stand-in


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin") / "tree"
    list(reidbench.build("synthesizer", "market1501(identities=16, distractors=60)", folder))
    return folder


def small_job(protocol, **changes):
    return job(protocol=protocol, backbone="tiny(height=32,width=16)", recipe="quick(steps=2,p=4,k=2)", **changes)


def test_a_stand_in_is_one_where_no_names_are_compared(standin):
    crossed = reidbench.build("protocol", "cross(train=msmt17, test=market1501)")
    assert not crossed.names
    for holdout in (0.0, 0.5):
        assert is_standin(crossed, market1501(standin, holdout=holdout))


def test_a_stand_in_runs_both_protocols_with_one_training(standin):
    curve = [f"market1501_500k(views=original, distractors={count})" for count in (0, 20, 60)]
    specs = ["market1501(views=original)", "market1501_multiquery(views=original)", *curve]
    runs = [run(small_job(spec), data=standin) for spec in specs]
    plans, records, _ = zip(*runs, strict=True)
    assert [record.status for record in records] == ["ok"] * 5
    assert len({plan.training_folder for plan in plans}) == 1
    assert len({record.id for record in records}) == 5
    assert all(record.standin for record in records)
    assert not any(plan.split.wrong_counts for plan in plans)
    single, multi, *points = records
    counts = plans[1].split.counts
    assert counts["queries"] == plans[0].split.counts["query"] < counts["query"]
    assert [record.dataset.counts["gallery"] - counts["gallery"] for record in points] == [0, 20, 60]
    assert multi.scores["queries"] == single.scores["queries"]
    assert points[0].scores == single.scores
    # A distractor can only lower the rank of a positive.
    maps = [record.scores["map_market"] for record in points]
    assert maps == sorted(maps, reverse=True)
    assert maps[0] > maps[2]


def test_queries_are_pooled_as_loss_or_protocol_set(standin):
    def pool(protocol, loss):
        return plan_of(small_job(protocol, loss=loss), data=standin)[0].evaluation.pool

    assert pool("market1501_multiquery", "batch_hard") == "mean"
    assert pool("market1501_multiquery", "classification") == "max"
    assert pool("market1501_multiquery(pool=mean)", "classification") == "mean"
