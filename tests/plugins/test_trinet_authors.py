"""trinet_authors: the arrays of the authors' file against a slow forward pass, wrong files, and the suite."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from reidbench_backbones.trinet_authors import TriNetAuthors

from reidbench import DataError, File
from reidbench.images.augment import view_crops
from reidbench.plugins.catalogue import load
from reidbench.runs.suite import find_suite, load_suite

Floats = NDArray[np.float64]
CHANNELS, HEIGHT, WIDTH = 2, 64, 32


def file_arrays(channels: int) -> list[Floats]:
    """Return random arrays in the order of the published files: a projection before the layers beside it."""
    generator = np.random.default_rng(0)

    def norm(size: int) -> list[Floats]:
        beta, gamma, mean = generator.normal(0, 0.5, (3, size))
        return [beta, 1 + gamma / 4, mean, generator.uniform(0.5, 99, size)]

    def convolution(before: int, after: int, kernel: int) -> Floats:
        return generator.normal(0, (before * kernel**2) ** -0.5, (after, before, kernel, kernel))

    arrays = [convolution(3, channels, 7) / 50, generator.normal(0, 1, channels), *norm(channels)]
    before = channels
    for stage, blocks in enumerate((3, 4, 6, 3)):
        size = channels * 2**stage
        for block in range(blocks):
            shapes = [(before, 4 * size, 1)] * (block == 0) + [(before, size, 1), (size, size, 3), (size, 4 * size, 1)]
            for shape in shapes:
                arrays += [convolution(*shape), *norm(shape[1])]
            before = 4 * size
    hidden = generator.normal(0, before**-0.5, (before, 16 * channels))
    last = generator.normal(0, 0.2, (16 * channels, 128))
    return [*arrays, hidden, *norm(16 * channels), last, generator.normal(0, 1, 128)]


def save(file, arrays):
    np.savez(file, *(array.astype(np.float32) for array in arrays))
    return file


def slow_forward(arrays: list[Floats], image: Floats) -> Floats:
    """Return the embedding of one image [3, H, W] (B, G, R from 0 to 255, minus the mean), written from the README."""
    rest: Iterator[Floats] = iter(np.float64(np.float32(array)) for array in arrays)

    def convolve(x: Floats, stride: int = 1, bias: bool = False) -> Floats:
        weights = next(rest)
        side = weights.shape[-1]
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        patches = sliding_window_view(padded, (side, side), (1, 2))[:, ::stride, ::stride]
        y = np.einsum("cijkl,ockl->oij", patches, weights)
        return normalise(y + next(rest)[:, None, None] if bias else y)

    def normalise(y: Floats) -> Floats:
        beta, gamma, mean, inverse = (next(rest).reshape(-1, *[1] * (y.ndim - 1)) for _ in range(4))
        return (y - mean) * (gamma * inverse) + beta

    def relu(x: Floats) -> Floats:
        return np.maximum(x, 0)

    x = relu(convolve(image, 2, bias=True))
    rows, columns = (range(0, size - 1, 2) for size in x.shape[1:])  # a last window hangs over the edge
    x = np.array([[[x[c, i : i + 3, j : j + 3].max() for j in columns] for i in rows] for c in range(len(x))])
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            shortcut = convolve(x, stride) if block == 0 else x
            x = relu(shortcut + convolve(relu(convolve(relu(convolve(x, stride))))))
    hidden = relu(normalise(x.mean((1, 2)) @ next(rest)))
    embedding = hidden @ next(rest) + next(rest)
    assert next(rest, None) is None
    return embedding


def build(**options) -> TriNetAuthors:
    return TriNetAuthors(**{"height": HEIGHT, "width": WIDTH, "channels": CHANNELS, **options})


def test_the_authors_arrays_give_the_embeddings_of_their_network(tmp_path):
    arrays = file_arrays(CHANNELS)
    assert len(arrays) == 273
    network = build(weights=File(save(tmp_path / "trinet.npz", arrays)))
    network.initialise()
    pixels = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, 3))
    preprocess = network.preprocess
    rgb = (torch.from_numpy(pixels) / 255 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)
    with torch.no_grad():
        embeddings = network.double().eval()(rgb.permute(0, 3, 1, 2).double())
    bgr = pixels[..., ::-1] - np.array([103.0626238, 115.90288257, 123.15163084])
    expected = np.stack([slow_forward(arrays, image) for image in bgr.transpose(0, 3, 1, 2)])
    np.testing.assert_allclose(embeddings, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_whole_network_has_the_papers_size():
    with torch.device("meta"):
        network = TriNetAuthors()
    assert sum(parameter.numel() for parameter in network.parameters()) == 25_738_432 + 64  # a bias in front
    assert (network.preprocess.height, network.preprocess.width, network.embedding_dim) == (256, 128, 128)


def test_a_wrong_file_is_refused_with_its_array_and_both_shapes(tmp_path):
    arrays = file_arrays(1)
    swapped = [*arrays[:6], *arrays[11:16], *arrays[6:11], *arrays[16:]]  # the projection after the first layer
    for wrong, named in (
        (arrays[:-1], "not one of the published files.* 273 arrays.*found 272; arr_272 is missing"),
        (swapped, r"arr_6 must be weights of blocks\.0\.shortcut\.0\.weight, .*\[4, 1, 1, 1\]; .*\[1, 1, 1, 1\]"),
        ([200 * array for array in arrays], "negative"),
    ):
        with pytest.raises(DataError, match=named):
            build(weights=File(save(tmp_path / "wrong.npz", wrong)), channels=1).initialise()


def test_the_suite_scores_both_files_with_ten_crops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("trinet-market1501.npz", "trinet-mars.npz"):
        (tmp_path / name).touch()
    found = []
    for job in load_suite(find_suite("paper/table2_authors")).jobs:
        network = load().resolve("backbone", job.backbone).build()
        found.append((job.protocol, network.weights_file.name, job.loss, job.metric))
        size, crops = view_crops(load().resolve("protocol", job.protocol).build().views, network.preprocess)
        assert (size, len(crops)) == ((288, 144), 10)
        assert {crop[:2] for crop in crops} == {(16, 8), (0, 0), (0, 16), (32, 0), (32, 16)}
    assert found == [
        (protocol, f"trinet-{data}.npz", "none", "euclidean")
        for protocol, data in (("market1501",) * 2, ("market1501_multiquery", "market1501"), ("mars", "mars"))
    ]
