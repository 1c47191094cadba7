"""Archives from outside: what is unpacked, what is refused, and that nothing is left of what failed."""

import io
import random
import stat
import tarfile
import zipfile
from contextlib import suppress

import pytest

from reidbench import DataError
from reidbench.cli.unpack import unpacked

RANDOM = bytes(range(256)) * 400
# The flags of a deflated member in both of its headers, without and with the one for encryption.
PLAIN, ENCRYPTED = b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x01\x00\x08\x00"


def tar(name: str, content: bytes = b"image", kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "/etc/passwd", len(content) * (kind == tarfile.REGTYPE)
        for each in (tarfile.TarInfo("set/first.jpg"), member):
            archive.addfile(each, io.BytesIO(content))
    return file.getvalue()


def zipped(name: str, content: bytes = b"image", mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    member = zipfile.ZipInfo(name)
    member.external_attr, member.compress_type = mode << 16, method
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("set/first.jpg", b"")
        archive.writestr(member, content)
    return file.getvalue()


LZMA = zipped("set/x.jpg", random.Random(0).randbytes(9000), method=zipfile.ZIP_LZMA)
REFUSED = {
    "a tar above its folder": (tar("../evil.jpg"), r"\.\./evil\.jpg.* leaves"),
    "an absolute path": (tar("/nowhere/evil.jpg"), "/nowhere/evil.* leaves"),
    "a symbolic link": (tar("set/link", kind=tarfile.SYMTYPE), "set/link.* is a link"),
    "a hard link": (tar("set/link", kind=tarfile.LNKTYPE), "set/link.* is a link"),
    "a named pipe": (tar("set/pipe", kind=tarfile.FIFOTYPE), "set/pipe.* is a link"),
    "a tar of zeros": (tar("set/bomb", bytes(2**23)), "set/bomb.*100 times the archive"),
    "a part of a tar": (tar("set/x.jpg", RANDOM, mode="w")[:50_000], "cannot be unpacked"),
    "a part of a compressed tar": (tar("set/x.jpg", RANDOM)[:-600], "cannot be unpacked"),
    "a zip above its folder": (zipped("set/../../evil.jpg"), r"evil\.jpg.* leaves"),
    "a link in a zip": (zipped("set/link", mode=stat.S_IFLNK | 0o777), "set/link.* is a link"),
    "a zip of zeros": (zipped("set/bomb", bytes(2**23)), "set/bomb.*100 times the archive"),
    "an encrypted zip": (zipped("set/x.jpg").replace(PLAIN, ENCRYPTED), "is encrypted.*by hand"),
    "a damaged LZMA zip": (LZMA.replace(LZMA[len(LZMA) // 2 :][:500], bytes(500)), "cannot be unpacked"),
    "another file": (b"Rar!", "expected a tar or zip archive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_dataset_needs_is_refused_whole(case, tmp_path):
    content, problem = REFUSED[case]
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(DataError, match=f"archive: .*{problem}"), unpacked([tmp_path / "archive"], tmp_path / "set"):
        pytest.fail("it was unpacked")
    assert {path.name for path in tmp_path.iterdir()} == {"archive", ".set.lock"}


def test_an_interruption_leaves_nothing_and_the_next_call_begins_anew(tmp_path):
    (tmp_path / "archive").write_bytes(tar("set/deep/x.jpg", mode="w:xz"))
    (tmp_path / ".set.unfinished" / "set" / "of_a_killed_process").mkdir(parents=True)
    with suppress(KeyboardInterrupt), unpacked([tmp_path / "archive"], tmp_path / "set") as above:
        assert (above / "set" / "set" / "deep" / "x.jpg").read_bytes() == b"image"
        assert not list(above.glob("**/of_a_killed_process"))
        raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir()} == {"archive", ".set.lock"}
