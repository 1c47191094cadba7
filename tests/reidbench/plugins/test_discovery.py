"""Discovery of real distributions, most of them broken, in a child process; and of the examples of docs/hooks.md."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from reidbench.plugins.catalogue import Catalogue
from reidbench.plugins.discovery import HOOKS, KINDS, discover
from reidbench.plugins.interfaces import BackboneInfo, TrainInfo
from reidbench.plugins.options import options_of
from reidbench.testing import check_tracker
from reidbench.utils.syntax import summary_of
from tests.support.cases import cases
from tests.support.distributions import install
from tests.support.paths import CHECKOUT

# the positional parameters of the factories of a kind
SUPPLIED = {"loss": "info, ", "dataset": "root, ", "synthesizer": "directory, ", "recipe": "backbone, "}


def module_of_ten() -> str:
    """A module with an item for every hook."""
    items = [
        f"def make_{kind}({SUPPLIED.get(kind, '')}*, x: int = 1): pass\n"
        f"@hookimpl\ndef {hook}(): return {{'of_ten': make_{kind}}}\n"
        for hook, kind in HOOKS.items()
    ]
    return "from reidbench import hookimpl\n" + "".join(items)


PLUGINS = cases(__file__, "plugins")
FAILED = {plugin["name"]: plugin["error"] for plugin in PLUGINS if "error" in plugin}
# distribution: (entry point, module) for each of its plugins
DISTRIBUTIONS: dict[str, list[tuple[str, str]]] = {"ten": [("ten.main", module_of_ten())]}
for listed in PLUGINS:
    DISTRIBUTIONS.setdefault(listed["distribution"], []).append((listed["name"], listed["code"]))

CHILD = """
import dataclasses, json, os, sys
from typer.testing import CliRunner
from reidbench.plugins.catalogue import load
from reidbench.cli.plugins import app
from reidbench.errors import OptionError
catalogue = load()
try:
    catalogue.find("metric", "neer")
except OptionError as error:
    message = str(error)
run = CliRunner().invoke
result = {
    "plugins": [dataclasses.asdict(plugin) for plugin in catalogue.plugins],
    "items": [[entry.kind, entry.name, entry.plugin.distribution] for entry in catalogue.list_items()],
    "message": message,
    "list": run(app, []).output,
    "show": run(app, ["show", "metric", "near"]).output,
    "torch": "torch" in sys.modules,
}
load.cache_clear()
os.environ["REIDBENCH_LOAD_PLUGINS"] = ""
result["none"] = [plugin.name for plugin in load().plugins]
load.cache_clear()
os.environ["REIDBENCH_LOAD_PLUGINS"] = "half.good, Same_Entry"
result["some"] = [[plugin.name, plugin.distribution] for plugin in load().plugins]
load.cache_clear()
os.environ["REIDBENCH_LOAD_PLUGINS"] = "good, hafl.good"
try:
    load()
