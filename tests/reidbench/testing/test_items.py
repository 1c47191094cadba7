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


def missing(root: Path) -> reidbench.Split:
    split = tree(root)
    (root / "5_1_1.png").unlink()
    return split


def damaged(root: Path) -> reidbench.Split:
    if not (root / "4_1_1.png").exists():
        (root / "4_1_1.png").write_bytes(b"no image")
    return tree(root)


def shuffled(samples: reidbench.Samples) -> reidbench.Samples:
    return samples.take(np.random.default_rng().permutation(len(samples)))


def changed(change: Callable[[reidbench.Split], dict[str, Any]]) -> Callable[[Path], reidbench.Split]:
    """Return the dataset with other parts."""

    def build(root: Path) -> reidbench.Split:
        return replace(split := tree(root), **change(split))

    return build


def test_sound_datasets_pass(tmp_path, data_folder):
    assert testing.check_dataset(tree, root=tmp_path) == ("contract", "split and images", "options")
    assert len(testing.check_dataset("synthetic(identities=40)", root=data_folder)) == 3


@pytest.mark.parametrize(
    ("dataset", "check", "message"),
    [
        (
            changed(lambda split: {"gallery": split.gallery + split.train}),
            "split and images",
            "_in_train_and_test: 3, such as 1",
        ),
        (changed(lambda split: {"expected": {"train": 13}}), "split and images", "13 expected, 12 found"),
        (missing, "contract", r"5_1_1\.png"),
        (damaged, "split and images", r"4_1_1\.png"),
        (changed(lambda split: {"gallery": shuffled(split.gallery)}), "contract", "two builds differ"),
        (
            changed(lambda split: {"train": split.train.take(np.arange(4))}),
            "split and images",
            "train has 1 identities",
        ),
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


def changing(backbone: reidbench.BackboneInfo) -> reidbench.Recipe:
    return recipe(next(numbers))


@pytest.mark.parametrize(
    ("factory", "check", "message"),
    [
        (lambda backbone: {"steps": 3}, "contract", r"of the type reidbench\.Recipe, got "),
        (changing, "contract", "two builds differ"),
    ],
)
def test_recipes_with_one_fault_fail(factory, check, message):
    assert failed_check(testing.check_recipe, factory, message) == check


def test_an_impossible_recipe_is_an_option_error():
    with pytest.raises(OptionError, match="steps must be"):
        testing.check_recipe(lambda backbone: recipe(0))


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


def scaled(scale: Callable[[Tensor], Tensor]) -> Callable[..., Iterator[Tensor]]:
    """Return ``blocks`` that divides each block of distances by ``scale`` of it."""
    return lambda self, *given: (block / scale(block) for block in Plain.blocks(self, *given))


@pytest.mark.parametrize("reranker", [Plain, "k_reciprocal"])
def test_sound_rerankers_pass(reranker):
    assert testing.check_reranker(reranker) == ("contract", "every query once", "smaller is closer", "options")


@pytest.mark.parametrize(
    ("blocks", "check"),
    [
        (lambda self, q, g, metric, n: Plain.blocks(self, q[: len(q) // n * n], g, metric, n), "every query once"),
        (lambda self, q, *given: Plain.blocks(self, q.flip(0), *given), "smaller is closer"),
        (scaled(lambda block: block.amax()), "every query once"),  # depends on the other queries of the block
        (scaled(lambda block: block - block[:, :1]), "every query once"),  # not finite
    ],
)
def test_rerankers_with_one_fault_fail(blocks, check):
    assert failed_check(testing.check_reranker, type("Faulty", (Plain,), {"blocks": blocks}), r"\d") == check


# --- report sections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", names("section"))
def test_first_party_sections_pass(section):
    assert len(testing.check_section(section)) == 6


class Empty:
    def build(self, records: Sequence[reidbench.RunRecord], files: reidbench.RunFiles):
        return reidbench.Part("empty")


def best(records: Sequence[reidbench.RunRecord]) -> float:
    return max((record.scores["r1"] for record in records), default=0.0)


@pytest.mark.parametrize(
    ("build", "check", "message"),
    [
        (lambda self, records, files: list(records), "no records", "must return a Part, got list"),
        (
            lambda self, records, files: reidbench.Part("best", notes=[f"{best(records):.2f}"]),
            "failed runs",
            "KeyError",
        ),
        (
            lambda self, records, files: reidbench.Part(
                "", notes=["", *(str(files.ranking(each)) for each in records)]
            ),
            *("records without files", "has no folder here"),
        ),
    ],
)
def test_sections_with_one_fault_fail(build, check, message):
    assert failed_check(testing.check_section, type("Faulty", (Empty,), {"build": build}), message) == check


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
