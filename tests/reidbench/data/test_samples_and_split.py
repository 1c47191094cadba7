"""Samples, splits and their digests; a reference of plain loops beside every array trick."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import Samples, Split, hold_out
from reidbench.errors import DataError, PluginError
from tests.support.cases import cases

ROOT = Path("/nowhere")


@st.composite
def samples(draw: st.DrawFn, most: int = 8) -> Samples:
    """Units of one to four images with any pids and cams."""
    lengths = draw(st.lists(st.integers(1, 4), max_size=most))
    ids = st.lists(st.integers(-1, 9), min_size=len(lengths), max_size=len(lengths))
    return Samples(
        root=ROOT,
        images=np.array([f"{draw(st.integers(0, 99))}/{n}.jpg" for n in range(sum(lengths))], dtype=np.str_),
        pids=np.array(draw(ids), dtype=np.int64),
        cams=np.array(draw(ids), dtype=np.int64),
        starts=np.cumsum([0, *lengths], dtype=np.int64),
    )


def units(value: Samples) -> list[tuple[list[str], int, int]]:
    """Return each unit's images, pid and camera, by plain loops."""
    return [
        (value.images[value.starts[i] : value.starts[i + 1]].tolist(), int(value.pids[i]), int(value.cams[i]))
        for i in range(len(value))
    ]


@given(samples(), st.data())
def test_take_gives_the_named_units_in_the_named_order(value, data):
    wanted = data.draw(st.lists(st.integers(0, len(value) - 1), max_size=10)) if len(value) else []
    taken = value.take(np.array(wanted, dtype=np.int64))
    assert units(taken) == [units(value)[i] for i in wanted]
    images, starts = value.rows(np.array(wanted, dtype=np.int64))
    assert value.images[images].tolist() == taken.images.tolist()
    assert starts.tolist() == taken.starts.tolist()
    assert taken.root == value.root


@given(samples(), samples())
def test_a_sum_has_the_units_of_both_these_first(one, other):
    assert units(one + other) == units(one) + units(other)


def test_samples_of_two_roots_are_not_joined():
    with pytest.raises(DataError, match="/a and /b"):
        _ = Samples.of_images(Path("/a"), ["1"], [1], [1]) + Samples.of_images(Path("/b"), ["2"], [1], [1])


def test_of_images_makes_one_unit_an_image():
    value = Samples.of_images(ROOT, iter(["b.jpg", "a.jpg"]), iter([3, -1]), iter([1, 2]))
    assert units(value) == [(["b.jpg"], 3, 1), (["a.jpg"], -1, 2)]
    assert value.path(1) == ROOT / "a.jpg"
    assert len(Samples.of_images(ROOT, [], [], [])) == 0


@pytest.mark.parametrize(
    ("images", "pids", "cams", "starts", "said"), cases(__file__, "arrays_that_do_not_fit_are_refused")
)
def test_arrays_that_do_not_fit_are_refused(images, pids, cams, starts, said):
    arrays = [np.array(numbers, dtype=np.int64) for numbers in (pids, cams, starts)]
    with pytest.raises(DataError if "root" in said else PluginError, match=f"^/nowhere: .*{said}"):
        Samples(ROOT, np.array(images, dtype=np.str_), *arrays)