except OptionError as error:
    result["unknown"] = str(error)
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The output of a child process in whose environment all those distributions are installed."""
    site = tmp_path_factory.mktemp("site")
    for distribution, plugins in reversed(DISTRIBUTIONS.items()):
        install(site, distribution, plugins)
    # First-party plugins are not loaded, since they import torch.
    chosen = {"PYTHONPATH": str(site), "REIDBENCH_LOAD_PLUGINS": ",".join(DISTRIBUTIONS), "COLUMNS": "200"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD], env=os.environ | chosen, capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    assert "printed at import" in child.stderr
    return json.loads(child.stdout)


def test_a_broken_plugin_affects_no_other(host):
    assert [item for item in host["items"] if item[1] != "of_ten"] == [
        ["loss", "shared", "good"],
        ["metric", "near", "good"],
        ["reranker", "half_good", "half"],
        ["reranker", "same_entry", "same-entry"],
    ]


def test_every_hook_gives_items_of_its_kind(host):
    assert [item[0] for item in host["items"] if item[1:] == ["of_ten", "ten"]] == list(KINDS)


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_plugin_is_listed_with_its_reason(host, name):
    (plugin,) = [plugin for plugin in host["plugins"] if plugin["name"] == name]
    assert plugin["state"] == "failed"
    assert plugin["error"].startswith(FAILED[name])
    assert plugin["error"].isprintable()


def test_no_plugin_is_lost(host):
    listed = sorted((plugin["distribution"], plugin["name"], plugin["version"]) for plugin in host["plugins"])
    assert listed == sorted((d, name, "1.0") for d, plugins in DISTRIBUTIONS.items() for name, _ in plugins)
    assert {plugin["name"] for plugin in host["plugins"] if plugin["state"] != "ok"} == set(FAILED)


def test_listing_needs_no_torch(host):
    assert not host["torch"]


def test_an_unknown_name_mentions_what_failed(host):
    assert host["message"].startswith('there is no metric "neer"; did you mean "near"?; failed to load: ')
    assert all(name in host["message"] for name in FAILED)


def test_the_environment_variable_selects_plugins(host):
    assert host["none"] == []
    assert host["some"] == [["half.good", "half"], ["good.main", "same-entry"]]
    assert 'no plugin or distribution "hafl.good"; did you mean "half.good"' in host["unknown"]


def test_the_command_lists_items_and_failures(host):
    assert host["list"].splitlines()[0].split() == ["name", "kind", "description", "distribution", "version", "state"]
    row = "near metric A distance, [bold]plainly[/bold] good 1.0 ok"
    assert row in [" ".join(line.split()) for line in host["list"].splitlines()]
    for name, reason in FAILED.items():
        assert f"{name} failed at {reason}" in host["list"]
    states = [line.split()[-1] for line in host["list"].partition("\n\n")[0].splitlines()]
    counts = [states.count(state) for state in ("ok", "unavailable", "failed")]
    assert counts == [len(host["items"]) - 1, 1, len(FAILED)]  # the executor of ten is none


def test_the_command_shows_an_item(host):
    assert "A distance, [bold]plainly[/bold]." in host["show"]  # text, no markup
    assert "good.main, good 1.0" in host["show"]
    lines = [" ".join(line.split()) for line in host["show"].splitlines()]
    assert "scale a number 1.0 what it is [31m multiplied with." in lines
    assert "norm true or false false" in lines
    assert "\x1b" not in host["show"]


def test_there_is_a_hook_for_every_kind_and_no_other():
    from reidbench.plugins import hookspecs

    assert list(HOOKS) == [name for name in vars(hookspecs) if name.startswith("register_")]
    assert list(HOOKS.values()) == list(KINDS)


def test_the_examples_of_hooks_md_work(tmp_path, monkeypatch):
    """Every example of docs/hooks.md is loaded, built with its defaults, and returns what its hook expects."""
    text = (CHECKOUT / "docs" / "hooks.md").read_text()
    blocks = re.findall(r"^## `(\w+)\(\)`.*?^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [hook for hook, _ in blocks] == list(HOOKS)
    install(tmp_path, "docs-examples", [(f"examples.{hook}", code) for hook, code in blocks])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REIDBENCH_LOAD_PLUGINS", "docs-examples")
    plugins, entries = discover()
    assert [(plugin.state, plugin.error) for plugin in plugins] == [("ok", "")] * len(HOOKS)
    catalogue = Catalogue(tuple(plugins), tuple(entries))
    for entry in entries:
        assert summary_of(entry.factory)
        assert all(option.doc for option in options_of(entry.factory).values())

    def built(kind, *known):
        (entry,) = catalogue.list_items(kind)
        return catalogue.resolve(kind, entry.name).build(*known)

    protocol = built("protocol")
    steps = list(built("synthesizer", tmp_path / "folders"))
    split = catalogue.resolve("dataset", protocol.dataset).build(tmp_path)
    assert steps[-1] == (16, 16)
    assert (len(split.train), len(split.query), len(split.gallery)) == (8, 4, 4)
    backbone = built("backbone")
    embeddings = backbone(torch.rand(5, 3, 64, 32))
    assert built("loss", TrainInfo(backbone.embedding_dim, 3))(embeddings, torch.tensor([0, 1, 2, 0, 1])).shape == (5,)
    recipe = catalogue.resolve("recipe", protocol.recipe).build(BackboneInfo(64, backbone.preprocess, True, 0))
    assert recipe.learning_rate == 3e-4
    metric = built("metric")
    assert metric.distances(embeddings, embeddings).diagonal().abs().max() == 0
    blocks_of_two = list(built("reranker").blocks(embeddings, embeddings, metric, 2))
    assert [block.shape for block in blocks_of_two] == [(2, 5), (2, 5), (1, 5)]
    assert built("section").build([], None).title == "Durations"
    assert len(check_tracker(catalogue.list_items("tracker")[0].factory)) == 3
