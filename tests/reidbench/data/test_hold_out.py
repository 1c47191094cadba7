"""Holding out training identities: what is tuned on never meets what is tested on, and nothing is lost."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench import Samples, hold_out
from reidbench.errors import DataError

seen = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3)), min_size=2, max_size=40)


def train_of(pairs: list[tuple[int, int]]) -> Samples:
    names = [f"{number}.jpg" for number in range(len(pairs))]
    return Samples.of_images(Path("/nowhere"), names, [pid for pid, _ in pairs], [cam for _, cam in pairs])


def names(samples: Samples) -> list[str]:
    return [str(name) for name in samples.images]


@given(seen.filter(lambda pairs: len({pid for pid, _ in pairs}) > 1), st.floats(0.01, 0.5), st.integers(0, 99))
def test_identities_are_parted_and_no_unit_is_lost(pairs, fraction, seed):
    train = train_of(pairs)
    split = hold_out(train, fraction, seed)
    assert names(hold_out(train, fraction, seed).query) == names(split.query)
    identities, held = {pid for pid, _ in pairs}, set(split.gallery.pids.tolist())
    assert len(held) == max(1, round(fraction * len(identities)))
    assert held.isdisjoint(split.train.pids.tolist())
    assert sorted(names(split.train) + names(split.gallery)) == sorted(names(train))
    of_name = dict(zip(names(train), pairs, strict=True))
    for part in (split.train, split.query, split.gallery):
        assert [of_name[name] for name in names(part)] == list(zip(part.pids.tolist(), part.cams.tolist(), strict=True))
    # one query for each identity and camera, and each stands in the gallery
    assert Counter(zip(split.query.pids.tolist(), split.query.cams.tolist(), strict=True)) == Counter(
        set(zip(split.gallery.pids.tolist(), split.gallery.cams.tolist(), strict=True))
    )
    assert set(names(split.query)) <= set(names(split.gallery))


def test_another_seed_holds_out_other_identities():
    train = train_of([(pid, cam) for pid in range(1, 31) for cam in (1, 2) for _ in range(4)])
    splits = [hold_out(train, 0.2, seed) for seed in range(6)]
    assert len({tuple(np.unique(split.gallery.pids)) for split in splits}) == 6
    places = {int(name.removesuffix(".jpg")) % 4 for split in splits for name in names(split.query)}
    assert places == {0, 1, 2, 3}  # not always the first unit of an identity and camera


def test_whole_tracklets_move_together():
    images, ones = np.array([f"{number}.jpg" for number in range(6)]), np.ones(3, dtype=np.int64)
    train = Samples(Path("/nowhere"), images, np.array([1, 2, 3]), ones, np.array([0, 3, 4, 6]))
    split = hold_out(train, 0.34, 0)
    assert len(split.gallery) == 1
    assert sorted(np.diff(split.train.starts).tolist() + np.diff(split.gallery.starts).tolist()) == [1, 2, 3]


@pytest.mark.parametrize("fraction", [1.0, 0.9])
def test_nothing_left_to_train_on_is_an_error(fraction):
    with pytest.raises(DataError, match=rf"holding out {fraction:g} of 2 identities leaves none to train on"):
        hold_out(train_of([(1, 1), (2, 1)]), fraction, 0)
