"""Archives from outside: what is unpacked, what is refused, and that nothing is left of what failed."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reidbench import DataError
from reidbench.cli.unpack import unpacked


def tar(file: Path, name: str, mode: str = "w:gz", content: bytes = b"image", **attributes: object) -> None:
    with tarfile.open(file, mode) as archive:
        archive.addfile(tarfile.TarInfo("set/first.jpg"))
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))


def zipped(
    file: Path, name: str, mode: int = 0, content: bytes = b"image", replaced: tuple[bytes, bytes] = (b"", b"")
) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("set/first.jpg", b"")
        archive.writestr(member, content)
    file.write_bytes(file.read_bytes().replace(*replaced) if replaced[0] else file.read_bytes())


def link(**attributes: object) -> dict[str, object]:
    return {"size": 0, "linkname": "/etc/passwd", **attributes}


# The flags of the last member in both of its headers, without and with the one for encryption.
PLAIN, ENCRYPTED = b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x01\x00\x08\x00"
BOMB = bytes(2**23)
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a tar above its folder": (lambda file: tar(file, "../evil.jpg"), r"\.\./evil\.jpg.* leaves"),
    "an absolute path": (lambda file: tar(file, "/tmp/evil.jpg"), "/tmp/evil"),
    "a symbolic link": (lambda file: tar(file, "set/link", **link(type=tarfile.SYMTYPE)), "set/link.* is a link"),
    "a hard link": (lambda file: tar(file, "set/link", **link(type=tarfile.LNKTYPE)), "set/link.* is a link"),
    "a named pipe": (lambda file: tar(file, "set/pipe", **link(type=tarfile.FIFOTYPE)), "set/pipe.* is a link"),
    "a tar of zeros": (lambda file: tar(file, "set/bomb", content=BOMB), "set/bomb.*100 times its own size"),
    "a zip above its folder": (lambda file: zipped(file, "set/../../evil.jpg"), r"evil\.jpg.* leaves"),
    "a link in a zip": (lambda file: zipped(file, "set/link", stat.S_IFLNK | 0o777), "set/link.* is a link"),
    "a zip of zeros": (lambda file: zipped(file, "set/bomb", content=BOMB), "set/bomb.*100 times its own size"),
    "an encrypted zip": (lambda file: zipped(file, "set/x.jpg", replaced=(PLAIN, ENCRYPTED)), "is encrypted.*by hand"),
    "another file": (lambda file: file.write_text("Rar!"), "expected a tar or zip archive"),
    "no file": (lambda file: None, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_dataset_needs_is_refused_whole(case, tmp_path):
    make, problem = REFUSED[case]
    (tmp_path / "data").mkdir()
    make(tmp_path / "archive")
    before = set(tmp_path.iterdir())
    with (
        pytest.raises(DataError, match=f"archive: .*{problem}"),
        unpacked([tmp_path / "archive"], tmp_path / "data" / "set"),
    ):
        pytest.fail("it was unpacked")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".set.lock"]
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_tar_is_refused(mode, tmp_path):
    tar(tmp_path / "archive", "set/x.jpg", mode, bytes(range(256)) * 400)
    (tmp_path / "archive").write_bytes((tmp_path / "archive").read_bytes()[: -600 if mode == "w:gz" else -11000])
    with (
        pytest.raises(DataError, match="archive: cannot be unpacked"),
        unpacked([tmp_path / "archive"], tmp_path / "set"),
    ):
        pytest.fail("it was unpacked")


def test_archives_join_in_a_folder_that_appears_at_the_end(tmp_path):
    tar(tmp_path / "a.tar", "set/deep/x.jpg", "w")
    zipped(tmp_path / "b.zip", "other/y.jpg")
    (tmp_path / ".set.unfinished" / "set").mkdir(parents=True)
    (tmp_path / ".set.unfinished" / "set" / "left_by_a_killed_process").touch()
    for error in (KeyboardInterrupt, None):
        try:
            with unpacked([tmp_path / "a.tar", tmp_path / "b.zip"], tmp_path / "set") as above:
                assert not (tmp_path / "set").exists()
                files = sorted(str(path.relative_to(above)) for path in above.rglob("*") if path.is_file())
                assert files == ["set/other/y.jpg", "set/set/deep/x.jpg", "set/set/first.jpg"]
                if error:
                    raise error
        except KeyboardInterrupt:
            assert not (tmp_path / "set").exists()
        assert not (tmp_path / ".set.unfinished").exists()
    assert (tmp_path / "set" / "set" / "deep" / "x.jpg").read_bytes() == b"image"
    with pytest.raises(DataError, match="set: exists"), unpacked([tmp_path / "a.tar"], tmp_path / "set"):
        pytest.fail("it was unpacked twice")
