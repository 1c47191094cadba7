"""Rewrite the signature table of ``pml/...`` and the tables of its page for the installed version of the library.

``python -m reidbench_losses.pml_signatures`` in a checkout, after an upgrade. Only the tests import this module.
"""

import inspect
import json
import re
import warnings
from importlib import metadata
from pathlib import Path

import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from reidbench_losses.pml import DISTRIBUTION, SIZES, TABLE

PAGE = Path(__file__).parents[2] / "docs" / "losses" / "pml.md"
RANKED = {"margin": 0.4, "Tn": 2}  # RankedListLoss gives these no default
DISTANCE_OPTIONS = ("normalize_embeddings", "p", "power")
SIZE = {"num_classes": 9, "embedding_size": 6, "descriptors_dim": 6}


def not_available() -> set[str]:
    """Return the exported losses and miners that have no item: the names in the last table of the page, with reasons.

    Exits where there is no page.
    """
    if not PAGE.exists():
        raise SystemExit(f"{PAGE} does not exist: run this in a checkout of reidbench, installed with pip install -e")
    return set(re.findall(r"^\| `(\w+)` ", PAGE.read_text(encoding="utf-8").partition("| not available |")[2], re.M))


def classes(package) -> dict[str, type]:
    """Return the classes that a package of the library exports, by name."""
    return {name: kind for name, kind in sorted(vars(package).items()) if inspect.isclass(kind)}


def installed_signatures():
    """Return the signature table of the installed library, found by building and calling its classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "distances": {name: fixed_options(kind) for name, kind in offered(distances, "BatchedDistance")},
            "reducers": [name for name, kind in offered(reducers, "DoNothingReducer") if takes_no_arguments(kind)],
            "miners": {name: options_of(kind, miners.BaseMiner) for name, kind in offered(miners)},
            "losses": {name: loss_signature(kind) for name, kind in offered(losses)},
        }


def offered(package, *others):
    excluded = {*not_available(), *others}
    for name, kind in classes(package).items():
        if not name.startswith("Base") and name not in excluded:
            yield name, kind


def parameters_of(kind: type, stop: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor and of those it inherits below ``stop``, without those of mixins."""
    found: dict[str, inspect.Parameter] = {}
    for owner in kind.__mro__[: kind.__mro__.index(stop)]:
        if "__init__" in vars(owner) and not owner.__name__.endswith("Mixin"):
            own = list(inspect.signature(owner.__init__).parameters.values())[1:]
            for parameter in own:
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    found.setdefault(parameter.name, parameter)
            if all(parameter.kind != parameter.VAR_KEYWORD for parameter in own):
                break
    return found


def options_of(kind, stop):
    """Return {option: [type, default]}, or [type] where there is no default; not those that a subclass fixes."""
    options = {}
    for name, parameter in parameters_of(kind, stop).items():
        required = parameter.default is inspect.Parameter.empty
        if callable(parameter.default) and not required:
            continue
        if name in SIZES:
            if parameter.default is None:
                options[name] = ["train or none", None]
        elif accepts(kind, name, None if required else parameter.default):
            options[name] = [type_of(parameter)] + ([] if required else [parameter.default])
    return options


def accepts(kind: type, name: str, value) -> bool:
    """Return whether a constructor takes an argument, which a subclass may have fixed."""
    try:
        make(kind, **{name: value})
    except TypeError as error:
        return "multiple values" not in str(error)
    except Exception:  # it takes the argument, and refuses this value
        return True
    return True


def make(kind: type, **changes):
    """Return an object of a class of the library; a loss gets the sizes and values that it requires."""
    torch.manual_seed(0)
    sizes = {name: SIZE[name] for name, p in parameters_of(kind, object).items() if name in SIZES and p.default}
    required = RANKED if kind is losses.RankedListLoss else {}
    return kind(**{**sizes, **required, **changes})


def type_of(parameter: inspect.Parameter) -> str:
    """Return the name of an option's type: as annotated, else any number or text that could replace the default."""
    plain = {int: "whole number", float: "float"}.get(parameter.annotation)
    if isinstance(parameter.default, bool):
        return "true or false"
    if isinstance(parameter.default, str):
        return "whole number or text"
    if parameter.default in (None, inspect.Parameter.empty):
        return f"{plain} or none" if plain else "numbers or none"
    assert not plain, "an annotated number with a default would need a type of its own"
    return "number"


