"""What of a run differs from the paper that its recipe names, or from the recipe alone where it names none."""

from __future__ import annotations

from collections.abc import Mapping

from reidbench.data.protocol import Protocol
from reidbench.plugins.catalogue import ResolvedSpec
from reidbench.plugins.interfaces import BackboneInfo
from reidbench.training.recipe import ROUNDING_ONLY, Recipe


def deviations(
    items: Mapping[str, ResolvedSpec], recipe: Recipe, info: BackboneInfo, protocol: Protocol
) -> tuple[str, ...]:
    """Return what differs, each as "kind spec" with the options that make it differ.

    Of the recipe every changed option counts but those that only change how sums are rounded, and those that a protocol
    of the same paper sets. Where the recipe is a paper's, the network with its preprocessing and the protocol with its
    views and pool must be that paper's too.
    """
    paper = recipe.faithful_to
    chosen = items["recipe"]
    theirs = paper and protocol.faithful_to == paper
    values, asked = chosen.terms[0].values, {**protocol.defaults, **protocol.faithful_options} if theirs else {}
    kept = [name for name in asked if name in values and values[name] == asked[name]]
    undone = [name for name in asked if name in values and values[name] != asked[name]]
    theirs_there = " and ".join(f"{name}={str(asked[name]).lower()}" for name in undone)
    counted = [name for name in (*chosen.terms[0].changed, *undone) if name not in (*ROUNDING_ONLY, *kept)]
    where = f", where the protocol's paper has {theirs_there}" if undone else ""
    found = [f"recipe {chosen.short}{where}"] if counted else []
    if paper:
        found += [f"backbone {items['backbone'].short}"] if info.faithful_to != paper else []
        found += [f"protocol {items['protocol'].short}"] if not theirs else []
    return tuple(found)
