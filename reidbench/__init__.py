"""reidbench: a plugin-based benchmark suite for metric-learning losses on person re-identification.

This module is the public API, and the one module that plugins import. ``__init__.pyi`` lists its names. Each is
imported on first use, so that ``reidbench --help`` and plugins without a network need no torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_STATEMENTS = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
_MODULES = {alias.name: node.module for node in _STATEMENTS if isinstance(node, ast.ImportFrom) for alias in node.names}
__all__ = sorted(_MODULES)  # noqa: PLE0605 - the stub lists the names


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'reidbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(str(_MODULES[name])), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
