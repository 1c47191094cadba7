"""The error for a tracker whose library, an extra of reidbench, is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from reidbench import OptionError


def require(library: str) -> None:
    """Raise OptionError with what to install where a library, which has the name of its extra, is not here."""
    if find_spec(library) is None:
        raise OptionError(f"{library} is not installed: python -m pip install 'reidbench[{library}]'")
