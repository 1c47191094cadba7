"""What all checks have in common: the item under test, and promises that are kept one after the other."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.errors import ContractError, OptionError, PluginError, ReidbenchError
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, load
from reidbench.plugins.discovery import SUPPLIED, Plugin, PluginItem, describe_error
from reidbench.plugins.options import positional_parameters
from reidbench.plugins.spec import Item, is_name
from reidbench.utils.random_streams import stream, torch_seed

Promises = Mapping[str, Callable[[], None]]


class Broken(Exception):
    """What was expected and what was found; ``keep`` adds whose promise it was."""


class NotAsked(Exception):
    """A promise that does not apply to this item."""


def expect(kept: bool, said: str) -> None:
    """Raise Broken, with what was expected and found, unless ``kept``."""
    if not kept:
        raise Broken(said)


class Subject:
    """The item under test: an installed one as a spec, or a factory with its options; built anew whenever asked."""

    def __init__(self, kind: str, what: str | Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.kind = kind
        if isinstance(what, str):
            if options:
                raise OptionError(f'{kind} "{what}": write its options into the text, not behind it: "NAME(a=1)"')
            self.catalogue, text = load(), what
        else:
            entry = _entry_of(kind, what)
            self.catalogue = Catalogue((), (entry,))
            text = str(Item(entry.name, tuple(options.items())))
        self.item: ResolvedSpec = self.catalogue.resolve(kind, text)
        if not self.item.terms:
            raise OptionError(f"{kind}: there is nothing to check in none")
        self.name = f"{kind} {self.item.short}"

    def build(self, *known: Any, seed: int = 0) -> Any:
        """Return the item, with torch seeded as the runner does it."""
        torch.manual_seed(torch_seed(seed, self.kind))
        return self.item.build(*known)

    def check_spec(self) -> None:
        """The text with every option written out gives the same options again."""
        again = self.catalogue.resolve(self.kind, self.item.text)
        expect(again.text == self.item.text, f"{self.item.text!r} was read back as {again.text!r}")
        expect(again.identity == self.item.identity, f"the identity {self.item.identity!r} became {again.identity!r}")

    def keep(self, promises: Promises) -> tuple[str, ...]:
        """Check promises in their order and return those that apply and hold; the caller's random state is kept.

        Raises ContractError at the first that is broken, be it by an exception of the item.
        """
        held: list[str] = []
        said: str
        cause: BaseException | None
        with torch.random.fork_rng(devices=[]):
            for promise, check in promises.items():
                try:
                    check()
                except NotAsked:
                    continue
                except OptionError as error:
                    if not held:  # options that do not fit are the caller's mistake, no broken promise
                        raise
                    said, cause = f"it raised {describe_error(error)}", error
                except Broken as broken:
                    said, cause = str(broken), broken.__cause__
                except Exception as error:  # a stranger's code may raise anything
                    said, cause = f"it raised {describe_error(error)}", error
                else:
                    held.append(promise)
                    continue
                raise ContractError(f'{self.name} breaks the promise "{promise}": {said}', promise) from cause
        return tuple(held)


def _entry_of(kind: str, factory: Callable[..., Any]) -> PluginItem:
    """Return a factory as a catalogue's entry, as if its module were installed."""
    called = getattr(factory, "__name__", type(factory).__name__).lstrip("_")
    name = called if is_name(called) else kind
    entry = PluginItem(kind, name, factory, Plugin(str(factory.__module__), "not installed", "", state="ok"))
    wanted = SUPPLIED.get(kind, ())
    if len(known := positional_parameters(factory)) != len(wanted):
        raise PluginError(
            f"{entry}: expected the positional parameters ({', '.join(wanted)}), got ({', '.join(known)}); options are "
            "keyword-only: write them behind a *"
        )
    return entry


def check_pickle(thing: Any) -> Any:
    """Return a pickled copy; raises Broken where it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(thing))
    except ReidbenchError:
        raise
    except Exception as error:
        raise Broken(
            f"it cannot be pickled: {describe_error(error)}; define its classes and functions at the top of a module"
        ) from error


def normal(shape: tuple[int, ...], seed: int, *names: str | int) -> Tensor:
    """Return float64 numbers of a normal distribution that are a function of (seed, names)."""
    return torch.from_numpy(stream(seed, *names).standard_normal(shape))


def finite(tensor: Tensor, what: str) -> None:
    """Raise Broken where ``tensor`` holds a number that is not finite."""
    wrong = ~torch.isfinite(tensor)
    count = int(wrong.sum())
    expect(
        count == 0,
        f"expected finite numbers, got {count} of {tensor.numel()} that are not in {what}, the first "
        f"{tensor[wrong].flatten()[0].item() if count else 0}",
    )


def same(first: Tensor, second: Tensor, tolerance: float = 0.0) -> bool:
    """Return whether two tensors agree to ``tolerance`` times the larger one's largest entry; 0 is bit for bit."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(first, second) if tolerance == 0 else largest_difference(first, second) <= tolerance


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two tensors of one shape over the largest entry of both."""
    if not first.numel():
        return 0.0
    scale = max(first.abs().max().item(), second.abs().max().item(), float(np.finfo(np.float64).tiny))
    return (first - second).abs().max().item() / scale


def share_in_order(distances: Tensor, labels: Tensor) -> float:
    """Return the share of (anchor, positive, negative) with the positive strictly closer; ``distances`` [n, n]."""
    alike = labels[:, None] == labels[None, :]
    positives = alike & ~torch.eye(len(labels), dtype=torch.bool)
    triplets = positives[:, :, None] & ~alike[:, None, :]
    closer = distances[:, :, None] < distances[:, None, :]
    return (closer & triplets).sum().item() / triplets.sum().item()
