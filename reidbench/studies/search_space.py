"""What a study searches for one loss: the learning rate, the options that the loss declares, the weights of a sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reidbench.plugins.catalogue import part_names
from reidbench.plugins.options import Searched
from reidbench.plugins.spec import Item, Spec, Term
from reidbench.runs.job import Memo, ResolvedJob
from reidbench.training.build import build_recipe, describe_backbone

RATE = "learning_rate"
# The learning rate and the weights of a sum are searched from a tenth to ten times their default, on a log scale.
# Published rates of Adam for this task, 3e-4 to 1e-3, all lie within a tenth to ten times any of them, and one factor
# for all gives a loss whose gradients are larger or smaller than batch hard's the same room on both sides.
FACTOR = 10.0
# Two terms with three options each, their relative weight and the rate. Every loss has the same number of trials, so a
# longer sum would only be searched more thinly.
MOST_DIMENSIONS = 8
DIGITS = 3  # significant, of every value that is written


@dataclass(frozen=True)
class Dimension:
    """One value that is searched.

    ``name``: "learning_rate", an option's name (in a sum "item.option"), or "weight of ITEM".
    ``term``: the place of its term in the loss; None for an option of the recipe.
    ``option``: the name of the option; empty for the weight of the term.
    ``default``: its value in the first trial.
    ``searched``: its values.
    """

    name: str
    term: int | None
    option: str
    default: Any
    searched: Searched


@dataclass(frozen=True)
class SearchSpace:
    """What is searched for one loss under one recipe.

    ``loss``, ``recipe``: the specs as given, whose values are those of the first trial.
    ``stream``: the loss with the options that differ from their defaults; it names the random stream of the points.
    ``dimensions``: what is searched; none for the untrained network.
    ``notes``: sentences for the loss's row: what is not searched, and why.
    """

    loss: Spec
    recipe: Spec
    stream: str
    dimensions: tuple[Dimension, ...]
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The ranges, one a line: "margin: 0.05 to 1 (log)"."""
        return "\n".join(f"{dimension.name}: {dimension.searched}" for dimension in self.dimensions)


def search_space(resolved: ResolvedJob, memo: Memo | None = None) -> SearchSpace:
    """Return what is searched for a job's loss: the learning rate, then a sum's weights, then the terms' options.

    The range of the rate lies around the rate that the recipe has for the job's network. What the loss or the recipe
    gives is not searched, nor is the weight of a sum's first term: only the ratios of weights matter to Adam. Jobs with
    one ``memo`` describe each network once. Raises PluginError where network or recipe cannot be built.
    """
    loss, recipe = resolved.items["loss"], resolved.items["recipe"]
    specs = Spec.parse(loss.given), Spec.parse(recipe.given)
    if not loss.terms:
        return SearchSpace(*specs, loss.short, (), ())
    notes: list[str] = []
    rates, weights, options = [], [], []
    if recipe.origins.get(RATE, "given") == "given":
        reason = "gives it" if RATE in recipe.origins else f"has no option {RATE}"
        notes.append(f"the learning rate is not searched: {specs[1]} {reason}")
    else:
        backbone = resolved.items["backbone"]
        info = (memo or Memo())(describe_backbone, backbone)
        rate = build_recipe(recipe, info).learning_rate
        rates.append(Dimension(RATE, None, RATE, rate, around(rate)))
    names = part_names([term.item.name for term in loss.terms])
    for place, (name, term) in enumerate(zip(names, loss.terms, strict=True)):
        if place and term.weight > 0:
            weights.append(Dimension(f"weight of {name}", place, "", term.weight, around(term.weight)))
        prefix = f"{name}." if len(names) > 1 else ""
        declared = {option: each.searched for option, each in term.item.options.items() if each.searched}
        given = [option for option in declared if term.origins[option] == "given"]
        options += [
            Dimension(f"{prefix}{option}", place, option, term.values[option], searched)
            for option, searched in declared.items()
            if option not in given
        ]
        notes += [f"not searched, since given: {prefix}{option}" for option in given]
        if not declared:
            notes.append(f"{name} declares no option to search")
    dimensions = [*rates, *weights, *options]
    if len(dimensions) > MOST_DIMENSIONS:
        names = [dimension.name for dimension in dimensions[MOST_DIMENSIONS:]]
        notes.append(f"at most {MOST_DIMENSIONS} values are searched, so these are not: {', '.join(names)}")
    if not dimensions:
        notes.append("nothing is searched: every trial has the options as given")
    return SearchSpace(*specs, loss.short, tuple(dimensions[:MOST_DIMENSIONS]), tuple(notes))


def around(value: float) -> Searched:
    """Return the range from a tenth to ten times a positive value, on a log scale."""
    return Searched(rounded(value / FACTOR), rounded(value * FACTOR), log=True)


def rounded(value: float) -> float:
    """Return a value with as many significant digits as specs of trials have."""
    return float(f"{value:.{DIGITS}g}")


def with_values(space: SearchSpace, values: dict[str, Any]) -> tuple[str, str]:
    """Return the specs of loss and recipe with these values of the space's dimensions, by their names."""
    terms: dict[int | None, Term] = {None: space.recipe.terms[0], **dict(enumerate(space.loss.terms))}
    for dimension in space.dimensions:
        term, value = terms[dimension.term], values[dimension.name]
        item = Item(term.item.name, (*term.item.options, (dimension.option, value)))
        terms[dimension.term] = replace(term, item=item) if dimension.option else replace(term, weight=value)
    recipe = terms.pop(None)
    return str(Spec(tuple(terms.values()))), str(Spec((recipe,)))
