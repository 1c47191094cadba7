"""Contract checks of all other kinds: sound items pass, items with one fault are named."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import reidbench
from reidbench import testing
from reidbench.errors import ContractError, OptionError
from reidbench.plugins.catalogue import load
from tests.support.cases import cases

SMALL = "synthetic(identities=12, cameras=3)"
numbers = itertools.count(10)


def names(kind: str) -> list[str]:
    return [item.name for item in load().list_items(kind)]


def failed_check(check: Callable[..., Any], item, message: str, **arguments) -> str:
    """Return the name of the contract check that ``item`` fails; its message must match."""
    with pytest.raises(ContractError, match=message) as caught:
        check(item, **arguments)
    return caught.value.check


# --- datasets --------------------------------------------------------------------------------------------------------


def tree(root: Path) -> reidbench.Split:
    """Write 24 images of six identities, the first three in training."""
    image_names = [f"{pid}_{cam}_{number}.png" for pid in range(1, 7) for cam in (1, 2) for number in (1, 2)]
    for index, name in enumerate(image_names):
        if not (root / name).exists():
            Image.fromarray(np.full((8, 4, 3), index, dtype=np.uint8)).save(root / name)
    ids = [[int(part) for part in name.split("_")[:2]] for name in image_names]
    samples = reidbench.Samples.of_images(root, image_names, [pid for pid, _ in ids], [cam for _, cam in ids])
    places = np.arange(len(image_names))
    return reidbench.Split(samples.take(places[:12]), samples.take(places[12::4]), samples.take(places[12:]))


def leaking(root: Path) -> reidbench.Split:
    split = tree(root)
    return replace(split, gallery=split.gallery + split.train)


def incomplete(root: Path) -> reidbench.Split:
    return replace(tree(root), expected={"train": 13})


def missing(root: Path) -> reidbench.Split:
    split = tree(root)
    (root / "5_1_1.png").unlink()
    return split


def damaged(root: Path) -> reidbench.Split:
    if not (root / "4_1_1.png").exists():
        (root / "4_1_1.png").write_bytes(b"no image")
    return tree(root)


def shuffled(root: Path) -> reidbench.Split:
    split = tree(root)
    return replace(split, gallery=split.gallery.take(np.random.default_rng().permutation(len(split.gallery))))


def one_identity(root: Path) -> reidbench.Split:
    split = tree(root)
    return reidbench.Split(split.train.take(np.arange(4)), split.query, split.gallery)


def test_sound_datasets_pass(tmp_path, data_folder):
    assert testing.check_dataset(tree, root=tmp_path) == ("contract", "split and images", "options")
    assert len(testing.check_dataset("synthetic(identities=40)", root=data_folder)) == 3


@pytest.mark.parametrize(
    ("dataset", "check", "message"),
    [
        (leaking, "split and images", "identities_in_train_and_test: 3, such as 1"),
        (incomplete, "split and images", "13 expected, 12 found"),
        (missing, "contract", r"5_1_1\.png"),
        (damaged, "split and images", r"4_1_1\.png"),
        (shuffled, "contract", "two builds differ"),
        (one_identity, "split and images", "train has 1 identities"),
    ],
)
def test_datasets_with_one_fault_fail(dataset, check, message, tmp_path):
    assert failed_check(testing.check_dataset, dataset, message, root=tmp_path) == check


# --- recipes, protocols and synthesizers -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", names("recipe"))
def test_first_party_recipes_pass(recipe):
    assert testing.check_recipe(recipe) == ("contract", "options")


@pytest.mark.parametrize("protocol", names("protocol"))
def test_first_party_protocols_pass(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").touch()  # the default file of csv_list
    assert testing.check_protocol(protocol) == ("contract", "values", "options")


@pytest.mark.parametrize("synthesizer", ["csv_list(identities=6)", "mars(identities=6)"])
def test_first_party_synthesizers_pass(synthesizer):
    assert len(testing.check_synthesizer(synthesizer)) == 2


def recipe(steps: int) -> reidbench.Recipe:
    return reidbench.Recipe(steps=steps, decay_start=0, learning_rate=1e-3, p=2, k=2)


def no_recipe(backbone: reidbench.BackboneInfo):
    return {"steps": 3}


def changing(backbone: reidbench.BackboneInfo) -> reidbench.Recipe:
    return recipe(next(numbers))


def impossible(backbone: reidbench.BackboneInfo) -> reidbench.Recipe:
    return recipe(0)


@pytest.mark.parametrize(
    ("factory", "check", "message"),
    [(no_recipe, "contract", r"of the type reidbench\.Recipe, got "), (changing, "contract", "two builds differ")],
)
def test_recipes_with_one_fault_fail(factory, check, message):
    assert failed_check(testing.check_recipe, factory, message) == check


def test_an_impossible_recipe_is_an_option_error():
    with pytest.raises(OptionError, match="steps must be"):
        testing.check_recipe(impossible)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *cases(__file__, "protocols_with_one_fault_fail"),
        ({"ranks": (5, 10)}, "ranks must rise and begin with 1"),
        ({"exclude": ("cameras",)}, "exclude .*cameras"),
    ],
)
def test_protocols_with_one_fault_fail(changes, message):
    def factory():
        return replace(built, **changes)

    built: reidbench.Protocol = reidbench.build("protocol", SMALL)
    assert failed_check(testing.check_protocol, factory, message) in ("contract", "values")


def shrinking(directory: Path) -> Iterator[tuple[int, int]]:
    yield from ((0, 9), (1, 8))


def not_resuming(directory: Path) -> Iterator[tuple[int, int]]:
    if (directory / "begun").exists():
        raise FileExistsError("begun")
    (directory / "begun").touch()
    yield from ((0, 2), (1, 2))


@pytest.mark.parametrize(
    ("factory", "message"),
    [(shrinking, "the number of images in all changes"), (not_resuming, "it raised .*FileExistsError: begun")],
)
def test_synthesizers_with_one_fault_fail(factory, message):
    assert failed_check(testing.check_synthesizer, factory, message) == "contract"


# --- re-rankers ------------------------------------------------------------------------------------------------------


class Plain(reidbench.Reranker):
    """The distances as they are."""

    def blocks(self, query: Tensor, gallery: Tensor, metric: reidbench.Metric, rows: int) -> Iterator[Tensor]:
        for start in range(0, len(query), rows):
            yield metric.distances(query[start : start + rows], gallery)


class DropsRows(Plain):
    def blocks(self, query: Tensor, gallery: Tensor, metric: reidbench.Metric, rows: int) -> Iterator[Tensor]:
        return super().blocks(query[: len(query) // rows * rows], gallery, metric, rows)


class Backwards(Plain):
    def blocks(self, query: Tensor, gallery: Tensor, metric: reidbench.Metric, rows: int) -> Iterator[Tensor]:
        return super().blocks(query.flip(0), gallery, metric, rows)


class DependsOnBlock(Plain):
    def blocks(self, query: Tensor, gallery: Tensor, metric: reidbench.Metric, rows: int) -> Iterator[Tensor]:
        for block in super().blocks(query, gallery, metric, rows):
            yield block / block.amax()


class NotFinite(Plain):
    def blocks(self, query: Tensor, gallery: Tensor, metric: reidbench.Metric, rows: int) -> Iterator[Tensor]:
        for block in super().blocks(query, gallery, metric, rows):
            yield block / (block - block[:, :1])


@pytest.mark.parametrize("reranker", [Plain, "k_reciprocal"])
def test_sound_rerankers_pass(reranker):
    assert testing.check_reranker(reranker) == ("contract", "every query once", "smaller is closer", "options")


@pytest.mark.parametrize(
    ("reranker", "check"),
    [
        (DropsRows, "every query once"),
        (Backwards, "smaller is closer"),
        (DependsOnBlock, "every query once"),
        (NotFinite, "every query once"),
    ],
)
def test_rerankers_with_one_fault_fail(reranker, check):
    assert failed_check(testing.check_reranker, reranker, r"\d") == check


# --- report sections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", names("section"))
def test_first_party_sections_pass(section):
    assert len(testing.check_section(section)) == 6


class Empty:
    def build(self, records: Sequence[reidbench.RunRecord], files: reidbench.RunFiles):
        return reidbench.Part("empty")


class Listing(Empty):
    def build(self, records: Sequence[reidbench.RunRecord], files: reidbench.RunFiles):
        return [record.id for record in records]


class Best(Empty):
    def build(self, records: Sequence[reidbench.RunRecord], files: reidbench.RunFiles) -> reidbench.Part:
        best = max((record.scores["r1"] for record in records), default=0.0)
        return reidbench.Part("best", notes=[f"{best:.2f}"])


class NeedsFiles(Empty):
    def build(self, records: Sequence[reidbench.RunRecord], files: reidbench.RunFiles) -> reidbench.Part:
        return reidbench.Part("ranked", notes=[str(len(files.ranking(record))) for record in records] or ["none"])


@pytest.mark.parametrize(
    ("section", "check", "message"),
    [
        (Listing, "no records", "must return a Part, got list"),
        (Empty, "records without files", "the part is empty"),
        (Best, "failed runs", "KeyError"),
        (NeedsFiles, "records without files", "has no folder here"),
    ],
)
def test_sections_with_one_fault_fail(section, check, message):
    assert failed_check(testing.check_section, section, message) == check


# --- executors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", names("executor"))
def test_first_party_executors_pass(executor):
    assert len(testing.check_executor(executor)) == 3


class Mute(reidbench.Executor):
    run = None

    def unavailable(self):
        return None


@pytest.mark.parametrize(("executor", "check"), [(Mute, "answers"), (Empty, "contract")])
def test_executors_with_one_fault_fail(executor, check):
    assert failed_check(testing.check_executor, executor, "executor") == check
