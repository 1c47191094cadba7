"""Compile loops over arrays with numba, and cache the machine code in a private folder."""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from reidbench.errors import OptionError
from reidbench.utils.machine import default_cache

try:
    import numba
    from numba.core.caching import IndexDataCacheFile
except (ImportError, OSError) as error:  # no build for this machine, or one that refuses this numpy
    raise OptionError(
        f"numba, which compiles the loops over arrays, cannot be imported ({str(error).strip().splitlines()[0]}); "
        "repair its installation (pip install --force-reinstall numba)"
    ) from None

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop over arrays at its first call: IEEE arithmetic in order, no fused operations, no global lock.

    The machine code is cached below ``NUMBA_CACHE_DIR``, by default below the cache folder, readable by its owner only,
    since numba's files are pickles. The folder's name is a digest of all modules beside the function's own: numba
    itself does not notice that a compiled function of another module has changed. A damaged file is compiled again.
    Where the folder cannot be written, every process compiles anew.
    """
    config: Any = numba.config  # its attributes are made at run time
    before = config.CACHE_DIR
    config.CACHE_DIR = _cache_folder(Path(inspect.getfile(function)).parent)
    try:
        dispatcher = numba.njit(nogil=True, error_model="numpy", cache=bool(config.CACHE_DIR))(function)
        files = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        if type(files) is IndexDataCacheFile:
            files.__class__ = _SealedFiles
        return cast(F, dispatcher)
    finally:
        config.CACHE_DIR = before


class _SealedFiles(IndexDataCacheFile):
    """The files of numba's cache, each with its sha256 at the end, where a pickle may have anything."""

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


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
        for file in folder.rglob("*.nb[ic]"):
            data = file.read_bytes()
            if hashlib.sha256(data[:-32]).digest() != data[-32:]:
                file.unlink(missing_ok=True)
    except OSError:
        return ""
    return str(folder.absolute())
