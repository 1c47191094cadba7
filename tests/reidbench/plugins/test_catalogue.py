"""Discovery of real distributions, most of them broken, in a child process; resolving and building specs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.catalogue import Catalogue, command_defaults, part_names
from reidbench.plugins.discovery import HOOKS, KINDS, Plugin, PluginItem, discover
from reidbench.plugins.interfaces import BackboneInfo, Loss, TrainInfo
from reidbench.plugins.options import File, options_of, summary_of
from reidbench.plugins.spec import Spec
from reidbench.plugins.weighted_sum import WeightedSum
from tests.support.cases import cases
from tests.support.paths import CHECKOUT

# hook: (kind, the positional parameters of its factories)
TEN = {
    "register_losses": ("loss", "info, "),
    "register_backbones": ("backbone", ""),
    "register_datasets": ("dataset", "root, "),
    "register_synthesizers": ("synthesizer", "directory, "),
    "register_protocols": ("protocol", ""),
    "register_recipes": ("recipe", "backbone, "),
    "register_metrics": ("metric", ""),
    "register_rerankers": ("reranker", ""),
    "register_sections": ("section", ""),
    "register_executors": ("executor", ""),
}


def module_of_ten() -> str:
    """A module with an item for every hook."""
    items = [
        f"def make_{kind}({known}*, x: int = 1): pass\n@hookimpl\ndef {hook}(): return {{'of_ten': make_{kind}}}\n"
        for hook, (kind, known) in TEN.items()
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
    "json": json.loads(run(app, ["--json"]).output),
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


def install(site: Path, distribution: str, plugins: list[tuple[str, str]]) -> None:
    """Write what an installer would: the modules, and the metadata that importlib.metadata reads."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = ["[reidbench]"]
    for name, code in plugins:
        module = f"{distribution}.{name.partition('.')[2]}".replace("-", "_").replace(".", "_")
        (site / f"{module}.py").write_text(code)
        lines.append(f"{name} = {module}")
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
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


def test_a_broken_plugin_affects_no_other(host: dict[str, Any]) -> None:
    assert [item for item in host["items"] if item[1] != "of_ten"] == [
        ["loss", "shared", "good"],
        ["metric", "near", "good"],
        ["reranker", "half_good", "half"],
        ["reranker", "same_entry", "same-entry"],
    ]


@pytest.mark.parametrize("hook", TEN)
def test_every_hook_gives_items_of_its_kind(host: dict[str, Any], hook: str) -> None:
    assert [TEN[hook][0], "of_ten", "ten"] in host["items"]


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_plugin_is_listed_with_its_reason(host: dict[str, Any], name: str) -> None:
    (plugin,) = [plugin for plugin in host["plugins"] if plugin["name"] == name]
    assert plugin["state"] == "failed"
    assert plugin["error"].startswith(FAILED[name])
    assert plugin["error"].isprintable()


def test_no_plugin_is_lost(host: dict[str, Any]) -> None:
    listed = sorted((plugin["distribution"], plugin["name"], plugin["version"]) for plugin in host["plugins"])
    assert listed == sorted((d, name, "1.0") for d, plugins in DISTRIBUTIONS.items() for name, _ in plugins)
    assert {plugin["name"] for plugin in host["plugins"] if plugin["state"] != "ok"} == set(FAILED)


def test_listing_needs_no_torch(host: dict[str, Any]) -> None:
    assert not host["torch"]


def test_an_unknown_name_mentions_what_failed(host: dict[str, Any]) -> None:
    assert host["message"].startswith('there is no metric "neer"; did you mean "near"?; failed to load: ')
    assert all(name in host["message"] for name in FAILED)


def test_the_environment_variable_selects_plugins(host: dict[str, Any]) -> None:
    assert host["none"] == []
    assert host["some"] == [["half.good", "half"], ["good.main", "same-entry"]]
    assert 'no plugin or distribution "hafl.good"; did you mean "half.good"' in host["unknown"]


def test_the_command_lists_items_and_failures(host: dict[str, Any]) -> None:
    assert host["list"].splitlines()[0].split() == ["name", "kind", "distribution", "version", "state"]
    assert ["near", "metric", "good", "1.0", "ok"] in [line.split() for line in host["list"].splitlines()]
    for name, reason in FAILED.items():
        assert f"{name} failed at {reason}" in host["list"]
    rows = {(row["kind"], row["name"]): row for row in host["json"]}
    assert rows["metric", "near"] == {
        "name": "near",
        "kind": "metric",
        "plugin": "good.main",
        "distribution": "good",
        "version": "1.0",
        "state": "ok",
        "error": "",
    }
    assert rows["", "stars.main"]["error"].startswith(FAILED["stars.main"])
    assert len(rows) == len(host["items"]) + len(FAILED)


