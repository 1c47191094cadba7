"""The conformance kit: wrong items are caught, each by the promise it breaks; ours keep all of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from reidbench import (
    Backbone,
    Loss,
    LossValue,
    Metric,
    OptionError,
    Preprocess,
    Reranker,
    Samples,
    Split,
    TrainInfo,
    build,
)
from reidbench.errors import PromiseError, ReidbenchError
from reidbench.testing import check_backbone, check_dataset, check_loss, check_metric, check_reranker

# --- a loss that is right, and eight that are wrong in one way each ---------------------------------------------------


class Right(Loss):
    """Triplet loss of the hardest pairs of a batch, in squared distances."""

    def __init__(self, info: TrainInfo, *, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue | Tensor:
        same = labels[:, None] == labels[None, :]
        return self.terms(self.apart(embeddings), same)

    def apart(self, embeddings: Tensor) -> Tensor:
        return (embeddings[:, None] - embeddings[None, :]).square().sum(dim=2)

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class FlippedSign(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return functional.softplus(negative - positive)


class FlippedHinge(FlippedSign):
    """Where it looks at everything from the wrong side a hinge is at rest from the start."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return functional.relu(super().terms(distances, same) - self.margin)


class ForgetsTheMask(Right):
    """What is masked becomes 0, which is the closest of all."""

    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        positive, negative = (distances * same).amax(dim=1), (distances * ~same).amin(dim=1)
        return functional.relu(self.margin + positive - negative)


