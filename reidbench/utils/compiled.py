"""Compiled loops, kept between processes in a private folder."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from reidbench.errors import OptionError
from reidbench.utils.machine import default_cache

numba: Any
try:
    numba = importlib.import_module("numba")
except (ImportError, OSError) as reason:  # no build for this machine, or one that refuses this numpy
    numba = None
    _MISSING = f"numba cannot be imported ({str(reason).strip().splitlines()[0]})"

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop over arrays on first use: plain IEEE arithmetic in order, no fused operations, no global lock.

    The machine code is kept below the cache folder, readable by its owner alone, since numba's files are pickles. Its
    folder is named after the content of all modules beside the function's own: numba itself does not notice when a
    compiled function of another module has changed. Where that folder cannot be written, every process compiles anew.
    Where numba cannot be imported the function raises OptionError when it is called: as plain Python it would take
    hours.
    """
    if numba is None:

        @wraps(function)
        def refuses(*_: object) -> None:
            raise OptionError(
                f"{function.__module__}.{function.__name__} is a compiled loop, and {_MISSING}; "
                "mend numba's installation (pip install --force-reinstall numba)"
            )

        return cast(F, refuses)
    config: Any = numba.config  # its attributes are made at run time
    before = config.CACHE_DIR
    config.CACHE_DIR = _folder(Path(inspect.getfile(function)).parent)
    try:
        keep = bool(config.CACHE_DIR)
        return cast(F, numba.njit(nogil=True, error_model="numpy", cache=keep)(function))
    finally:
        config.CACHE_DIR = before


@cache
def _folder(package: Path) -> str:
    """Return the private folder for a package's machine code, made if need be, or "" where none can be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(package.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    folder = default_cache() / "compiled" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "writable").touch()
    except OSError:
        return ""
    return str(folder.absolute())
