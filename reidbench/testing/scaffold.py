"""A new plugin as a folder: a distribution that installs, passes the contract checks of its kind, and has a test."""

from __future__ import annotations

import importlib.resources
import importlib.util
import keyword
import string
from pathlib import Path

from reidbench.errors import DataError, OptionError, did_you_mean, quoted
from reidbench.plugins.spec import is_name

KINDS = ("loss", "backbone", "metric")


def write_plugin(name: str, kind: str, folder: Path) -> Path:
    """Write the distribution of a new plugin to ``folder / name`` and return that path.

    Raises OptionError for a kind without a template and for a name that cannot name both an item and a module,
    DataError where the folder exists or cannot be written.
    """
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS)
        raise OptionError(f"there is no template for a {quoted(kind)}{near}; there are: {', '.join(KINDS)}")
    _check_name(name)
    target = folder / name
    if target.exists() or target.is_symlink():
        raise DataError(f"{target}: already exists; choose another name, or another folder with --folder")
    words = {
        "name": name,
        "kind": kind,
        "Kind": kind.capitalize(),
        "Class": "".join(word[:1].upper() + word[1:] for word in name.split("_")),
        "flags": f"--{kind} {name}" if kind == "loss" else f"--{kind} {name} --loss none",
        "distribution": name.strip("_").lower().replace("_", "-"),
    }
    files = {"pyproject.toml": "pyproject.toml", "README.md": "README.md"}
    files |= {f"{name}.py": kind, f"tests/test_{name}.py": "test"}
    templates = importlib.resources.files("reidbench.testing").joinpath("templates")
    try:
        for file, template in files.items():
            path = target / file
            path.parent.mkdir(parents=True, exist_ok=True)
            text = templates.joinpath(f"{template}.txt").read_text(encoding="utf-8")
            path.write_text(string.Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from None
    return target


def _check_name(name: str) -> None:
    """Raise OptionError for what cannot name an item, a module and a distribution."""
    if not is_name(name) or "/" in name or keyword.iskeyword(name) or name.endswith("_"):
        expected = "a letter, then letters, digits and _, not ending with _, and no keyword of Python"
        raise OptionError(f"{quoted(name)} cannot name a plugin; expected {expected}")
    if importlib.util.find_spec(name) is not None:
        raise OptionError(f"there is a module {quoted(name)}, which this one would hide; choose another name")
