"""The protocol that a search is scored on: training identities held out, never an identity of the test."""

from __future__ import annotations

from reidbench.data.split import SHARED_IMAGES, Split
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.spec import Item, Spec, write_value

SUFFIX, SEED = "_val", "holdout_seed"


def validation_protocol(protocol: str, search: int, catalogue: Catalogue) -> str:
    """Return the spec of a protocol's variant with held-out training identities: NAME_val with ``holdout_seed=search``.

    It gets the options that are given, and those whose defaults differ between the two. Raises OptionError where there
    is no such protocol, or it lacks one of the given options or ``holdout_seed``.
    """
    resolved = catalogue.resolve("protocol", protocol)
    (term,) = resolved.terms
    name = term.item.name + SUFFIX
    by_name = {item.name: item for item in catalogue.list_items("protocol")}
    advice = "or compare the options as given, without a search: --trials 0"
    if name not in by_name:
        with_one = [each for each in by_name if each + SUFFIX in by_name]
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
