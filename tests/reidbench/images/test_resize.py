"""The resize against Pillow, and against the exact value."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.images.decode import decode_images
from reidbench.images.resize import resize_image

SIDE = st.integers(1, 90)
# Noise is the hardest image: every pixel differs from its neighbours as much as it can.
LEVELS = st.sampled_from([(0, 256), (0, 2), (255, 256), (254, 256), (100, 140)])


def noise(height: int, width: int, seed: int, levels: tuple[int, int]) -> np.ndarray:
    values = np.random.default_rng(seed).integers(*levels, (height, width, 3))
    return (values * 255 if levels == (0, 2) else values).astype(np.uint8)


def exact(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean of the source under a triangle around every new pixel's centre, in float64 and unrounded."""

    def weights(old: int, new: int) -> np.ndarray:
        scale = old / new
        reach = max(scale, 1)
        away = (np.arange(old) + 0.5) - ((np.arange(new) + 0.5) * scale)[:, None]
        triangles = np.clip(1 - np.abs(away) / reach, 0, None)
        return triangles / triangles.sum(axis=1, keepdims=True)

    down, across = weights(image.shape[0], size[0]), weights(image.shape[1], size[1])
    return np.einsum("yh,hwc,xw->yxc", down, image.astype(np.float64), across, optimize=True)


@settings(max_examples=150)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 2**32), LEVELS)
def test_any_size_is_one_grey_level_from_pillow_at_most(height, width, tall, wide, seed, levels):
    image, out = noise(height, width, seed, levels), np.zeros((tall, wide, 3), dtype=np.uint8)
    resize_image(image, out)
    pillow = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR))
    assert np.abs(out.astype(int) - pillow).max() <= 1
    # Which follows, for Pillow's own rounding between its two passes, from being the rounding of the exact value.
    assert np.abs(out - exact(image, (tall, wide))).max() <= 0.5 + 1e-4


@settings(max_examples=60)
@given(
    st.tuples(SIDE, SIDE, SIDE, SIDE),
    st.integers(0, 2**32),
    LEVELS,
    st.integers(5, 100),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
def test_jpeg_is_one_grey_level_from_pillow_at_most(sizes, seed, levels, quality, sub, steps):
    height, width, tall, wide = sizes
    image = Image.fromarray(noise(height, width, seed, levels))
    with TemporaryDirectory() as folder:
        image.save(Path(folder, "a.jpg"), quality=quality, subsampling=sub, progressive=steps)
        out = np.zeros((1, tall, wide, 3), dtype=np.uint8)
        decode_images(Samples.of_images(Path(folder), ["a.jpg"], [1], [1]), [0], out)
        opened = Image.open(io.BytesIO(Path(folder, "a.jpg").read_bytes())).convert("RGB")
    pillow = np.asarray(opened.resize((wide, tall), Image.Resampling.BILINEAR))
    assert np.abs(out[0].astype(int) - pillow).max() <= 1


def test_image_of_the_size_is_unchanged():
    image = noise(20, 30, 0, (0, 256))
    out = np.zeros_like(image)
    resize_image(image, out)
    assert np.array_equal(out, image)
