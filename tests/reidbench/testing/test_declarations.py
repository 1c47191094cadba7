"""The conformance kit for recipes, protocols, synthesizers and sections: what is wrong is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reidbench import BackboneInfo, DataError, Part, Protocol, Recipe, RunFiles, RunRecord
from reidbench.errors import ContractError, OptionError
from reidbench.plugins.catalogue import load
from reidbench.testing.declarations import check_protocol, check_recipe, check_synthesizer
from reidbench.testing.sections import check_section

SMALL = "synthetic(identities=12, cameras=3)"
numbers = itertools.count(10)


def names(kind: str) -> list[str]:
    return [entry.name for entry in load().list_items(kind)]


@pytest.mark.parametrize("recipe", names("recipe"))
def test_our_recipes_keep_their_promises(recipe: str) -> None:
    assert check_recipe(recipe) == ("contract", "builds are equal", "spec round trip")


@pytest.mark.parametrize("protocol", names("protocol"))
def test_our_protocols_keep_their_promises_without_their_data(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").touch()  # which is what a list of one's own is called
    spec = f"{protocol}(identities=12)" if protocol.startswith("synthetic") else protocol
    assert len(check_protocol(spec, root=tmp_path)) == (5 if protocol.startswith("synthetic") else 4)


@pytest.mark.parametrize("synthesizer", ["csv_list(identities=6)", "mars(identities=6)"])
def test_our_synthesizers_keep_their_promises(synthesizer: str) -> None:
    assert len(check_synthesizer(synthesizer)) == 3


@pytest.mark.parametrize("section", names("section"))
def test_our_sections_keep_their_promises(section: str) -> None:
    assert len(check_section(section)) == 6


def no_recipe(backbone: BackboneInfo) -> Any:
    return {"steps": 3}


def restless(backbone: BackboneInfo) -> Recipe:
    return Recipe(steps=next(numbers), decay_start=0, learning_rate=1e-3, p=2, k=2)


def for_the_pretrained(backbone: BackboneInfo) -> Recipe:
    return Recipe(steps=1, decay_start=0, learning_rate=1e-3 if backbone.pretrained else 0.0, p=2, k=2)


@pytest.mark.parametrize(
    ("wrong", "promise", "said"),
    [
        (no_recipe, "contract", "expected a reidbench.Recipe, got dict"),
        (restless, "builds are equal", "built twice for one network"),
    ],
)
def test_a_wrong_recipe_is_caught(wrong: Callable[..., Any], promise: str, said: str) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        check_recipe(wrong)
    assert caught.value.promise == promise


def test_a_recipe_of_impossible_values_is_refused() -> None:
    with pytest.raises(OptionError, match="learning_rate must be above 0"):
        check_recipe(for_the_pretrained)


def protocol(**changes: Any) -> Callable[[], Protocol]:
    built = load().resolve("protocol", SMALL).build()

    def made() -> Protocol:
        return replace(built, **changes)

    return made


@pytest.mark.parametrize(
    ("changes", "promise", "said"),
    [
        ({"version": 0}, "contract", "version must be a whole number from 1, got 0"),
        ({"ranks": (1, 5)}, "contract", "ranks must rise and hold 1, 5, 10 and 20"),
        ({"primary": "r3"}, "contract", "primary must be one of map_market"),
        ({"exclude": ("cameras",)}, "contract", "exclude names .'cameras'."),
        ({"names": {"test": "0"}}, "contract", "names must be of train, query and gallery, got .'test'."),
        ({"recipe": "no_such"}, "names what there is", "no recipe"),
        ({"dataset": "no_such"}, "names what there is", "no dataset"),
        ({"views": "upside_down"}, "names what there is", "upside_down"),
    ],
)
def test_a_wrong_protocol_is_caught(changes: dict[str, Any], promise: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        check_protocol(protocol(**changes), root=tmp_path)
    assert caught.value.promise == promise


def silent(directory: Path) -> Iterator[tuple[int, int]]:
    yield from ()


def shrinking(directory: Path) -> Iterator[tuple[int, int]]:
    yield from ((0, 9), (1, 8))


def stubborn(directory: Path) -> Iterator[tuple[int, int]]:
    if (directory / "begun").exists():
        raise FileExistsError("begun")
    (directory / "begun").touch()
    yield from ((0, 2), (1, 2))


@pytest.mark.parametrize(
    ("wrong", "promise", "said"),
    [
        (silent, "progress", "it yields nothing"),
        (shrinking, "progress", "the number of images in all changes"),
        (stubborn, "begins again after a stop", "it raised FileExistsError: begun"),
    ],
)
def test_a_wrong_synthesizer_is_caught(wrong: Callable[..., Any], promise: str, said: str) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        check_synthesizer(wrong)
    assert caught.value.promise == promise


class Empty:
    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Any:
        return Part("empty")


class Listing(Empty):
    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Any:
        return [record.id for record in records]


class Best(Empty):
    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        best = max((record.scores["r1"] for record in records), default=0.0)
        return Part("best", notes=[f"{best:.2f}"])


class Needy(Empty):
    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        return Part("needy", notes=[str(len(files.ranking(record))) for record in records] or ["none"])


@pytest.mark.parametrize(
    ("wrong", "promise", "said"),
    [
        (Listing, "contract", "must return a reidbench.Part, got list"),
        (Empty, "runs without their files are shown", "it is empty"),
        (Best, "failed runs are shown", "KeyError"),
        (Needy, "contract", "what is missing becomes a note"),
    ],
)
def test_a_wrong_section_is_caught(wrong: Callable[..., Any], promise: str, said: str) -> None:
    with pytest.raises((ContractError, DataError), match=said) as caught:
        check_section(wrong)
    assert getattr(caught.value, "promise", promise) == promise


def test_the_command_checks_every_kind_of_a_name(
    reidbench_main: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for item in ("quick(steps=3)", "table", SMALL):
        code, said = reidbench_main("plugins", "check", item, "--data-root", str(tmp_path))
        assert code == 0, said