@pytest.fixture
def tree(tmp_path):
    for name, size in (("a.jpg", 3), ("b.jpg", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
    return tmp_path


def of_tree(root: Path, pids: tuple[int, ...] = (1, 2), cams: tuple[int, ...] = (1, 1)) -> Samples:
    return Samples.of_images(root, ["a.jpg", "b.jpg"], pids, cams)


def test_the_digest_is_over_names_sizes_and_ids_in_order(tree):
    expected = hashlib.sha256(b"a.jpg\x003\nb.jpg\x005\n")
    for numbers in ((1, 2), (1, 1), (0, 1, 2)):
        expected.update(b"".join(number.to_bytes(8, "little") for number in numbers))
    assert of_tree(tree).digest == expected.hexdigest()


def test_digest_depends_on_content_not_on_folder(tree, tmp_path_factory):
    digests = [of_tree(tree).digest, of_tree(tree, pids=(1, 3)).digest, of_tree(tree, cams=(1, 2)).digest]
    merged = Samples(tree, np.array(["a.jpg", "b.jpg"]), np.array([1]), np.array([1]), np.array([0, 2]))
    digests += [merged.digest, of_tree(tree).take(np.array([1, 0])).digest]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    os.rename(tree, elsewhere)  # noqa: PTH104
    assert of_tree(elsewhere).digest == digests[0]
    (elsewhere / "b.jpg").write_bytes(b"x" * 6)
    digests.append(of_tree(elsewhere).digest)
    assert len(set(digests)) == len(digests)
    (elsewhere / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read: No such file"):
        _ = of_tree(elsewhere).digest


def test_the_name_digest_is_over_sorted_base_names():
    one = Samples.of_images(ROOT, ["q/b.jpg", "t/a.jpg"], [1, 2], [1, 1])
    other = Samples.of_images(Path("/other"), ["a.jpg", "b.jpg"], [7, 8], [1, 1])
    assert one.name_digest == other.name_digest == hashlib.sha256(b"a.jpg\nb.jpg\n").hexdigest()
    assert one.name_digest != Samples.of_images(ROOT, ["a.jpg", "c.jpg"], [1, 2], [1, 1]).name_digest


def test_counts_of_a_split(tree):
    train, query = of_tree(tree), of_tree(tree, pids=(4, 4), cams=(1, 3))
    gallery = Samples.of_images(tree, ["a.jpg"] * 5, [-1, -1, 0, 4, 4], [1, 1, 1, 1, 6])
    split = Split(train, query, gallery)
    expected = {"train": 2, "train_identities": 2, "query": 2, "query_identities": 1, "gallery": 5}
    assert split.counts == expected | {"junk": 2, "distractors": 1, "cameras": 3}
    assert split.digest != Split(train, query, query).digest


def test_fit_units_are_train_or_others_of_the_same_images(tree):
    train = of_tree(tree)
    split = Split(train, train, train)
    assert split.fit is train
    assert len(split.parts) == 3
    images = np.array(["a.jpg", "b.jpg"])
    pooled = Samples(tree, images, np.array([1]), np.array([1]), np.array([0, 2]))
    other = Split(train, train, train, fit=pooled)
    assert other.fit is other.parts[3] is pooled
    assert other.digest != split.digest == Split(train, train, train, fit=train).digest
    with pytest.raises(DataError, match="fit holds junk or distractors"):
        Split(train, train, train, fit=of_tree(tree, pids=(-1, 1)))


def test_junk_and_distractors_stay_out_of_training_and_queries():
    junk, distractor, good = (Samples.of_images(ROOT, ["a"], [number], [1]) for number in (-1, 0, 1))
    for parts, name in (
        ((junk, good, good), "train"),
        ((good, junk, good), "query"),
        ((good, distractor, good), "query"),
    ):
        with pytest.raises(DataError, match=f"{name} holds junk or distractors"):
            Split(*parts)


def test_units_without_identity_are_a_count_of_their_own():
    train = Samples.of_images(ROOT, list("abcd"), [0, 4, 0, 2], [9, 1, 8, 1])
    test = Samples.of_images(ROOT, ["e"], [0], [1])
    split = Split(train, train.take(np.array([1])), test)
    assert split.labelled.images.tolist() == split.fit.images.tolist() == ["b", "d"]
    expected = {"train": 2, "train_identities": 2, "unlabelled": 2, "cameras": 1}
    assert {name: split.counts[name] for name in expected} == expected
    assert not Split(train.take(np.array([0, 3])), split.query, test).contradictions
    for seed in range(9):
        held_out = hold_out(train, 0.5, seed)
        assert sorted(held_out.train.pids.tolist())[:2] == [0, 0]
        assert (held_out.gallery.pids > 0).all()
