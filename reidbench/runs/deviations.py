"""What of a run differs from the paper that its recipe names, or from the recipe's defaults where it names none."""

from __future__ import annotations

from collections.abc import Mapping

from reidbench.data.protocol import Protocol
from reidbench.plugins.catalogue import ResolvedSpec
from reidbench.plugins.interfaces import BackboneInfo
from reidbench.training.recipe import ROUNDING_ONLY, Recipe


def deviations(
    items: Mapping[str, ResolvedSpec], recipe: Recipe, info: BackboneInfo, protocol: Protocol
) -> tuple[str, ...]:
    """Return the items that differ, each as "kind spec" with only the changed options.

    Every changed option of the recipe counts, except those that only change rounding and those that a protocol of the
    same paper sets. Where the recipe is a paper's, the network with its preprocessing and the protocol with its views
    and pool must be that paper's too, and the network one that the paper uses with that protocol.
    """
    paper, spec = recipe.faithful_to, items["recipe"]
    same_paper = bool(paper) and protocol.faithful_to == paper
    values = spec.terms[0].values
    settings = {**protocol.defaults, **protocol.faithful_options} if same_paper else {}
    expected = {name: value for name, value in settings.items() if name in values}
    violated = [name for name in expected if values[name] != expected[name]]
    ignored = {*ROUNDING_ONLY, *(name for name in expected if name not in violated)}
    differences = []
    if any(name not in ignored for name in (*spec.terms[0].changed, *violated)):
        in_paper = " and ".join(f"{name}={str(expected[name]).lower()}" for name in violated)
        differences.append(
            f"recipe {spec.short}" + (f", where the protocol's paper has {in_paper}" if in_paper else "")
        )
    backbone, backbones = items["backbone"].short, protocol.faithful_backbones if same_paper else ()
    if paper and (info.faithful_to != paper or (backbones and backbone not in backbones)):
        differences.append(f"backbone {backbone}")
    if paper and not same_paper:
        differences.append(f"protocol {items['protocol'].short}")
    return tuple(differences)
