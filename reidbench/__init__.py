"""reidbench: a plugin-based benchmark suite for metric-learning losses on person re-identification.

This module is the public API, and the one module that plugins import. ``__init__.pyi`` lists its names. Each is
imported on first use, so that ``reidbench --help`` and plugins without a network need no torch.
"""

from __future__ import annotations

__version__ = "0.1.0"

_MODULES: dict[str, str] = {}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(public_modules())
    if name not in public_modules():
        raise AttributeError(f"module 'reidbench' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    value = getattr(importlib.import_module(public_modules()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *public_modules()]


def public_modules() -> dict[str, str]:
    """Return the module that defines each public name, read at first use: a command's start imports next to nothing."""
    if not _MODULES:
        import ast  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        statements = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
        imports = [node for node in statements if isinstance(node, ast.ImportFrom)]
        _MODULES.update({alias.name: str(node.module) for node in imports for alias in node.names})
    return _MODULES
