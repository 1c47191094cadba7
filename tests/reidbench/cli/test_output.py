"""Output that cannot be written costs no result: encodings, closed pipes, full disks; and interrupted starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reidbench.cli import main
from tests.support.distributions import install
from tests.support.jobs import small_run


def full_disk():
    return Path("/dev/full").open("w", encoding="utf-8")


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.fixture
def main_with(monkeypatch, tmp_path):
    """Run the command line's main function with other streams; returns its exit code and what reached the two files."""

    def call(*arguments, stdout=None, stderr=None, encoding="utf-8"):
        files = [tmp_path / "stdout", tmp_path / "stderr"]
        out, err = stdout or files[0].open("w", encoding=encoding), stderr or files[1].open("w", encoding=encoding)
        monkeypatch.setattr(sys, "argv", ["reidbench", *arguments])
        with monkeypatch.context() as patch, out, err:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                main()
        printed = [file.read_bytes() if file.exists() else b"" for file in files]
        return int(ended.value.code or 0), printed[0], printed[1]

    return call


def test_a_closed_pipe_is_no_error(main_with):
    assert main_with("--help", stdout=closed_pipe()) == (0, b"", b"")
    code, out, _ = main_with("--help", stderr=closed_pipe())
    assert (code, b"Usage: " in out) == (0, True)
    assert main_with("rn", stderr=closed_pipe())[0] == 2


def test_a_full_disk_is_named_once(main_with):
    code, _, err = main_with("--help", stdout=full_disk())
    assert (code, err.count(b"\n"), b"stdout: No space left" in err) == (1, 1, True)
    assert main_with("rn", stdout=full_disk(), stderr=full_disk())[0] == 2
    code, out, _ = main_with("data", "cache", stderr=full_disk())
    assert (code, b" MiB " in out) == (0, True)  # and nothing was to be printed to stderr


def test_a_run_survives_whatever_its_streams_do(main_with, tmp_path):
    """The first run prints no line, the second prints a table in ASCII with replacement characters."""
    code, _, _ = main_with(*small_run("--loss", "none"), stdout=full_disk(), stderr=closed_pipe())
    assert code == 1
    (record,) = tmp_path.glob("results/runs/*/record.json")
    assert json.loads(record.read_text())["status"] == "ok"
    code, out, _ = main_with(*small_run("--loss", "none"), stderr=full_disk(), encoding="ascii")
    assert (code, b"none (untrained)" in out, b"?" in out) == (1, True, True)
    code, out, err = main_with("report", encoding="latin-1")
    assert (code, b"95 % CI" in out or b"queries \xd7" in out, err) == (0, True, b"")


def test_closed_descriptors_are_no_error():
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        command = f"{sys.executable} -m reidbench --version {closed}"
        ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, ""), closed
        assert ended.stdout.startswith("reidbench ") == (closed == "2>&-")


def test_a_slow_reader_of_a_pipe_gets_every_line(main_with):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, b"\n" * 65_536)
    drain = subprocess.Popen(["sh", "-c", "sleep 0.2; grep -m 1 -o interrupted"], stdin=reader, stdout=subprocess.PIPE)
    os.close(reader)
    code, _, err = main_with("--help", stdout=os.fdopen(writer, "w"))
    assert (code, err) == (0, b"")
    assert drain.communicate()[0] == b"interrupted\n"


def install_noisy(folder, source):
    return install(folder, "noisy", [("noisy", source)]) | {"REIDBENCH_LOAD_PLUGINS": "noisy"}


INTERRUPT = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
CLOSE = "import sys\nsys.stdout.close()\nsys.stderr.close()\n"


def test_an_interrupted_start_ends_without_a_traceback(tmp_path, reidbench_process):
    """Also where the importer of a module ignores a failed import."""
    ended = reidbench_process("plugins", env=install_noisy(tmp_path, INTERRUPT))
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
    (tmp_path / "typer.py").write_text(INTERRUPT)
    ended = reidbench_process("plugins", env={"PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_plugin_that_closes_stdout_is_listed(tmp_path, reidbench_process):
    ended = reidbench_process("plugins", env=install_noisy(tmp_path, CLOSE))
    assert (ended.returncode, "noisy failed at hooks: " in ended.stdout, ended.stderr) == (0, True, "")
