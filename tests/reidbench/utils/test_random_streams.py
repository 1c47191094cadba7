"""Streams: a function of seed and names alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reidbench import stream, stream_key
from reidbench.errors import OptionError
from reidbench.utils.random_streams import torch_seed

parts = st.lists(st.one_of(st.integers(0, 10**9), st.text(max_size=6)), max_size=4).map(tuple)


def test_stream_is_the_same_on_every_machine():
    # Philox is specified; these numbers must never change, or no published run can be reproduced.
    assert stream_key(0, "augment", 7) == 0x25F92480816D925A768A57B136E59C39
    assert stream(0, "augment", 7).integers(0, 1000, 5).tolist() == [241, 291, 320, 835, 842]
    assert torch_seed(3, "step", 12) == 3664924354739748244


def test_other_random_numbers_change_nothing():
    expected = stream(5, "a").random(4)
    np.random.seed(1)
    torch.manual_seed(1)
    stream(5, "b").random(1000)
    assert (stream(5, "a").random(4) == expected).all()


@given(st.integers(0, 10**9), parts, st.integers(0, 10**9), parts)
def test_other_seeds_or_names_are_other_streams(one, names, other, others):
    same = (one, names) == (other, others)
    assert (stream_key(one, *names) == stream_key(other, *others)) == same


def test_names_are_separated_and_numbers_are_not_texts():
    keys = [stream_key(0, *names) for names in [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), (1,), ("1",), ()]]
    assert len(set(keys)) == len(keys)


@given(st.integers(0, 10**9), parts)
def test_torch_seed_is_in_range(seed, names):
    value = torch_seed(seed, *names)
    assert 0 <= value < 2**63
    torch.Generator().manual_seed(value)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**5000], ids=["below", "above", "huge"])
def test_seed_out_of_range_is_an_error(seed):
    for draw in (stream, stream_key, torch_seed):
        with pytest.raises(OptionError, match=r"seed: .*9223372036854775807"):
            draw(seed, "a")
    assert stream_key(2**63 - 1, "a") != stream_key(0, "a")
