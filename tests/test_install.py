"""The wheel in an environment of its own: complete, lazy, and nothing else importable."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.support.jobs import small_run
from tests.support.paths import CHECKOUT

THIRD_PARTY = CHECKOUT / "tests" / "support" / "third_party_plugin"


def build(source, folder):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


def environment(folder, *wheels, checkout=False):
    """Return the interpreter of a fresh environment that sees this one's libraries, with these wheels installed.

    ``checkout``: whether reidbench itself is that of this checkout, whose loops are compiled already.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = next(folder.glob("lib/python*/site-packages"))
    paths = [path for path in sys.path if path.endswith("site-packages")]
    paths += [str(CHECKOUT), str(CHECKOUT / "plugins")] if checkout else []
    (site / "parent.pth").write_text("\n".join(paths) + "\n")
    if not wheels:
        return python
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--ignore-installed", *map(str, wheels)], check=True, capture_output=True, timeout=120)
    return python


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build(CHECKOUT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def child(wheel, tmp_path_factory):
    return environment(tmp_path_factory.mktemp("child"), wheel)


def run(python, *arguments, cwd):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=env
    )


def list_items(python, cwd):
    code = (
        "import dataclasses, json; from reidbench.plugins.catalogue import load; "
        "items = [dataclasses.asdict(each.plugin) | {'name': each.name, 'kind': each.kind} for each in load().items]; "
        "print(json.dumps(items))"
    )
    return json.loads(run(python, "-c", code, cwd=cwd).stdout)


def test_the_wheel_has_all_packages_and_no_others(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"reidbench", "reidbench_losses", "reidbench_leaderboards"} <= tops
    assert not {"tests", "plugins", "benchmarks", "docs"} & tops
    assert "reidbench/py.typed" in names
    assert "reidbench/defaults.toml" in names
    assert {f"reidbench_leaderboards/{name}.toml" for name in ("synthetic", "paper/claims")} <= {*names}
    assert not [name for name in names if re.match("reidbench_leaderboards/(records|studies/[^/]+)/", name)]


def test_the_installed_command_lists_every_plugin(child, tmp_path):
    done = run(child, "-m", "reidbench", "plugins", cwd=tmp_path)
    assert (done.returncode, "batch_hard" in done.stdout, " failed " in done.stdout) == (0, True, False), done.stderr
    listed = list_items(child, tmp_path)
    assert {"reidbench"} == {item["distribution"] for item in listed}
    where = run(child, "-c", "import reidbench_losses; print(reidbench_losses.__file__)", cwd=tmp_path)
    assert str(child.parents[1]) in where.stdout
    for folder in ("plugins", "tests"):
        assert run(child, "-c", f"import {folder}", cwd=tmp_path).returncode != 0


def test_help_imports_no_torch(child, tmp_path):
    done = run(child, "-X", "importtime", "-m", "reidbench", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage: reidbench [OPTIONS]" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "reidbench.cli" in imported
    assert not {name for name in imported if name.split(".")[0] in ("torch", "numpy", "pandas", "numba", "pydantic")}


def test_an_installed_suite_is_found_by_name(child, tmp_path):
    code = "from reidbench.runs.suite import find_suite; print(find_suite('synthetic'))"
    done = run(child, "-c", code, cwd=tmp_path)
    assert done.stdout.strip().endswith("reidbench_leaderboards/synthetic.toml"), done.stderr


def test_a_third_party_package_adds_a_loss(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(THIRD_PARTY, source)
    lines = [line for line in (source / "somebodys_losses.py").read_text().splitlines() if line.strip()]
    assert len(lines[lines.index("class CentrePull(Loss):") :]) <= 15
    python = environment(tmp_path / "child", build(source, tmp_path / "wheels"), checkout=True)
    (row,) = [item for item in list_items(python, tmp_path) if item["name"] == "centre_pull"]
    expected = {"kind": "loss", "distribution": "somebodys-losses", "version": "1.2.3", "state": "ok"}
    assert {name: row[name] for name in expected} == expected

    asked = small_run("--loss", "centre_pull(strength=0.5)", "--results", str(tmp_path / "results"))
    done = run(python, "-m", "reidbench", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "results").rglob("record.json"))
    assert record["items"]["loss"]["spec"] == "centre_pull(strength=0.5)"
    loss = record["items"]["loss"]
    assert (loss["distribution"], loss["version"]) == ("somebodys-losses", "1.2.3")
    assert {"somebodys_losses.py", "distribution somebodys-losses"} <= set(record["code_files"])
    assert record["scores"]["map_market"] > 0
