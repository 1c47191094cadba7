"""The conformance kit on networks, data sets, metrics and re-rankers: sound ones, and ones wrong in one way each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench import Backbone, Metric, Preprocess, Reranker, Samples, Split, build
from reidbench.errors import ContractError
from reidbench.testing.backbones import check_backbone
from reidbench.testing.datasets import check_dataset
from reidbench.testing.metrics import check_metric
from reidbench.testing.rerankers import check_reranker

# --- backbones -------------------------------------------------------------------------------------------------------


class Network(Backbone):
    """A linear layer on the mean colour."""

    embedding_dim = 5

    def __init__(self, *, height: int = 8) -> None:
        super().__init__()
        self.preprocess = Preprocess(height, 4)
        self.linear = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(images.mean(dim=(2, 3)))
        return out


class OtherSize(Network):
    embedding_dim = 6


class Noisy(Network):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0.01 * torch.randn(())


class Counts(Network):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images)


class Centres(Network):
    def forward(self, images: Tensor) -> Tensor:
        out = super().forward(images)
        return out - out.mean(dim=0) + self.linear.bias


class Unused(Network):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(2, 2)


class OwnSeed(Network):
    def __init__(self) -> None:
        super().__init__()
        self.linear.weight.data = torch.from_numpy(np.random.default_rng().random((5, 3), dtype=np.float32))


class Outside(Network):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(5)  # neither parameter nor buffer

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.shift


class OtherScale(Network):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 4, mean=(104.0, 117.0, 123.0))


@pytest.mark.parametrize("backbone", [Network, "tiny", "lunet(height=64, width=32)"])
def test_a_sound_network_keeps_every_promise(backbone: str | Callable[..., Backbone]) -> None:
    assert len(check_backbone(backbone)) == 12


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (OtherSize, "output"),
        (Noisy, "evaluation repeats"),
        (Counts, "evaluation changes nothing"),
        (Centres, "an image does not depend on its batch"),
        (Unused, "gradient reaches the weights"),
        (OwnSeed, "seeded weights"),
        (Outside, "state_dict holds everything"),
        (OtherScale, "preprocess"),
    ],
)
def test_a_wrong_network_is_caught(wrong: type[Backbone], promise: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_backbone(wrong)
    assert caught.value.promise == promise, caught.value
    assert re.search(r"\d|forgotten|changed calls", str(caught.value))


# --- data sets -------------------------------------------------------------------------------------------------------


def tree(root: Path) -> Split:
    """Draw 24 images of six people and return three parts of them."""
    names = [f"{pid}_{cam}_{number}.png" for pid in range(1, 7) for cam in (1, 2) for number in (1, 2)]
    for index, name in enumerate(names):
        if not (root / name).exists():
            Image.fromarray(np.full((8, 4, 3), index, dtype=np.uint8)).save(root / name)
    samples = Samples.of_images(
        root, names, [int(name.split("_")[0]) for name in names], [int(name.split("_")[1]) for name in names]
    )
    places = np.arange(len(names))
    return Split(samples.take(places[:12]), samples.take(places[12::4]), samples.take(places[12:]))


def leaking(root: Path) -> Split:
    split = tree(root)
    return Split(split.train, split.query, split.gallery + split.train)


def incomplete(root: Path) -> Split:
    split = tree(root)
    return Split(split.train, split.query, split.gallery, expected={"train": 13})


def missing(root: Path) -> Split:
    split = tree(root)
    split.query.path(1).unlink()
    return split


def restless(root: Path) -> Split:
    split = tree(root)
    units = np.random.default_rng().permutation(len(split.gallery))
    return Split(split.train, split.query, split.gallery.take(units))


def one_person(root: Path) -> Split:
    split = tree(root)
    return Split(split.train.take(np.arange(4)), split.query, split.gallery)


def test_a_sound_data_set_keeps_every_promise(tmp_path: Path) -> None:
    assert len(check_dataset(tree, root=tmp_path)) == 8


def test_our_data_set_keeps_its_promises(data_folder: Path) -> None:
    assert "files" in check_dataset("synthetic(identities=40)", root=data_folder)


@pytest.mark.parametrize(
    ("wrong", "promise", "said"),
    [
        (leaking, "training and test share no image", "12 images of gallery"),
        (incomplete, "counts", "13 expected, 12 found"),
        (missing, "files", "1 of 3 files of query .*_1.png"),
        (restless, "builds are equal", "another order"),
        (one_person, "identities", "holds 1 identity"),
    ],
)
def test_a_wrong_data_set_is_caught(wrong: Callable[[Path], Split], promise: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        check_dataset(wrong, root=tmp_path)
    assert caught.value.promise == promise


# --- metrics and re-rankers ------------------------------------------------------------------------------------------


class Straight(Metric):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


class Similar(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().distances(a, b)


class OtherOrder(Straight):
    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        return -embeddings, embeddings


class Rounds(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return super().distances(a.float(), b.float())


class Relative(Straight):
    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return super().distances(a - b.mean(dim=0), b)


class OtherPairs(Straight):
    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return super().pair_distances(a, b, first, second).square()


class Learns(Straight):
    def fit(self, embeddings: Tensor, pids: np.ndarray, cams: np.ndarray) -> None:
        self.scale = 1 + np.random.default_rng().random()

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return self.scale * super().distances(a, b)


@pytest.mark.parametrize("metric", [Straight, "euclidean", "euclidean(normalize=true)"])
def test_a_sound_metric_keeps_every_promise(metric: str | Callable[..., Metric]) -> None:
    assert {"distances", "smaller is closer", "pickling"} <= set(check_metric(metric))


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (Similar, "smaller is closer"),
        (OtherOrder, "factors order as distances do"),
        (Rounds, "distances"),
        (Relative, "a distance belongs to its pair"),
        (OtherPairs, "pair distances are distances"),
        (Learns, "fit repeats"),
    ],
)
def test_a_wrong_metric_is_caught(wrong: type[Metric], promise: str) -> None:
    with pytest.raises(ContractError, match=r"\d") as caught:
        check_metric(wrong)
    assert caught.value.promise == promise


class Again(Reranker):
    """The distances as they are."""

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        for start in range(0, len(query), rows):
            yield metric.distances(query[start : start + rows], gallery)


class Drops(Again):
    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        for start in range(0, len(query) // rows * rows, rows):
            yield metric.distances(query[start : start + rows], gallery)


class Backwards(Again):
    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        return super().blocks(query.flip(0), gallery, metric, rows)


class PerBlock(Again):
    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        for block in super().blocks(query, gallery, metric, rows):
            yield block / block.amax()


class Endless(Again):
    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        for block in super().blocks(query, gallery, metric, rows):
            yield block / (block - block[:, :1])


@pytest.mark.parametrize("reranker", [Again, "k_reciprocal"])
def test_a_sound_reranker_keeps_every_promise(reranker: str | Callable[..., Reranker]) -> None:
    assert len(check_reranker(reranker)) == 10
    assert len(check_reranker(reranker, metric=build("metric", "euclidean"))) == 10


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (Drops, "all queries once"),
        (Backwards, "smaller is closer|rows change nothing"),
        (PerBlock, "rows change nothing"),
        (Endless, "blocks"),
    ],
)
def test_a_wrong_reranker_is_caught(wrong: type[Reranker], promise: str) -> None:
    with pytest.raises(ContractError, match=r"\d") as caught:
        check_reranker(wrong)
    assert re.fullmatch(promise, caught.value.promise), caught.value