def test_the_command_shows_an_item(host: dict[str, Any]) -> None:
    assert "A distance, [bold]plainly[/bold]." in host["show"]  # text, no markup
    assert "good.main, good 1.0" in host["show"]
    lines = [" ".join(line.split()) for line in host["show"].splitlines()]
    assert "scale a number 1.0 what it is [31m multiplied with." in lines
    assert "norm true or false false" in lines
    assert "\x1b" not in host["show"]


# Resolving and building: a catalogue of real items, without entry points.

PLUGIN = Plugin("tests.losses", "tests", "1.0", "ok")


class Hard(Loss):
    metric = "learned"

    def __init__(self, info: TrainInfo, *, margin: float = 0.5, weights: File | None = None) -> None:
        super().__init__()
        self.info, self.margin, self.weights = info, margin, weights
        if margin < 0:
            raise OptionError(f"margin: expected 0 or more, got {margin}")
        if margin > 100:
            raise ValueError("too\nlarge")


class Soft(Loss):
    def __init__(self, info: TrainInfo, *, files: tuple[File, ...] = (), margin: float = 2.0) -> None:
        super().__init__()

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return embeddings.sum(dim=1)


def scale(*, by: int = 1) -> int:
    return by


INFO = TrainInfo(embedding_dim=8, num_pids=4)
CATALOGUE = Catalogue(
    (PLUGIN, Plugin("lost", "lost-things", "2.0", "failed", "import: no")),
    (
        PluginItem("loss", "soft", Soft, PLUGIN),
        PluginItem("loss", "hard", Hard, PLUGIN),
        PluginItem("metric", "scale", scale, PLUGIN),
    ),
)


def test_a_resolved_spec_has_every_option_and_where_it_came_from() -> None:
    resolved = CATALOGUE.resolve("loss", "hard( margin = 1 )", {"weights": None, "unknown": 3})
    assert resolved.kind == "loss"
    assert resolved.given == "hard( margin = 1 )"
    assert resolved.text == resolved.identity == "hard(margin=1.0, weights=none)"
    assert resolved.short == "hard(margin=1.0)"
    assert resolved.origins == {"margin": "given", "weights": "protocol"}
    assert [entry.name for entry in resolved.plugin_items] == ["hard"]
    again = CATALOGUE.resolve("loss", resolved.text)
    assert (again.text, again.identity, again.short) == (resolved.text, resolved.identity, resolved.short)
    assert CATALOGUE.resolve("loss", "hard(margin=0.5)").short == "hard"


def test_a_protocols_default_enters_the_identity() -> None:
    plain, changed = CATALOGUE.resolve("metric", "scale"), CATALOGUE.resolve("metric", "scale", {"by": 3})
    assert changed.identity == "scale(by=3)" != plain.identity
    assert changed.short == "scale(by=3)"
    assert changed.build() == 3


def test_files_enter_the_identity_by_content_and_tables_by_name(tmp_path: Path) -> None:
    texts = []
    for name, content in (("a.pth", b"same"), ("b.pth", b"same"), ("c.pth", b"other")):
        (tmp_path / name).write_bytes(content)
        texts.append(f'hard(weights="{tmp_path / name}") + soft(files=["{tmp_path / name}"])')
    first, second, third = (CATALOGUE.resolve("loss", text) for text in texts)
    assert first.identity == second.identity != third.identity
    digest = hashlib.sha256(b"same").hexdigest()
    assert first.identity == f"hard(margin=0.5, weights=sha256:{digest}) + soft(files=[sha256:{digest}], margin=2.0)"
    assert first.short == "hard(weights=a.pth) + soft(files=[a.pth])"
    assert CATALOGUE.resolve("loss", first.text).identity == first.identity
    assert Spec.parse(first.text).terms[0].item.options[1][1] == str(tmp_path / "a.pth")


def test_a_sum_is_resolved_term_by_term() -> None:
    resolved = CATALOGUE.resolve("loss", "hard + 0.5*soft(margin=1) + 2*hard", {"margin": 3.0})
    assert resolved.text == (
        "hard(margin=3.0, weights=none) + 0.5*soft(files=[], margin=1.0) + 2*hard(margin=3.0, weights=none)"
    )
    assert resolved.short == "hard(margin=3.0) + 0.5*soft(margin=1.0) + 2*hard(margin=3.0)"
    assert resolved.origins["hard.margin"] == "protocol"
    assert resolved.origins["soft.margin"] == "given"
    assert resolved.origins["hard:2.weights"] == "default"
    built = resolved.build(INFO)
    assert isinstance(built, WeightedSum)
    assert [(name, weight, type(loss)) for name, weight, loss in built.terms] == [
        ("hard", 1.0, Hard),
        ("soft", 0.5, Soft),
        ("hard:2", 2.0, Hard),
    ]
    assert part_names([entry.name for entry in resolved.plugin_items]) == ["hard", "soft", "hard:2"]


