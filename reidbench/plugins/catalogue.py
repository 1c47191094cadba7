"""The catalogue of installed items, and the way from the text of a spec to an item that is checked and built."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reidbench.errors import OptionError, PluginError, did_you_mean, plugin_call, quoted
from reidbench.plugins.discovery import KINDS, SUPPLIED, Plugin, PluginItem, discover
from reidbench.plugins.options import File, check_options, options_of
from reidbench.plugins.spec import EMBEDDING, MAX_TEXT, Item, Spec, Term, write_value

if TYPE_CHECKING:
    from reidbench.plugins.interfaces import TrainInfo

FEATURE = "feature"  # an option of every loss; where it is left out, no text mentions it

# Kinds that a run can do without: no loss is the untrained network, no re-ranker the plain ranking.
OPTIONAL = ("loss", "reranker")

NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ResolvedTerm:
    """One term of a spec with every option resolved.

    ``item``: the plugin item.
    ``weight``: its weight in a sum of losses, 1 for other kinds.
    ``values``: the value of each option, in the order of the signature.
    ``origins``: where each value came from: "given", "protocol" or "default".
    """

    item: PluginItem
    weight: float
    values: dict[str, Any]
    origins: dict[str, str]

    @property
    def changed(self) -> dict[str, Any]:
        """The values of the options that differ from the item's defaults."""
        defaults = {name: write_value(option.default) for name, option in self.item.options.items()}
        return {name: value for name, value in self.values.items() if write_value(value) != defaults[name]}

    @property
    def in_ids(self) -> dict[str, Any]:
        """The values that enter ids."""
        changed, options = self.changed, self.item.options
        in_ids = [n for n, option in options.items() if not option.is_label and (option.in_ids or n in changed)]
        return {name: self.values[name] for name in in_ids}

    @property
    def label(self) -> str:
        """The value of its LabelOption; an empty text where it has none."""
        return next((str(value) for name, value in self.values.items() if self.item.options[name].is_label), "")

    @property
    def feature(self) -> str:
        """The training feature of the network that a loss reads."""
        return str(self.values.get(FEATURE, EMBEDDING)) if self.item.kind == "loss" else EMBEDDING

    def build(self, *supplied: Any) -> Any:
        """Return what the factory builds; raises PluginError from any exception that is no error of reidbench.

        Raises OptionError for a feature that the network lacks.
        """
        values = {name: self.values[name] for name in self.values if name != FEATURE or self.item.kind != "loss"}
        if self.feature != EMBEDDING:
            supplied = (self._info(*supplied),)
        try:
            with plugin_call(str(self.item), "could not be built"):
                value = self.item.factory(*supplied, **values)
            if hasattr(type(value), "plugin_item"):
                value.plugin_item = str(self.item)
            return value
        except (OptionError, PluginError) as error:
            if self.item.name in str(error):
                raise
            raise type(error)(f"{self.item}: {error}") from error

    def _info(self, info: TrainInfo) -> TrainInfo:
        """Return what the loss is told, whose embeddings are the feature that it reads."""
        if self.feature not in info.feature_sizes:
            has = ", ".join(info.feature_sizes) or EMBEDDING
            raise OptionError(f"{self.item}: {info.network} has no {FEATURE} {quoted(self.feature)}; it has {has}")
        return replace(info, embedding_dim=info.feature_sizes[self.feature])


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec with every option resolved and checked, not built yet: one item, a sum of losses, or none.

    ``kind``: the kind of its items.
    ``given``: the text as it was given.
    ``text``: the text with every option, in the order of the signature; it is stored, shown and can be pasted back.
    ``identity``: what enters ids: as ``text``, but each file as its sha256.
    ``short``: the text with only the options that differ from the item's defaults, and of files the name; for tables.
    ``origins``: where the value of each option came from, by its name (in a sum "item.option").
    ``terms``: the terms of the sum, one for a single item, none for ``none``.
    """

    kind: str
    given: str
    text: str
    identity: str
    short: str
    origins: dict[str, str]
    terms: tuple[ResolvedTerm, ...]

    @property
    def plugin_items(self) -> tuple[PluginItem, ...]:
        """The plugin items of all terms, in the order of the spec."""
        return tuple(term.item for term in self.terms)

    @property
    def owner(self) -> str:
        """The items with their plugins, for messages."""
        return " + ".join(map(str, self.plugin_items))

    @property
    def label(self) -> str:
        """The name of the item for people, which enters no id, such as that of own data; empty where it has none."""
        return "+".join(filter(None, (term.label for term in self.terms)))

    def build(self, *supplied: Any) -> Any:
        """Return the built item, None for none; a WeightedSum for a sum, a weight or another training feature.

        ``supplied`` are the positional arguments that ``SUPPLIED`` names for the kind. Raises PluginError, naming item
        and plugin, where a factory fails with an exception that is no error of reidbench.
        """
        expected = SUPPLIED.get(self.kind, ())
        if len(supplied) != len(expected):
            raise OptionError(f"a {self.kind} is built from ({', '.join(expected)}), got {len(supplied)} arguments")
        features = [term.feature for term in self.terms]
        if features == [EMBEDDING] and self.terms[0].weight == 1:
            return self.terms[0].build(*supplied)
        if not self.terms:
            return None
        from reidbench.plugins.weighted_sum import WeightedSum  # noqa: PLC0415 - imports torch, which a list of plugins must not

        names = part_names([term.item.name for term in self.terms])
        terms = [(name, term.weight, term.build(*supplied)) for name, term in zip(names, self.terms, strict=True)]
        return WeightedSum(terms, features, *supplied)


@dataclass(frozen=True)
class Catalogue:
    """All plugins and their items.

    ``plugins``: every plugin, loaded or failed.
    ``items``: the items of those that loaded.
    """

    plugins: tuple[Plugin, ...]
    items: tuple[PluginItem, ...]

    def list_items(self, kind: str | None = None) -> list[PluginItem]:
        """Return the items of one kind, or all, sorted by kind and name."""
        items = [item for item in self.items if kind in (None, item.kind)]
        return sorted(items, key=lambda item: (KINDS.index(item.kind), item.name))

    def find(self, kind: str, name: str) -> PluginItem:
        """Return one item; raises OptionError, as ``find_all``, where there is none of that kind and name."""
        if kind not in KINDS:
            raise OptionError(f"there is no kind {quoted(kind)}{did_you_mean(kind, KINDS)}; kinds: {', '.join(KINDS)}")
        return self.find_all(name, kind)[0]

    def find_all(self, name: str, kind: str | None = None) -> list[PluginItem]:
        """Return the items of a name, of one kind or of all.

        Raises OptionError, with the nearest names and the plugins that failed, where there is none of that name.
        """
        items = self.list_items(kind)
        if matches := [item for item in items if item.name == name]:
            return matches
        names = list(dict.fromkeys(item.name for item in items))
        listed = f"; there are: {', '.join(names)}" if names else f"; no plugin provides a {kind}"
        spelled = "".join(item.factory.suggest(name) for item in items if hasattr(item.factory, "suggest"))
        near = spelled or did_you_mean(name, names) or (listed if kind else "; list them: reidbench plugins")
        failed = [f"{plugin.name} ({plugin.distribution})" for plugin in self.plugins if plugin.state == "failed"]
        lost = f"; failed to load: {', '.join(failed)}; see why: reidbench plugins" if failed else ""
        raise OptionError(f"there is no {kind or 'item'} {quoted(name)}{near}{lost}")

    def resolve(self, kind: str, text: str, defaults: Mapping[str, Any] = NO_DEFAULTS) -> ResolvedSpec:
        """Return a spec with every option resolved; ``defaults`` are a protocol's, for options of that name.

        Raises OptionError with all mistakes, one a line, where the text cannot be read, a name or an option is not
        known, or a value does not fit.
        """
        if text not in ("none", "") and not set(text) & set('()+*="[], \t'):  # one word, perhaps a mistyped name
            self.find(kind, text)
        spec = Spec.parse(text, where=kind)
        if not spec.terms and kind not in OPTIONAL:
            raise OptionError(f"{kind}: none is only for a {' or a '.join(OPTIONAL)}; name a {kind}")
        if kind != "loss" and spec.terms and (len(spec.terms) > 1 or spec.terms[0].weight != 1):
            raise OptionError(f"{kind}: expected a single item, got {str(spec)!r}; only losses are added and weighted")
        terms: list[ResolvedTerm] = []
        mistakes: list[str] = []
        for term in spec.terms:
            try:
                if term.weight == 0:
                    raise OptionError(f"{kind} {term.item}: a weight of 0 trains nothing; leave the term out")
                item = self.find(kind, term.item.name)
                values, origins = check_options(item.options, term.item, str(item), defaults)
                if kind == "loss" and origins[FEATURE] == "default":
                    del values[FEATURE], origins[FEATURE]
                terms.append(ResolvedTerm(item, term.weight, _with_label(item, values), origins))
            except OptionError as error:
                mistakes.append(str(error))
        if mistakes:
            raise OptionError("\n".join(mistakes))
        names = part_names([term.item.name for term in terms])
        full_text = _write(terms, lambda term: term.values)
        if len(full_text) > MAX_TEXT:
            raise OptionError(f"{kind}: has {len(full_text)} characters with every option, at most {MAX_TEXT} are read")
        return ResolvedSpec(
            kind=kind,
            given=text,
            text=full_text,
            identity=_write(terms, lambda term: _replace_files(term.in_ids, lambda file: f"sha256:{file.sha256}")),
            short=_write(terms, lambda term: _replace_files(term.changed, lambda file: file.name)),
            origins={
                f"{name}.{option}" if len(terms) > 1 else option: origin
                for name, term in zip(names, terms, strict=True)
                for option, origin in term.origins.items()
            },
            terms=tuple(terms),
        )


def part_names(names: Sequence[str]) -> list[str]:
    """Return a name for each term of a sum; the second ``a`` of one sum is ``a:2``, which can be no item's name."""
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}:{count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def build(kind: str, spec: str, *supplied: Any) -> Any:
    """Return the item that ``spec`` writes, such as ``build("loss", "NAME(margin=0.2)", info)``.

    ``supplied`` are the positional arguments of the kind's factories: a ``TrainInfo`` for a loss, the data folder for a
    dataset, a folder to write for a synthesizer, a ``BackboneInfo`` for a recipe, nothing for the others. Raises
    OptionError or PluginError.
    """
    return load().resolve(kind, spec).build(*supplied)


def choose(text: str, factories: Mapping[str, Callable[..., Any]], what: str, *supplied: Any) -> Any:
    """Return what one of ``factories`` builds from ``text``, an item's name and options; for options that are items.

    ``what`` names the kind of item in errors; ``supplied`` are the factories' positional arguments. Raises OptionError
    where the text cannot be read, no factory has that name, or its options do not fit.
    """
    item = Spec.parse(text, where=what).item
    if item.name not in factories:
        near = did_you_mean(item.name, factories) or f"; there are: {', '.join(factories)}"
        raise OptionError(f"there is no {what} {quoted(item.name)}{near}")
    factory = factories[item.name]
    values, _ = check_options(options_of(factory), item, f"{what} {item.name}", {})
    return factory(*supplied, **values)


def command_defaults() -> dict[str, Any]:
    """Return the defaults of the command line, key by key as in ``defaults.toml``."""
    text = importlib.resources.files("reidbench").joinpath("defaults.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@functools.cache
def load() -> Catalogue:
    """Return the catalogue of all installed plugins, loaded once per process; a failed plugin is listed with its error.

    ``REIDBENCH_LOAD_PLUGINS`` limits it to some distributions or entry points ("a,b"), or to none ("").
    Raises OptionError where that names something that is not installed.
    """
    return Catalogue(*discover())


def _with_label(item: PluginItem, values: dict[str, Any]) -> dict[str, Any]:
    """Return option values with an empty label replaced by the name of the folder that holds the first file."""
    file = next((value for value in values.values() if isinstance(value, File)), None)
    folder = file.parent.resolve().name if file else ""
    return {name: value or folder if item.options[name].is_label else value for name, value in values.items()}


def _write(terms: Iterable[ResolvedTerm], options: Callable[[ResolvedTerm], dict[str, Any]]) -> str:
    """Return the text of terms, each with these ``options`` of it."""
    items = ((term.weight, Item(term.item.name, tuple(options(term).items()))) for term in terms)
    return str(Spec(tuple(Term(*weighted) for weighted in items)))


def _replace_files(values: dict[str, Any], replacement: Callable[[File], str]) -> dict[str, Any]:
    """Return option values with each file, also inside tuples, replaced."""

    def replace(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(replace, value))
        return replacement(value) if isinstance(value, File) else value

    return {name: replace(value) for name, value in values.items()}
