"""The compiled crops against slices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reidbench.images.augment import Crops
from reidbench.images.crop import crop_normalised, crop_pixels


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9), st.just(3))), st.data()
)
@settings(max_examples=40)
def test_crops_equal_slices(pixels, data):
    images, height, width, _ = pixels.shape
    tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    corners = st.integers(0, height - tall), st.integers(0, width - wide)
    places = data.draw(st.lists(st.tuples(st.integers(0, images - 1), *corners, st.booleans()), max_size=5))
    chosen, top, left = (np.array([place[k] for place in places], dtype=np.int64) for k in range(3))
    flipped = np.array([place[3] for place in places], dtype=np.bool_)
    out = np.zeros((len(places), tall, wide, 3), dtype=np.uint8)
    crop_pixels(pixels, Crops(chosen, top, left, flipped), out)
    levels = np.random.default_rng(0).random((3, 256), dtype=np.float32)
    values = np.zeros((len(places), 3, tall, wide), dtype=np.float32)
    crop_normalised(pixels, Crops(chosen, top, left, flipped), levels, values)
    for place, (image, y, x, flip) in enumerate(places):
        window = pixels[image, y : y + tall, x : x + wide]
        window = window[:, ::-1] if flip else window
        assert np.array_equal(out[place], window)
        assert np.array_equal(values[place], np.stack([levels[c][window[..., c]] for c in range(3)]))
