"""New plugins: the folder, names that are refused, an installation, and the commands of docs/writing-a-plugin.md."""

import csv
import os
import re
import shlex
import subprocess
import tomllib

import pytest
from typer.testing import CliRunner

from reidbench.cli import make_app
from reidbench.errors import DataError, OptionError
from reidbench.testing.scaffold import KINDS, write_plugin
from tests.support.cases import cases
from tests.support.distributions import few_plugins
from tests.support.jobs import SMALL_PROTOCOL, SMALL_RECIPE
from tests.support.paths import CHECKOUT
from tests.test_install import build, environment, run

PAGE = CHECKOUT / "docs" / "writing-a-plugin.md"
SMALL = ["--protocol", SMALL_PROTOCOL, "--recipe", SMALL_RECIPE, "--device", "cpu", "--threads", "1"]


def test_a_new_plugin_has_all_its_files(tmp_path):
    target = write_plugin("my_Own_loss2", "loss", tmp_path / "new" / "place")
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"pyproject.toml", "README.md", "my_Own_loss2.py", "tests/test_my_Own_loss2.py"}
    assert list(target.parent.iterdir()) == [target]
    project = tomllib.loads((target / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-own-loss2"
    assert project["project"]["optional-dependencies"] == {"test": ["pytest"]}
    assert project["project"]["entry-points"]["reidbench"] == {"my_Own_loss2": "my_Own_loss2"}
    assert "class MyOwnLoss2(Loss):" in (target / "my_Own_loss2.py").read_text()
    assert not [path for path in target.rglob("*") if path.is_file() and "$" in path.read_text()]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["2nd", "my-loss", "my loss", "none", "a/b", "class", "../up", "", "end_", "größe"], "cannot name a plugin"),
        (["torch", "json", "reidbench", "reidbench_losses"], "would hide"),  # installed modules
    ],
)
def test_other_names_are_refused(names, problem, tmp_path):
    for name in names:
        with pytest.raises(OptionError, match=problem):
            write_plugin(name, "loss", tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_kinds_and_existing_folders_are_refused(tmp_path):
    with pytest.raises(OptionError, match='did you mean "loss"'):
        write_plugin("my_loss", "los", tmp_path)
    with pytest.raises(OptionError, match="there are: loss, backbone, metric"):
        write_plugin("my_loss", "recipe", tmp_path)
    (tmp_path / "my_loss").mkdir()
    with pytest.raises(DataError, match="my_loss: already exists"):
        write_plugin("my_loss", "loss", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_plugin("my_loss", "loss", tmp_path / "file")


def test_each_kind_installs_and_passes_its_checks(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDBENCH_LOAD_PLUGINS", ",".join(f"somebodys-{kind}" for kind in KINDS))
    names = {kind: f"somebodys_{kind}" for kind in KINDS}
    folders = [write_plugin(name, kind, tmp_path / "source") for kind, name in names.items()]
    wheels = (build(folder, tmp_path / folder.name) for folder in folders)
    python = environment(tmp_path / "child", *wheels, checkout=True)
    done = run(python, "-m", "pytest", "-q", "-W", "error", *map(str, folders), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    done = run(python, "-m", "reidbench", "plugins", "check", names["metric"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"metric somebodys_metric: \d+ contract checks passed\n  contract\n", done.stdout)


def test_the_commands_of_the_page_make_a_leaderboard_row(tmp_path):
    python = environment(tmp_path / "child", checkout=True)
    home = tmp_path / "home"
    home.mkdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "false", "PIP_QUIET": "1"}
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REIDBENCH_RESULTS")}
    programs = {"reidbench": [str(python), "-m", "reidbench"], "python": [str(python)]}
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        program, *arguments = shlex.split(command)
        # The page trains for minutes, this test for seconds, with the code of a checkout that may have changes.
        small = SMALL if arguments[0] == "run" else ["--allow-dirty"] if arguments[1] == "add" else []
        words = [*programs[program], *arguments, *small]
        how = {"cwd": home, "env": env | offline, "timeout": 200}
        done = subprocess.run(words, **how, capture_output=True, text=True, check=False)
        if "pip" in arguments:
            env["REIDBENCH_LOAD_PLUGINS"] = few_plugins("my-loss")
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    (board,) = (home / "my-boards").glob("*.csv")
    with board.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (mine,) = [row for row in rows if row["loss"] == "my_loss"]
    assert mine["plugin_dist"] == "my-loss"
    assert len(rows) == 2


@pytest.mark.parametrize(("arguments", "code", "said"), cases(__file__, "the_command_line_names_the_mistake"))
def test_the_command_line_names_the_mistake(arguments, code, said, reidbench_main):
    ended, err = reidbench_main("plugins", *arguments)
    assert (ended, said in err) == (code, True), err


def test_check_lists_the_checks_that_pass():
    done = CliRunner().invoke(make_app(), ["plugins", "check", "euclidean(normalize=true)"])
    assert done.exit_code == 0
    assert "metric euclidean(normalize=true): 6 contract checks passed" in done.output
    assert "  factors order as distances do" in done.output