def test_single_item_is_itself_and_weighted_one_is_a_sum() -> None:
    loss = CATALOGUE.resolve("loss", "hard(margin=2)").build(INFO)
    assert type(loss) is Hard
    assert (loss.info, loss.margin) == (INFO, 2.0)
    weighted = CATALOGUE.resolve("loss", "3*soft").build(INFO)
    assert isinstance(weighted, WeightedSum)
    assert weighted(torch.ones(2, 4), torch.zeros(2)).total.item() == 12.0


def test_only_losses_and_rerankers_may_be_none() -> None:
    for kind in ("loss", "reranker"):
        resolved = CATALOGUE.resolve(kind, "none")
        assert (resolved.text, resolved.identity, resolved.short) == ("none", "none", "none")
        assert (resolved.plugin_items, resolved.origins) == ((), {})
    assert CATALOGUE.resolve("loss", "none").build(INFO) is None
    with pytest.raises(OptionError, match="metric: none is only for a loss or a reranker"):
        CATALOGUE.resolve("metric", "none")


def test_only_losses_are_added_and_weighted() -> None:
    for text in ("scale + scale", "2*scale"):
        with pytest.raises(OptionError, match="metric: expected a single item"):
            CATALOGUE.resolve("metric", text)


def test_all_mistakes_of_a_sum_come_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        CATALOGUE.resolve("loss", "hadr + hard(margin=x, wieghts=none) + soft(margin=none)")
    lines = str(caught.value).splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        'there is no loss "hadr"',
        'loss hard (tests.losses, tests 1.0): no option "wieghts"',
        'loss hard (tests.losses, tests 1.0): option margin: expected a number, got "x"',
        "loss soft (tests.losses, tests 1.0): option margin: expected a number, got none",
    ]
    assert "failed to load: lost (lost-things)" in lines[0]


def test_unknown_kinds_and_empty_kinds() -> None:
    with pytest.raises(OptionError, match='no kind "los"; did you mean "loss"'):
        CATALOGUE.find("los", "hard")
    with pytest.raises(OptionError, match="no plugin provides a recipe"):
        CATALOGUE.resolve("recipe", "anything")
    assert [(entry.kind, entry.name) for entry in CATALOGUE.list_items()] == [
        ("loss", "hard"),
        ("loss", "soft"),
        ("metric", "scale"),
    ]


def test_a_failing_constructor_is_a_plugin_error() -> None:
    with pytest.raises(PluginError) as caught:
        CATALOGUE.resolve("loss", "hard(margin=101)").build(INFO)
    assert str(caught.value).startswith(
        "loss hard (tests.losses, tests 1.0): could not be built: ValueError: too large (test_catalogue.py, line "
    )
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(OptionError, match="expected 0 or more, got -1"):
        CATALOGUE.resolve("loss", "hard(margin=-1)").build(INFO)
    with pytest.raises(OptionError, match=r"a loss is built from \(info\), got 0 arguments"):
        CATALOGUE.resolve("loss", "hard").build()


def test_a_spec_too_long_to_paste_back_is_refused(tmp_path: Path) -> None:
    sums = " + ".join(["hard"] * 100)
    with pytest.raises(OptionError, match="written out it has 3297 characters, at most 2000"):
        CATALOGUE.resolve("loss", sums)


def test_there_is_a_hook_for_every_kind_and_no_other() -> None:
    from reidbench.plugins import hookspecs

    assert list(HOOKS) == [name for name in vars(hookspecs) if name.startswith("register_")]
    assert {hook: kind for hook, (kind, _) in TEN.items()} == HOOKS
    assert list(HOOKS.values()) == list(KINDS)


def test_the_command_lines_defaults() -> None:
    defaults = command_defaults()
    jobs = {"protocol", "loss", "backbone", "recipe", "metric", "rerank", "seed"}
    assert set(defaults) == jobs | {
        *("auto_metric", "executor", "suite", "study_metrics"),
        *("sections", "page_sections", "study_sections", "study_page_sections"),
    }
    for text in [defaults["protocol"], *defaults["loss"], defaults["backbone"], defaults["metric"], defaults["rerank"]]:
        Spec.parse(text)
    defaults["loss"].clear()
    assert command_defaults()["loss"]


def test_the_examples_of_hooks_md_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def built(kind: str, *known: Any) -> Any:
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
