"""A search: the protocol that it is scored on, what it searches for one loss, and its trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import qmc

from reidbench.data.protocol import VALIDATION_SUFFIX
from reidbench.data.split import SHARED_IMAGES, Split
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import Catalogue, part_names
from reidbench.plugins.options import Searched
from reidbench.plugins.spec import Item, Spec, Term, write_value
from reidbench.runs.job import Memo, ResolvedJob
from reidbench.training.build import build_recipe, describe_backbone
from reidbench.utils.random_streams import stream_key

SEED = "holdout_seed"
FIRST_SEED = 10_000  # of trials; the final seeds are below
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
    ``searched``: its values.
    """

    name: str
    term: int | None
    option: str
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
        info = (memo or Memo())(describe_backbone, resolved.items["backbone"])
        rate = build_recipe(recipe, info).learning_rate
        rates.append(Dimension(RATE, None, RATE, around(rate)))
    names = part_names([term.item.name for term in loss.terms])
    for place, (name, term) in enumerate(zip(names, loss.terms, strict=True)):
        if place and term.weight > 0:
            weights.append(Dimension(f"weight of {name}", place, "", around(term.weight)))
        prefix = f"{name}." if len(names) > 1 else ""
        declared = {option: each.searched for option, each in term.item.options.items() if each.searched}
        given = [option for option in declared if term.origins[option] == "given"]
        open_ones = {option: searched for option, searched in declared.items() if option not in given}
        options += [Dimension(f"{prefix}{option}", place, option, each) for option, each in open_ones.items()]
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


def trial(space: SearchSpace, study_seed: int, search: int, number: int) -> tuple[str, str]:
    """Return the specs of loss and recipe of a trial; number 1 is the options as given."""
    if number == 1 or not space.dimensions:
        return str(space.loss), str(space.recipe)
    values = trial_values(space, study_seed, search, number)
    terms: dict[int | None, Term] = {None: space.recipe.terms[0], **dict(enumerate(space.loss.terms))}
    for dimension in space.dimensions:
        term, value = terms[dimension.term], values[dimension.name]
        item = Item(term.item.name, (*term.item.options, (dimension.option, value)))
        terms[dimension.term] = replace(term, item=item) if dimension.option else replace(term, weight=value)
    recipe = terms.pop(None)
    return str(Spec(tuple(terms.values()))), str(Spec((recipe,)))


def trial_values(space: SearchSpace, study_seed: int, search: int, number: int) -> dict[str, Any]:
    """Return the searched values of a trial from number 2 on, by the names of the dimensions.

    Trial i is point i - 2 of a Sobol sequence that is scrambled by the random stream of (study seed, search, loss), so
    that it depends neither on the other trials nor on their number.
    """
    sobol = qmc.Sobol(len(space.dimensions), rng=stream_key(study_seed, "search", search, space.stream))
    index = number - 2
    pairs = zip(space.dimensions, sobol.random_base2(index.bit_length())[index], strict=True)
    return {dimension.name: value_at(dimension.searched, float(share)) for dimension, share in pairs}


def value_at(searched: Searched, share: float) -> Any:
    """Return the value at a share from 0 to below 1 of what is searched, rounded to three significant digits.

    Choices are equally likely; so are the whole numbers of a range whose limits are whole, unless it is a log range.
    """
    if searched.choices:
        return searched.choices[int(share * len(searched.choices))]
    low, high = searched.low, searched.high
    assert low is not None
    assert high is not None
    whole = type(low) is type(high) is int
    first, last = low - 0.5 * whole, high + 0.5 * whole
    value = first * (last / first) ** share if searched.log else first + share * (last - first)
    return min(max(round(value) if whole else rounded(value), low), high)


def trial_seed(study_seed: int, search: int) -> int:
    """Return the seed of the trainings of a search's trials: the same for all losses, and never that of a final run.

    All trials of a search share it, so that their options are compared under the same initial weights and batches.
    """
    return FIRST_SEED * (1 + study_seed) + search


def validation_protocol(protocol: str, search: int, catalogue: Catalogue) -> str:
    """Return the spec of a protocol's variant with held-out training identities: NAME_val with ``holdout_seed=search``.

    It gets the options that are given, and those whose defaults differ between the two. Raises OptionError where there
    is no such protocol, or it lacks one of the given options or ``holdout_seed``.
    """
    resolved = catalogue.resolve("protocol", protocol)
    (term,) = resolved.terms
    name = term.item.name + VALIDATION_SUFFIX
    by_name = {item.name: item for item in catalogue.list_items("protocol")}
    advice = "or compare the options as given, without a search: --trials 0"
    if name not in by_name:
        with_one = [each for each in by_name if each + VALIDATION_SUFFIX in by_name]
        raise OptionError(
            f"{resolved.owner}: a search needs a protocol {name} that holds out training identities, and there is "
            f"none; choose one of {', '.join(with_one)}, {advice}"
        )
    options = by_name[name].options
    given = dict(Spec.parse(protocol).item.options)
    if lacking := [option for option in (*given, SEED) if option not in options]:
        raise OptionError(
            f"{by_name[name]}: a search needs its option{'s' * (len(lacking) > 1)} {', '.join(lacking)}, and it has "
            f"only {', '.join(options)}; add what is missing to that plugin, {advice}"
        )
    differing = {
        option: value.default
        for option, value in term.item.options.items()
        if option in options and write_value(options[option].default) != write_value(value.default)
    }
    return str(Item(name, tuple({**differing, **given, SEED: search}.items())))


def check_validation(validation: Split, test: Split, protocol: str) -> None:
    """Raise DataError where the data of a search hold an image or an identity of the test's queries or gallery.

    ``protocol`` names the validation protocol. Junk and distractors do not count.
    """
    for part in (validation.train, validation.query, validation.gallery):
        identified = part.take((part.pids > 0).nonzero()[0])
        for kind, names in Split(identified, test.query, test.gallery).contradictions.items():
            what = "images" if kind == SHARED_IMAGES else "identities"
            raise DataError(
                f"{protocol}: {len(names)} of its {what} are in the test, which no search may see: "
                f"{', '.join(names[:3])}{', …' * (len(names) > 3)}; hold out training identities only"
            )
