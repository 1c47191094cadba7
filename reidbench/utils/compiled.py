"""Compile loops over arrays with numba, and cache the machine code in a private folder."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from reidbench.errors import OptionError
from reidbench.utils.machine import default_cache

try:
    import numba
except (ImportError, OSError) as error:  # no build for this machine, or one that refuses this numpy
    reason = f"numba, which compiles the loops over arrays, cannot be imported ({str(error).strip().splitlines()[0]})"
    raise OptionError(f"{reason}; repair its installation (pip install --force-reinstall numba)") from None

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop over arrays at its first call: IEEE arithmetic in order, no fused operations, no global lock.

    The machine code is cached below ``NUMBA_CACHE_DIR``, by default below the cache folder, readable by its owner only,
    since numba's files are pickles. The folder's name is a digest of all modules beside the function's own: numba
    itself does not notice that a compiled function of another module has changed. Where the folder cannot be written,
    every process compiles anew.
    """
    config: Any = numba.config  # its attributes are made at run time
    before = config.CACHE_DIR
    config.CACHE_DIR = _cache_folder(Path(inspect.getfile(function)).parent)
    try:
        return cast(F, numba.njit(nogil=True, error_model="numpy", cache=bool(config.CACHE_DIR))(function))
    finally:
        config.CACHE_DIR = before


@cache
def _cache_folder(package: Path) -> str:
    """Return the private folder for the machine code of a package, made if need be, "" where it cannot be written."""
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(package.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    given: str = getattr(numba.config, "CACHE_DIR", "")
    folder = (Path(given) if given else default_cache() / "compiled") / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "writable").touch()
    except OSError:
        return ""
    return str(folder.absolute())