def takes_no_arguments(kind: type) -> bool:
    own = list(inspect.signature(kind.__init__).parameters.values())[1:] if "__init__" in vars(kind) else []
    return all(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in own)


def fixed_options(kind):
    """Return the values of the options of every distance that this class fixes."""
    distance = kind()
    values = {name: getattr(distance, name) for name in DISTANCE_OPTIONS}
    return {name: value for name, value in values.items() if not accepts(kind, name, value)}


def loss_signature(kind):
    """Return a loss's options, the sizes that it needs, its default distance and reducer, and whether it takes a miner.

    A distance or reducer that no forward pass uses is null.
    """
    loss = make(kind)
    needs = [name for name in parameters_of(kind, losses.BaseMetricLossFunction) if name in SIZES]
    distance = None
    if fails(kind, AttributeError, "distance", lambda loss: delattr(loss, "distance")):
        distance = {"distance": type(loss.distance).__name__}
        distance |= {name: getattr(loss.distance, name) for name in DISTANCE_OPTIONS}
    loss.reducer = reducers.DoNothingReducer()
    kinds = {part["reduction_type"] for part in loss(*batch()).values()}
    reducer = None if kinds == {"already_reduced"} else type(loss.get_default_reducer()).__name__
    return {
        "options": options_of(kind, losses.BaseMetricLossFunction),
        "needs": needs,
        "distance": distance,
        "miner": not fails(kind, ValueError, "indices_tuple is not supported", mined=True),
        "reducer": reducer,
    }


def fails(kind, error, said, change=id, mined=False):
    """Return whether a forward pass of a changed loss, or one with mined pairs, raises this error."""
    loss, (rows, labels) = make(kind), batch()
    change(loss)
    try:
        loss(rows, labels, miners.PairMarginMiner()(rows, labels) if mined else None)
    except error as caught:
        return said in str(caught)
    return False


def batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings [16, 6] around a common centre, since some losses refuse near-maximal distances, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randperm(9, generator=generator)[:4].repeat_interleave(4)
    return torch.randn(16, 6, generator=generator, dtype=dtype) / 2 + 1, labels


def page_tables(table):
    """Return the tables of losses and miners of the page in Markdown."""
    lines = ["| loss | its own options | distance | reducer | miner |", "|---|---|---|---|---|"]
    for name, entry in table["losses"].items():
        distance = dict(entry["distance"] or {})
        distance_spec = f"{distance.pop('distance')}({spec_of(distance)})" if distance else None
        cells = map(code, (name, spec_of(defaults(entry["options"])), distance_spec, entry["reducer"]))
        lines.append(f"| {' | '.join(cells)} | {'yes' if entry['miner'] else 'no'} |")
    lines += ["", "| miner | its options |", "|---|---|"]
    lines += [f"| {code(name)} | {code(spec_of(defaults(options)))} |" for name, options in table["miners"].items()]
    return "\n".join(lines) + "\n"


def defaults(options):
    return {name: default[0] if default else "?" for name, (_, *default) in options.items()}


def spec_of(options):
    """Return options as they are written in a spec: ``p=2, swap=false``."""
    pairs = ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items())
    return pairs.replace('"', "").replace("null", "none")


def code(text):
    return f"`{text}`" if text else "none"


def main() -> None:
    table = installed_signatures()
    groups = []
    for group, entries in table.items():
        if isinstance(entries, dict):
            lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
            groups.append(f'"{group}": {{\n' + ",\n".join(lines) + "\n}")
        else:
            groups.append(f'"{group}": {json.dumps(entries)}')
    TABLE.write_text("{\n" + ",\n".join(groups) + "\n}\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.partition("| loss |")[0], page.partition("\n| not available |")
    head = re.sub(r"version [\d.]+\d", f"version {metadata.version(DISTRIBUTION)}", head)
    PAGE.write_text(head + page_tables(table) + "".join(rest[1:]), encoding="utf-8")


if __name__ == "__main__":
    main()
