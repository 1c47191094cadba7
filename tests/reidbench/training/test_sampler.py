"""The invariants of P×K and shuffled rounds, on arbitrary labels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench.errors import PluginError
from reidbench.plugins.interfaces import Loss
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import pk_round, sample_round, shuffled_round
from reidbench.utils.random_streams import stream
from tests.support.tiny_training import view_of

label_lists = st.lists(st.integers(-3, 12), min_size=1, max_size=60).map(
    lambda labels: np.array(labels, dtype=np.int64)
)


@given(label_lists, st.data(), st.integers(1, 9), st.integers(0, 2**32))
def test_pk_round(labels, data, k, seed):
    identities = len(set(labels.tolist()))
    p = data.draw(st.integers(1, identities))
    batches = pk_round(labels, p, k, stream(seed, "test"))
    assert len(batches) == identities // p
    seen = []
    for batch in batches:
        assert batch.dtype == np.int64
        assert batch.shape == (p * k,)
        groups = batch.reshape(p, k)
        owners = labels[groups]
        assert (owners == owners[:, :1]).all()  # an identity's units stand side by side
        assert len(set(owners[:, 0].tolist())) == p
        seen += owners[:, 0].tolist()
        for units, owner in zip(groups, owners[:, 0], strict=True):
            repeats = Counter(units.tolist())
            times = [repeats[unit] for unit in np.flatnonzero(labels == owner).tolist()]
            assert sum(times) == k
            assert max(times) - min(times) <= 1
    assert len(seen) == len(set(seen))  # at most once a pass, and all but the remainder


@given(label_lists, st.data(), st.integers(0, 2**32))
def test_shuffled_round(labels, data, seed):
    size = data.draw(st.integers(1, len(labels)))
    batches = shuffled_round(labels, size, stream(seed, "test"))
    assert len(batches) == len(labels) // size
    assert all(batch.dtype == np.int64 and batch.shape == (size,) for batch in batches)
    units = np.concatenate(batches)
    assert len(np.unique(units)) == len(units)
    assert set(units.tolist()) <= set(range(len(labels)))


def test_batches_follow_from_the_generator():
    labels = np.repeat(np.arange(20), 5)
    for draw in (lambda g: pk_round(labels, 4, 3, g), lambda g: shuffled_round(labels, 8, g)):
        first, again, other = (np.concatenate(draw(stream(seed, "round", 0))) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).any()


def test_every_unit_and_every_order_is_sampled():
    labels = np.repeat([5, 9], [4, 2])
    sampled = np.array([pk_round(labels, 2, 2, stream(seed, "test"))[0] for seed in range(400)])
    firsts = Counter(labels[sampled[:, 0]].tolist())
    assert sorted(firsts) == [5, 9]
    assert min(firsts.values()) > 150  # of 200 expected
    of_five = Counter(sampled[labels[sampled] == 5].tolist())
    assert sorted(of_five) == [0, 1, 2, 3]
    assert min(of_five.values()) > 150  # of 200 expected


def test_units_without_identity_are_in_shuffled_batches_alone():
    labels = [-1, 0, -1, 1, 1, -1, 0, -1, -1]
    recipe = Recipe(steps=1, decay_start=1, learning_rate=1.0, p=2, k=2)
    (batch,) = sample_round(Loss(), recipe, view_of(labels, p=2, k=2), 0)
    assert sorted(batch.tolist()) == [1, 3, 4, 6]
    batches = sample_round(Loss(), replace(recipe, batches="shuffled", k=1), view_of(labels, p=2, k=1), 0)
    assert len({*np.concatenate(batches).tolist()}) == 8


@pytest.mark.parametrize("batches", [[], [np.array([], dtype=np.int64)], [np.array([0, 4])], [np.array([-1])]])
def test_an_invalid_round_of_a_loss_is_a_plugin_error(batches):
    class Rounds(Loss):
        def next_round(self, view, number):
            return batches

    recipe = Recipe(steps=1, decay_start=1, learning_rate=1.0, p=2, k=2)
    with pytest.raises(PluginError, match=r"Rounds.*next_round returns"):
        sample_round(Rounds(), recipe, view_of([0, 0, 1, 1]), 0)
