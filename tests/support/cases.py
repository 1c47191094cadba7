"""Tables of cases for ``pytest.mark.parametrize``, as TOML beside the module that uses them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def cases(module: str, name: str) -> list[Any]:
    """Return one table of ``test_x.toml`` for the module ``test_x.py``, whose ``__file__`` is given."""
    return tomllib.loads(Path(module).with_suffix(".toml").read_text(encoding="utf-8"))[name]  # type: ignore[no-any-return]
