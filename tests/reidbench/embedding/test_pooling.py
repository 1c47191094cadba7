"""Pooling the embeddings of a unit's images, against a loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from reidbench.embedding.pooling import pool_units


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_against_a_loop(dtype):
    torch.manual_seed(1)
    lengths = [1, 5, 2, 1, 9]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    images = torch.randn(18, 4, dtype=dtype)
    parts = [images[first:end] for first, end in pairwise(starts)]
    means, maxima = pool_units(images, starts, "mean"), pool_units(images, starts, "max")
    assert means.dtype == maxima.dtype == dtype
    torch.testing.assert_close(means, torch.stack([part.mean(dim=0) for part in parts]))
    assert torch.equal(maxima, torch.stack([part.amax(dim=0) for part in parts]))


def test_single_images_are_their_own_pool():
    images = torch.randn(7, 3)
    for pool in ("mean", "max"):
        assert pool_units(images, np.arange(8), pool) is images, "a copy of a large gallery takes gigabytes"
