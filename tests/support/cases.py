"""Tables of cases, as TOML beside the module that uses them."""

import tomllib
from pathlib import Path


def cases(module: str, name: str):
    """Return one entry of ``x.toml`` for the module ``x.py``, whose ``__file__`` is given."""
    return tomllib.loads(Path(module).with_suffix(".toml").read_text(encoding="utf-8"))[name]
