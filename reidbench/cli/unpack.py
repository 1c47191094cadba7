"""Unpack zip and tar archives from outside into a new folder, which appears whole or not at all."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from reidbench.errors import DataError
from reidbench.utils.lock import lock
from reidbench.utils.progress import progress
from reidbench.utils.untrusted_files import open_regular

MOST_RATIO = 100  # bytes of all members for each byte of their archive; images hardly shrink
MIB = 2**20
DAMAGE = (OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


@contextmanager
def unpacked(archives: Sequence[Path], target: Path) -> Iterator[Path]:
    """Unpack all archives into one folder, yield the folder above it, and rename it to ``target`` after the block.

    Until then it is in a temporary folder, which is deleted after an error or an interruption, or by the next call.
    Raises DataError where the target exists, or an archive cannot be unpacked, is encrypted, has links or special
    files, paths that leave the folder, or over 100 times its own size.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    with lock(target.with_name(f".{target.name}.lock"), "unpacking"):
        if target.exists():
            raise DataError(f"{target}: exists; delete it to add the dataset again, or name another data root")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for archive in archives:
                _unpack(archive, unfinished / target.name)
            yield unfinished
            (unfinished / target.name).rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    with open_regular(archive) as file:
        size = archive.stat().st_size
        left = MIB + MOST_RATIO * size
        with progress(f"unpacking {archive.name}, MiB", size // MIB) as update:

            def check(name: str, size: int, is_plain: bool) -> None:
                nonlocal left
                left -= size + 512  # a member without content costs something too
                path = PurePosixPath(name)
                if left < 0 or not is_plain or path.is_absolute() or ".." in path.parts:
                    problem = (
                        f"unpacks to over {MOST_RATIO} times the archive"
                        if left < 0
                        else "is a link or leaves the folder"
                    )
                    raise DataError(f"{archive}: {name!r:.200} {problem}; nothing was unpacked")
                update(file.tell() // MIB, "")

            try:
                if tarfile.is_tarfile(file):
                    file.seek(0)
                    with tarfile.open(fileobj=file, mode="r|*") as tar:
                        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
                        for entry in tar:
                            check(entry.name, entry.size, entry.isfile() or entry.isdir())
                            tar.extract(entry, folder, set_attrs=False)
                else:
                    with zipfile.ZipFile(file) as zipped:
                        for member in zipped.infolist():
                            kind = member.external_attr >> 28  # on Unix 8 is a file and 4 a folder, elsewhere 0
                            check(member.filename, member.file_size, kind in (0, 4, 8))
                            zipped.extract(member, folder)
            except DAMAGE as error:
                raise DataError(
                    f"{archive}: cannot be unpacked: {error}; expected a tar or zip archive without a password; unpack "
                    f"any other by hand into a folder {folder.name} below the data root"
                ) from None
