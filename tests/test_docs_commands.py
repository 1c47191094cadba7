"""Every command of README, docs and the claims of the paper is one that exists, and prints what stands below it."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from reidbench_reports.claims import read_claims

from reidbench.cli import make_app
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.plugins.spec import Spec
from reidbench.runs.suite import find_suite, load_suite
from tests.support.documents import CHECKOUT, PAGES, Command, Shown, commands, commands_in, same, shown, spans

KINDS = ("protocol", "loss", "backbone", "recipe", "metric", "section")
FLAGS = {kind: kind for kind in KINDS} | {"rerank": "reranker"}
PLACEHOLDER = re.compile(r"[A-Z_]+…?")  # DIR, NAME, RUN…: whoever reads it puts something there
EXAMPLE_ITEMS = {"neighbour_components", "centre", "my_loss"}  # items that README and the pages on plugins write
EVERY = [each for page in PAGES for each in commands(page)]
CLAIMED = {line: claim.name for claim in read_claims() for line in f"{claim.command}\n{claim.scaled}".splitlines()}
EVERY += [each for line, name in CLAIMED.items() for each in commands_in(f"claim {name}", line)]
OURS = [each for each in EVERY if each.program == "reidbench"]
SHOWN = [each for page in PAGES for each in shown(page)]


def name_of(each: Command | Shown) -> str:
    return each.where


def test_there_are_commands_to_check():
    """Were the pages read wrongly, all that follows would pass."""
    pages = {each.where.partition(":")[0] for each in OURS}
    assert {"README.md", "docs/quickstart.md", "docs/sections/tsne.md", "docs/losses/index.md"} <= pages
    assert len(OURS) > 100
    assert {each.where.partition(":")[0] for each in SHOWN} >= {"README.md", "docs/compare.md"}


@pytest.mark.parametrize("each", OURS, ids=name_of)
def test_a_command_is_one_that_exists(each, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(each)


def test_examples_below_the_help_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in [line for lines in command_defaults()["examples"].values() for line in lines]:
        check(next(commands_in("", line)))


@functools.cache
def command_line():
    """Return the program's command line, built once."""
    return typer.main.get_command(make_app())


def check(each: Command) -> None:
    """Parse a command with the real command line, and resolve every item, suite and file of ours that it names."""
    verb, words = command_line(), list(each.words)
    while words and not words[0].startswith("-") and (verbs := getattr(verb, "commands", {})):
        assert words[0] in verbs, f"{each.text}: there is no verb {words[0]}"
        verb = verbs[words.pop(0)]
    if not words and (each.inline or hasattr(verb, "commands")):
        return  # a verb that is only named
    for file in re.findall(r'(?:cycles|file|weights)="([^"]+)"', " ".join(words)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    given = verb.make_context(str(verb.name), [word for word in words if word != "--help"]).params
    resolve(str(verb.name), given)


def resolve(verb: str, given: dict[str, object]) -> None:
    specs = [
        (kind, text)
        for flag, kind in FLAGS.items()
        for text in _texts(given.get(flag))
        if (text, kind) not in {("none", "reranker"), ("auto", "metric"), ("auto", "recipe")}
    ]
    if verb == "synthesize":
        specs.append(("synthesizer", str(given["name"])))
    if verb == "show" and given["name"]:
        specs.append((str(given["kind"]), str(given["name"])))
    for kind, text in specs:
        if PLACEHOLDER.fullmatch(text) or PLACEHOLDER.fullmatch(kind):
            continue
        terms = Spec.parse(text, where=kind).terms
        if not EXAMPLE_ITEMS & {term.item.name for term in terms}:
            load().resolve(kind, text)
    suites = _texts(given.get("what")) + [text for text in _texts(given.get("runs")) if text.startswith("paper/")]
    for name in suites:
        if name.endswith(".json") or PLACEHOLDER.fullmatch(name) or (CHECKOUT / name).is_dir():
            continue
        found = CHECKOUT / name if name.endswith(".toml") else find_suite(name)
        suite = load_suite(found)
        if given.get("scale"):
            suite.scale(str(given["scale"]))
    for name in [text for key in ("a", "b") for text in _texts(given.get(key))]:
        assert (CHECKOUT / name).exists() or not name.startswith("leaderboards/"), f"{name} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page):
    benchmarks = "".join(file.read_text(encoding="utf-8") for file in (CHECKOUT / "benchmarks").rglob("*.py"))
    run, known = options(command_line())
    for number, span in spans(page.read_text(encoding="utf-8")):
        if not span.startswith("--"):
            continue
        flags = set(re.findall(r"--[a-z-]+", span))
        assert all(flag in known or f'"{flag}"' in benchmarks for flag in flags), f"{page.name}:{number}: {span}"
        if flags <= run and " " in span:
            (command,) = commands_in(f"{page.name}:{number}", f"reidbench run {span}")
            check(command)


def options(command) -> tuple[set[str], set[str]]:
    """Return the flags of ``run`` and those of all verbs."""
    verbs = getattr(command, "commands", {})
    own = {flag for option in getattr(command, "params", ()) for flag in option.opts if flag.startswith("--")}
    return options(verbs["run"])[1] if "run" in verbs else set(), own.union(
        *(options(verb)[1] for verb in verbs.values())
    )


def _texts(value) -> list[str]:
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [str(each) for each in values]


@pytest.mark.parametrize("each", [each for each in EVERY if each.program != "reidbench"], ids=name_of)
def test_other_programs_get_existing_files_and_options(each):
    if each.program.startswith("python") and each.words[:1] == ("-m",):
        assert importlib.util.find_spec(each.words[1]) is not None, each.text
        return
    files = [word for word in each.words if word.endswith(".py") or "/" in word]
    for file in files:
        assert file.startswith("./") or (CHECKOUT / file).exists(), f"{each.text}: {file} is not there"
    if each.program.startswith("python") and files:
        source = (CHECKOUT / files[0]).read_text(encoding="utf-8")
        for flag in re.findall(r"--[a-z-]+", " ".join(each.words)):
            assert f'"{flag}"' in source, f"{each.text}: {files[0]} has no {flag}"


@pytest.fixture
def run(tmp_path, monkeypatch, reidbench_call):
    """Run a command as whoever reads a page, 80 columns wide, in a folder with ``leaderboards``; returns its stdout."""
    (tmp_path / "leaderboards").symlink_to(CHECKOUT / "leaderboards")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(text):
        command = next(commands_in("", text), None)
        if command is None or command.program != "reidbench":
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(text, shell=True, capture_output=True, text=True, check=False, env=environment)
        else:
            done = reidbench_call(*command.words)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    return call


def cases() -> list[object]:
    """One case for each page and for what takes seconds, or minutes; the commands of a page run in one folder."""
    found: dict[tuple[str, str], list[Shown]] = {}
    for each in SHOWN:
        found.setdefault((each.where.partition(":")[0], each.how), []).append(each)
    marks = {"": (), "slow": (pytest.mark.slow,), "elsewhere": None}
    return [
        pytest.param(each, id=f"{page} {how}".strip(), marks=mark)
        for (page, how), each in found.items()
        if (mark := marks[how]) is not None
    ]


@pytest.mark.parametrize("listed", cases())
def test_a_command_prints_what_is_shown_below_it(listed, run):
    for each in listed:
        printed = run(each.command)
        assert same(each.lines, printed), f"{each.where}: $ {each.command}\n{printed}"
