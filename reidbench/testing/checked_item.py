"""The item under test with the runner of its checks, and what the checks of several kinds use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.errors import ContractError, OptionError, checked, describe_error
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.interfaces import Backbone, Loss
from reidbench.plugins.spec import Item, is_name
from reidbench.training.optimizer import own_groups
from reidbench.utils.arrays import IntArray
from reidbench.utils.random_streams import stream, torch_seed
from reidbench.utils.threads import workers

DIM = 8


class Violation(Exception):
    """What a check expected and found; ``Checks.run`` adds the names of the item and the check."""


class NotApplicable(Exception):
    """The check does not apply to this item."""


class Checks:
    """The contract checks of an item, given as a spec of an installed item or as a factory with its options.

    Each method ``check_NAME`` is a check; ``run`` calls them in the order of their definition, those of base classes
    first. ``expected`` is the type of what the item builds. Raises OptionError where the spec or the options cannot be
    used, PluginError for a factory that declares none.
    """

    expected: type = object

    def __init__(self, kind: str, what: str | Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.kind = kind
        if isinstance(what, str):
            if options:
                raise OptionError(f'{kind} "{what}": write its options into the text: "NAME(option=1)"')
            catalogue, text = load(), what
        else:
            item = _item_of(kind, what)
            catalogue, text = Catalogue((), (item,)), str(Item(item.name, tuple(options.items())))
        self.spec: ResolvedSpec = catalogue.resolve(kind, text)
        if not self.spec.terms:
            raise OptionError(f"{kind}: there is nothing to check in none")

    def build(self, *supplied: Any, seed: int = 0) -> Any:
        """Return what the item builds, with torch seeded; raises PluginError where it is not ``expected``."""
        torch.default_generator.manual_seed(torch_seed(seed, self.kind))
        return checked(self.spec.owner, self.spec.build(*supplied), self.expected)

    def check_contract(self) -> None:
        self.build()

    def check_options(self) -> None:
        unnamed = [name for item in self.spec.plugin_items for name, option in item.options.items() if not option.doc]
        self.expect(not unnamed, f"the docstring of its factory lacks a line below Options: for {', '.join(unnamed)}")

    def run(self) -> tuple[str, ...]:
        """Run the checks and return the names of those that apply and pass; torch's random state is restored.

        Raises ContractError at the first that fails, also by an exception of the item. An OptionError in the first
        check is passed on: options that do not fit are the caller's mistake.
        """
        methods = [name for base in reversed(type(self).__mro__) for name in vars(base) if name.startswith("check_")]
        passed: list[str] = []
        with workers(), torch.random.fork_rng(devices=[]):  # one thread: on tiny tensors several only wait
            for method in sorted(dict.fromkeys(methods), key="check_options".__eq__):  # the options last
                name = method.removeprefix("check_").replace("_", " ")
                try:
                    getattr(self, method)()
                except NotApplicable:
                    continue
                except Exception as error:  # a plugin's code may raise anything
                    if isinstance(error, OptionError) and not passed:
                        raise
                    observation = str(error) if isinstance(error, Violation) else f"it raised {describe_error(error)}"
                    item = f"{self.kind} {self.spec.short}"
                    raise ContractError(f'{item} fails the contract check "{name}": {observation}', name) from error
                passed.append(name)
        return tuple(passed)

    def expect(self, condition: bool, message: str) -> None:
        """Raise Violation with ``message`` unless ``condition`` holds."""
        if not condition:
            raise Violation(message)

    def expect_finite(self, tensor: Tensor, what: str) -> None:
        """Raise Violation where ``tensor`` contains a number that is not finite."""
        wrong = tensor[~torch.isfinite(tensor)]
        observation = f"{len(wrong)} of {tensor.numel()} numbers are not finite in {what}"
        self.expect(not len(wrong), f"{observation}, the first is {wrong[0].item() if len(wrong) else 0}")

    def expect_equal(self, first: Tensor, second: Tensor, what: str, tolerance: float = 0.0, advice: str = "") -> None:
        """Raise Violation unless two tensors agree in shape and dtype, and to ``tolerance`` of their largest entry."""
        alike = (first.shape, first.dtype) == (second.shape, second.dtype)
        scale = max(first.abs().max().item(), second.abs().max().item(), float(np.finfo(np.float64).tiny))
        difference = (first - second).abs().max().item() / scale if alike else float("inf")
        message = f"{what} differ by {difference:.3g} of the largest entry, expected at most {tolerance:g}"
        self.expect(difference <= tolerance, f"{message}; {advice}" if advice else message)

    def expect_ordered(self, distances: Tensor, queries: IntArray, gallery: IntArray) -> None:
        """Raise Violation unless distances [q, g] of clustered identities put most positives before most negatives."""
        share = share_in_order(distances, queries, gallery)
        observation = (
            f"of clustered identities the positive is closer in {share:.0%} of the triplets, expected above 60%"
        )
        self.expect(share > 0.6, f"{observation}; is it a similarity, is a sign flipped, or are queries out of order?")

    def expect_groups(self, item: Loss | Backbone) -> None:
        """Raise Violation unless the parameter groups of a loss or a network name each trained parameter once."""
        grouped = [id(p) for group in own_groups(item) for p in group["params"] if p.requires_grad]
        trained = [id(p) for p in item.parameters() if p.requires_grad]
        observation = f"param_groups must name each of its {len(trained)} parameters once, it names {len(grouped)}"
        self.expect(sorted(grouped) == sorted(trained), observation)


def contract_check(kind: str, checks: type[Checks]) -> Callable[..., tuple[str, ...]]:
    """Return the function ``check_KIND`` of a kind."""

    def check(item: str | Callable[..., Any], /, **options: Any) -> tuple[str, ...]:
        """Return the names of the contract checks that an item passes.

        ``item`` is the spec of an installed item, or a factory as its hook returns it, with ``options``. Raises
        ContractError at the first check that fails, OptionError for a name or an option that does not fit.
        """
        return checks(kind, item, options).run()

    check.__name__ = f"check_{kind}"
    return check


def _item_of(kind: str, factory: Callable[..., Any]) -> PluginItem:
    """Return a factory as a plugin item, as if its module were installed; raises PluginError for its signature."""
    called = getattr(factory, "__name__", type(factory).__name__).lstrip("_")
    plugin = Plugin(str(factory.__module__), "not installed", "", state="ok")
    item = PluginItem(kind, called if is_name(called) else kind, factory, plugin)
    item.check()
    return item


def normal(shape: tuple[int, ...], *names: str | int) -> Tensor:
    """Return float64 numbers of a normal distribution that are a function of ``names``."""
    return torch.from_numpy(stream(0, *names).standard_normal(shape))


def clusters(identities: int, images: int, name: str) -> tuple[Tensor, IntArray]:
    """Return embeddings [identities * images, DIM] float64, clustered by identity, and their identities from 1."""
    pids = np.tile(np.arange(1, identities + 1, dtype=np.int64), images)
    centres = normal((identities, DIM), name, "centres").repeat(images, 1)
    return centres + normal((len(pids), DIM), name, "images") / 2, pids


def share_in_order(distances: Tensor, queries: IntArray, gallery: IntArray) -> float:
    """Return the share of triplets in which the positive is strictly closer than the negative.

    ``distances`` [q, g]; ``queries`` [q] and ``gallery`` [g] are identities; no query is in the gallery.
    """
    alike = torch.from_numpy(queries[:, None] == gallery[None, :])
    triplets = alike[:, :, None] & ~alike[:, None, :]
    closer = distances[:, :, None] < distances[:, None, :]
    return (closer & triplets).sum().item() / triplets.sum().item()
