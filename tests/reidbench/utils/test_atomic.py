"""Files are complete or absent, whatever the disk and readers do; refused writes are errors with advice."""

import errno
import os
import subprocess
import sys
import threading
from unittest.mock import Mock

import pytest

from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic
from reidbench.utils.lock import lock


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("data", "written"), [("é\r\n", "é\r\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_bytes_and_text_are_written_unchanged(tmp_path, data, written):
    file = tmp_path / "a" / "b" / "record.json"
    write_atomic(file, b"before")
    write_atomic(file, data)
    assert file.read_bytes() == written
    assert contents(file.parent) == ["record.json"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "atomic", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reader_sees_only_complete_versions(tmp_path):
    file, versions = tmp_path / "f", [bytes([n]) * 300_000 for n in range(40)]
    write_atomic(file, versions[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def read():
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        write_atomic(file, version)
    done.set()
    reader.join()
    assert seen
    assert seen <= set(versions)


def test_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(DataError, match=r"results/run: record.json .*name another folder"):
        write_atomic(tmp_path / "results" / "run" / "record.json", "x")


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a/f")
    for text in ("first", "second"):  # the file of the link is missing at first
        write_atomic(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert ((tmp_path / "a" / "f").read_text(), contents(tmp_path / "a")) == (text, ["f"])


@pytest.mark.parametrize("kind", ["device", "named pipe", "folder", "link to loop"])
def test_what_is_no_file_is_never_replaced(tmp_path, kind):
    file = tmp_path / "f"
    if kind == "device":
        file.symlink_to(os.ttyname(os.openpty()[1]))  # in a folder in which no file can be made by mistake
    elif kind == "named pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("loop")
        (tmp_path / "loop").symlink_to("f")
    before = file.lstat().st_ino
    with pytest.raises(DataError, match=f"f: is a .*{kind}"):
        write_atomic(file, "x")
    assert file.lstat().st_ino == before


def test_a_folder_that_is_a_dangling_link_is_named(tmp_path):
    (tmp_path / "results").symlink_to("gone")
    with pytest.raises(DataError, match=r"results: is a link to gone \(No such file"):
        write_atomic(tmp_path / "results" / "run" / "f", "x")
    with pytest.raises(DataError, match=r"results: is a link to gone \(No such file"):
        lock(tmp_path / "results" / "lock", "test").__enter__()


def test_failed_write_leaves_the_old_file_only(tmp_path):
    write_atomic(tmp_path / "f", "old")
    script = """
import resource, sys
from pathlib import Path
from unittest.mock import Mock
from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), b"x" * 5000)
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "f"], capture_output=True, text=True, check=True)
    assert all(text in done.stdout for text in (f"{tmp_path}: f (5,000 bytes)", "File too large", "ulimit -f"))
    assert (tmp_path / "f").read_text() == "old"
    assert contents(tmp_path) == ["f"]


@pytest.mark.parametrize("name", ["fsync", "posix_fallocate", "open"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES])
def test_what_a_file_system_does_not_offer_is_skipped(tmp_path, monkeypatch, name, code):
    # ``os.open`` opens the folder, to write its entries to the disk; ``Path.open`` opens the file.
    monkeypatch.setattr(os, name, Mock(side_effect=OSError(code, os.strerror(code))))
    write_atomic(tmp_path / "f", "content")
    assert (tmp_path / "f").read_text() == "content"
    monkeypatch.setattr(os, name, Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(DataError, match="Input/output error"):
        write_atomic(tmp_path / "f", "lost")


WRITE, LOCK = 'write_atomic(folder / "big", b"x" * 200_000)', 'lock(folder / "lock", "test").__enter__()'
FULL, READ_ONLY = "No space left on device; free some space", "Read-only file system; name a folder that can be written"


@pytest.mark.parametrize(
    ("options", "action", "texts"),
    [
        ("size=64k", WRITE, ["{}: big (200,000 bytes)", FULL, "\n[]\n"]),
        ("size=64k", f'(folder / "big").write_bytes(bytes(65536)); {LOCK}', [f"the lock could not be taken: {FULL}"]),
        ("ro", WRITE, ["{}: ", READ_ONLY]),
        ("ro", LOCK, ["{}: ", READ_ONLY]),
    ],
)
def test_full_disk_and_read_only_folder_are_named_with_advice(tmp_path, options, action, texts):
    """In a tmpfs mounted on a folder in a mount namespace of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces (unshare -rm), so a full disk cannot be made")
    command = f"""
from pathlib import Path
from unittest.mock import Mock
from reidbench.errors import DataError
from reidbench.utils.atomic import write_atomic
from reidbench.utils.lock import lock
folder = Path("{tmp_path}")
try:
    {action}
except DataError as error:
    print(error)
print(list(folder.iterdir()))
"""
    script = f"mount -t tmpfs -o {options} none {tmp_path} && exec {sys.executable} -c '{command}'"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert all(text.format(tmp_path) in done.stdout for text in texts), done
