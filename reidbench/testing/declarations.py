"""``check_recipe``, ``check_protocol``, ``check_synthesizer``: what the declarative kinds promise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from reidbench.data.ground_truth import EXCLUSION_RULES
from reidbench.data.protocol import Protocol
from reidbench.data.split import Split
from reidbench.errors import DataError
from reidbench.images.augment import view_crops
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import BackboneInfo, Preprocess
from reidbench.ranking.scores import scores_at
from reidbench.testing.subject import NotAsked, Subject, expect
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import default_data

# Networks of several kinds: a recipe may look at any of this.
NETWORKS = (
    BackboneInfo(128, Preprocess(64, 32), pretrained=False, parameters=650_000),
    BackboneInfo(2048, Preprocess(256, 128), pretrained=True, parameters=25_000_000, batch=(18, 4)),
    BackboneInfo(1, Preprocess(16, 16), pretrained=False, parameters=1, batch=(1, 2), faithful_to="somebody"),
)
FIRST_STEPS = 3  # of a synthesizer, which may draw for hours


def check_recipe(recipe: str | Callable[..., Recipe], **options: Any) -> tuple[str, ...]:
    """Return the promises that a recipe keeps.

    ``recipe`` is a spec of an installed recipe or a factory ``(backbone, *, options) -> Recipe`` with ``options``.
    Raises ContractError at the first promise that is broken, OptionError for a name or an option that does not fit.
    """
    subject = Subject("recipe", recipe, options)

    def contract() -> None:
        for network in NETWORKS:
            built = subject.build(network)
            expect(isinstance(built, Recipe), f"expected a reidbench.Recipe, got {type(built).__name__}")

    def equal() -> None:
        for network in NETWORKS:
            first, second = subject.build(network), subject.build(network)
            expect(first == second, f"built twice for one network, it is {first} and {second}")

    return subject.keep({"contract": contract, "builds are equal": equal, "spec round trip": subject.check_spec})


def check_protocol(
    protocol: str | Callable[..., Protocol], *, root: Path | None = None, **options: Any
) -> tuple[str, ...]:
    """Return the promises that a protocol keeps.

    ``protocol`` is a spec of an installed protocol or a factory ``(*, options) -> Protocol`` with ``options``; ``root``
    is the folder of the data sets (the machine's own by default). "yields a split" is not among them where the data
    are not there. Raises ContractError at the first promise that is broken, OptionError for what does not fit.
    """
    checks = _ProtocolChecks(Subject("protocol", protocol, options), root or default_data())
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "names what there is": checks.names,
            "builds are equal": checks.equal,
            "spec round trip": checks.subject.check_spec,
            "yields a split": checks.split,
        }
    )


class _ProtocolChecks:
    def __init__(self, subject: Subject, root: Path) -> None:
        self.subject, self.root = subject, root

    def fresh(self) -> Protocol:
        built = self.subject.build()
        expect(isinstance(built, Protocol), f"expected a reidbench.Protocol, got {type(built).__name__}")
        return built  # type: ignore[no-any-return]

    def contract(self) -> None:
        protocol = self.fresh()
        expect(
            type(protocol.version) is int and protocol.version >= 1,
            f"version must be a whole number from 1, got {protocol.version!r}",
        )
        ranks = list(protocol.ranks)
        rising = ranks == sorted({*ranks}) and all(type(rank) is int and rank >= 1 for rank in ranks)
        expect({1, 5, 10, 20} <= {*ranks} and rising, f"ranks must rise and hold 1, 5, 10 and 20, got {ranks}")
        scores = scores_at(ranks)
        expect(protocol.primary in scores, f"primary must be one of {', '.join(scores)}, got {protocol.primary!r}")
        unknown = [rule for rule in protocol.exclude if rule not in EXCLUSION_RULES]
        expect(not unknown, f"exclude names {unknown}; there are {', '.join(EXCLUSION_RULES)}")
        expect(protocol.pool in ("auto", "mean", "max"), f"pool must be auto, mean or max, got {protocol.pool!r}")
        parts = {part for key in protocol.names for part in key.split("+")} - {"train", "query", "gallery"}
        expect(not parts, f"names must be of train, query and gallery, got {sorted(parts)}")

    def names(self) -> None:
        protocol, catalogue = self.fresh(), load()
        catalogue.resolve("dataset", protocol.dataset)
        recipe = catalogue.resolve("recipe", protocol.recipe, protocol.defaults)
        expect(isinstance(recipe.build(NETWORKS[0]), Recipe), f"its recipe {protocol.recipe} is none")
        view_crops(protocol.views, NETWORKS[0].preprocess)

    def equal(self) -> None:
        first, second = self.fresh(), self.fresh()
        expect(first == second, f"built twice, it is {first} and {second}")

    def split(self) -> None:
        try:
            split = load().resolve("dataset", self.fresh().dataset).build(self.root)
        except DataError:
            raise NotAsked from None
        expect(isinstance(split, Split), f"its data set gives {type(split).__name__}, not a reidbench.Split")
        expect(
            min(len(part) for part in split.parts) > 0 and bool(set(split.query.pids) & set(split.gallery.pids)),
            f"nobody can be found in it: {split.counts}",
        )


def check_synthesizer(synthesizer: str | Callable[..., Iterator[tuple[int, int]]], **options: Any) -> tuple[str, ...]:
    """Return the promises that a synthesizer keeps in its first steps, in a temporary folder.

    ``synthesizer`` is a spec of an installed one or a factory ``(directory, *, options)`` with ``options`` that yields
    (images there, images in all). Raises ContractError at the first promise that is broken, OptionError for what does
    not fit.
    """
    subject = Subject("synthesizer", synthesizer, options)

    def begun(folder: Path) -> list[tuple[int, int]]:
        steps = iter(subject.build(folder))
        found = list(islice(steps, FIRST_STEPS))
        if hasattr(steps, "close"):
            steps.close()
        return found

    def progress() -> None:
        with tempfile.TemporaryDirectory() as folder:
            steps = begun(Path(folder))
        expect(bool(steps), "it yields nothing; expected (images there, images in all)")
        for step in steps:
            pair = isinstance(step, tuple) and len(step) == 2 and all(type(number) is int for number in step)
            expect(pair and 0 <= step[0] <= step[1], f"expected (images there, images in all), got {step!r:.80}")
        expect(len({total for _, total in steps}) == 1, f"the number of images in all changes: {steps}")
        expect(steps == sorted(steps), f"the number of images there falls: {steps}")

    def goes_on() -> None:
        with tempfile.TemporaryDirectory() as folder:
            stopped, again = begun(Path(folder)), begun(Path(folder))
        expect(bool(again) and again[-1] >= stopped[-1], f"it was stopped at {stopped[-1]} and begins again at {again}")

    return subject.keep(
        {"progress": progress, "begins again after a stop": goes_on, "spec round trip": subject.check_spec}
    )