class WrongAxis(Right):
    """The mean over the images, where the sum over the entries was meant."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        same = (labels[:, None] == labels[None, :]).to(embeddings.dtype)
        means = same @ embeddings / same.sum(dim=1, keepdim=True)
        return (embeddings - means).square().mean(dim=0)


class Detaches(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances.detach(), same)


class DetachesHalf(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        apart = (embeddings[:, None] - embeddings.detach()[None, :]).square().sum(dim=2)
        return self.terms(apart, labels[:, None] == labels[None, :])


class NanAtZero(Right):
    """The gradient of a square root at 0 is infinite, and 0 times infinity is not a number."""

    def apart(self, embeddings: Tensor) -> Tensor:
        own = torch.eye(len(embeddings), dtype=embeddings.dtype)
        return (super().apart(embeddings) + own).sqrt() - own


class DependsOnOrder(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        weights = torch.linspace(0, 1, len(labels), dtype=embeddings.dtype)
        return weights * super().forward(embeddings, labels)


class KeepsState(Right):
    """An average of the batches so far that no checkpoint would have."""

    seen: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        now = embeddings.detach().mean(dim=0)
        self.seen = now if self.seen is None else 0.9 * self.seen + 0.1 * now
        pull = (embeddings - self.seen).square().sum(dim=1)
        return super().forward(embeddings, labels) + 0.01 * pull


class WrongShape(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same)[:, None]


class WrongTermShape(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        terms = super().forward(embeddings, labels)
        assert isinstance(terms, Tensor)
        return LossValue(terms.mean(), per_item={"loss": terms[:, None]})


class IgnoresLabels(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings, torch.arange(len(labels)) // 2)


class Overflows(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same).exp()


class DrawsElsewhere(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        return super().terms(distances, same) * (1 + 1e-4 * np.random.default_rng().random())


class SinglePrecision(Right):
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return super().forward(embeddings.float(), labels)


class Raises(Right):
    def terms(self, distances: Tensor, same: Tensor) -> Tensor:
        raise ZeroDivisionError("nobody thought of this")


WRONG = [
    (FlippedSign, "learning", "a sign flipped"),
    (FlippedHinge, "gradient reaches", "a sign flipped"),
    (ForgetsTheMask, "learning", "a mask forgotten"),
    (WrongAxis, "shapes", "8 terms for embeddings of 8 entries and 11 for 11"),
    (Detaches, "inputs untouched|gradient reaches", "without detaching them"),
    (DetachesHalf, "gradient is that of the value", "in 6 of 6 directions .* is a part detached"),
    (NanAtZero, "coincident embeddings", r"\d+ of 128 that are not in the gradient with (all|each)"),
    (DependsOnOrder, "order of the batch", r"in another order gave \d"),
    (KeepsState, "no hidden state", r"after other batches it gave \d.*register_buffer"),
    (WrongShape, "shapes", r"got shape \(16, 1\)"),
    (WrongTermShape, "shapes", r"per_item loss must have 1 dimensions, got the shape \(16, 1\)"),
    (IgnoresLabels, "order of the batch", "compare labels, not positions"),
    (Overflows, "huge embeddings", "not in the value"),
    (DrawsElsewhere, "gradient is that|determinism|order", r"\d"),
    (SinglePrecision, "shapes", "total must be torch.float64, got torch.float32"),
    (Raises, "shapes", r"ZeroDivisionError: nobody thought of this \(test_testing.py, line \d+\)"),
]


def test_a_loss_that_is_right_keeps_every_promise() -> None:
    held = check_loss(Right, margin=0.5)
    assert {"shapes", "order of the batch", "coincident embeddings", "no hidden state", "pickling"} <= set(held)
    assert len(held) == 15


@pytest.mark.parametrize(("wrong", "promise", "said"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_loss_is_caught_by_the_promise_that_it_breaks(wrong: type[Loss], promise: str, said: str) -> None:
    with pytest.raises(PromiseError) as caught:
        check_loss(wrong)
    assert re.match(promise, caught.value.promise), caught.value
    assert re.search(said, str(caught.value)), caught.value
    assert str(caught.value).startswith(f'loss {wrong.__name__} breaks the promise "{caught.value.promise}": ')


def test_a_broken_promise_is_an_assertion_and_ends_a_command_with_1() -> None:
    assert issubclass(PromiseError, AssertionError)
    assert issubclass(PromiseError, ReidbenchError)
    assert PromiseError.exit_code == 1


def test_a_loss_made_inside_a_function_cannot_be_pickled() -> None:
    class Inside(Right):
        pass

    with pytest.raises(PromiseError, match="at the top of a module"):
        check_loss(Inside)


def test_options_that_do_not_fit_are_no_broken_promises() -> None:
    with pytest.raises(OptionError, match="margin"):
        check_loss(Right, margn=1.0)
    with pytest.raises(OptionError, match="at least 0"):
        check_loss("batch_hard(margin=-1)")
    with pytest.raises(OptionError, match="write its options into the text"):
        check_loss("batch_hard", margin=1.0)
    with pytest.raises(OptionError, match="nothing to check"):
        check_loss("none")


def test_a_check_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_loss(Right)
    assert torch.equal(before, torch.get_rng_state())


OURS = [
    "batch_hard",
    "batch_hard(margin=0.2, distance=cosine)",
    "batch_all(average=nonzero)",
    "triplet",
    "lifted",
    "lifted(pairs=triplets, negatives=all)",
    "lifted_generalized",
    "lmnn",
    "improved_triplet",
    "classification(dropout=0.5)",
    "verification",
    "identification_verification",
    "triplet_ohm(refresh=5)",
    "batch_hard + 0.5*classification",
    "pml/TripletMarginLoss",
    "pml/NTXentLoss",
    "pml/ArcFaceLoss",
    "pml/ContrastiveLoss",
]


@pytest.mark.parametrize("spec", OURS)
def test_our_losses_keep_their_promises(spec: str) -> None:
    held = check_loss(spec)
    assert "learning brings positives closer than negatives" in held
    assert ("rounds" in held) or ("order of the batch" in held)


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
    with pytest.raises(PromiseError) as caught:
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
    with pytest.raises(PromiseError, match=said) as caught:
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
    with pytest.raises(PromiseError, match=r"\d") as caught:
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
    with pytest.raises(PromiseError, match=r"\d") as caught:
        check_reranker(wrong)
    assert re.fullmatch(promise, caught.value.promise), caught.value
