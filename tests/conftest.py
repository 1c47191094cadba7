"""Fixtures that several tests share: private folders, a small drawn data set, and the oracles beside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes share the processor: one thread each, read by torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test depends on seconds.
hypothesis.settings.register_profile("reidbench", deadline=None)
hypothesis.settings.load_profile("reidbench")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the machine code of compiled loops for all processes, and between sessions; its folders name the code."""
    if hasattr(config, "cache"):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(config.cache.mkdir("compiled")))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """One data folder for the whole session and all its processes, so that small datasets are rendered once."""
    folder = tmp_path_factory.getbasetemp()
    data = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "data"
    data.mkdir(exist_ok=True)
    return data


@pytest.fixture(autouse=True)
def _private_folders(monkeypatch, tmp_path, data_folder, tmp_path_factory):
    """No test reads or writes the folders of whoever runs it."""
    monkeypatch.setenv("REIDBENCH_DATA", str(data_folder))
    monkeypatch.setenv("REIDBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REIDBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("REIDBENCH_LOAD_PLUGINS", raising=False)


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of one module, since it occupies this thread's event loop."""
    from tests.support.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser):
    """Open pages in the browser, as ``tests.support.browser.Visit``; none may have complained when the test ends."""
    from tests.support.browser import Visit

    visits = []

    def open_file(file, **how):
        visits.append(Visit(browser, file, **how))
        return visits[-1]

    yield open_file
    assert [complaint for visit in visits for complaint in visit.complaints] == []
    for visit in visits:
        visit.page.close()


@pytest.fixture
def reidbench_process():
    """Run the real command line in a process of its own; returns what it printed and its exit code."""

    def call(*arguments, env=None, cwd=None):
        command = [sys.executable, "-m", "reidbench", *arguments]
        variables = {**os.environ, **(env or {})}
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=cwd, timeout=300, check=False)

    return call


@pytest.fixture
def reidbench_call(monkeypatch, capfd):
    """Run the command line's main function here, without a process; returns what it printed and its exit code."""

    def call(*arguments, env=None, cwd=None):
        from reidbench.cli import main

        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["reidbench", *arguments])
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            patch.chdir(cwd or Path.cwd())
            capfd.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def reidbench_main(reidbench_call):
    """As ``reidbench_call``; returns the exit code and what went to stderr."""

    def call(*arguments):
        done = reidbench_call(*arguments)
        return done.returncode, done.stderr

    return call
