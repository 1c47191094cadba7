"""Resolving and building specs: options and their origins, identities, sums, and mistakes."""

import hashlib
from dataclasses import replace

import pytest
import torch

from reidbench.errors import OptionError, PluginError
from reidbench.plugins.catalogue import Catalogue, command_defaults, part_names
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.interfaces import Loss, TrainInfo
from reidbench.plugins.options import File
from reidbench.plugins.spec import Spec
from reidbench.plugins.weighted_sum import WeightedSum

# A catalogue of real items, without entry points.
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
PLAIN_AND_FEATURES = ("", "(feature=embedding)", "(feature=pooled)")
CATALOGUE = Catalogue(
    (PLUGIN, Plugin("lost", "lost-things", "2.0", "failed", "import: no")),
    tuple(
        PluginItem(*item, PLUGIN)
        for item in [("loss", "soft", Soft), ("loss", "hard", Hard), ("metric", "scale", scale)]
    ),
)


def test_a_resolved_spec_has_every_option_and_where_it_came_from():
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


def test_a_protocols_default_enters_the_identity():
    plain, changed = CATALOGUE.resolve("metric", "scale"), CATALOGUE.resolve("metric", "scale", {"by": 3})
    assert changed.identity == "scale(by=3)" != plain.identity
    assert changed.short == "scale(by=3)"
    assert changed.build() == 3


def test_files_enter_the_identity_by_content_and_tables_by_name(tmp_path):
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


def test_a_sum_is_resolved_term_by_term():
    resolved = CATALOGUE.resolve("loss", "hard + 0.5*soft(margin=1) + 2*hard", {"margin": 3.0})
    assert resolved.text == (
        "hard(margin=3.0, weights=none) + 0.5*soft(files=[], margin=1.0) + 2*hard(margin=3.0, weights=none)"
    )
    assert resolved.short == "hard(margin=3.0) + 0.5*soft(margin=1.0) + 2*hard(margin=3.0)"
    assert resolved.origins["hard.margin"] == "protocol"
    assert resolved.origins["soft.margin"] == "given"
    assert resolved.origins["hard:2.weights"] == "default"
    built = resolved.build(INFO)
    terms = [(name, weight, type(loss)) for name, weight, loss in built.terms]
    assert terms == [("hard", 1.0, Hard), ("soft", 0.5, Soft), ("hard:2", 2.0, Hard)]
    assert part_names([entry.name for entry in resolved.plugin_items]) == ["hard", "soft", "hard:2"]


def test_single_item_is_itself_and_weighted_one_is_a_sum():
    loss = CATALOGUE.resolve("loss", "hard(margin=2)").build(INFO)
    assert type(loss) is Hard
    assert (loss.info, loss.margin) == (INFO, 2.0)
    weighted = CATALOGUE.resolve("loss", "3*soft").build(INFO)
    assert isinstance(weighted, WeightedSum)
    assert weighted(torch.ones(2, 4), torch.zeros(2)).total.item() == 12.0


def test_a_loss_may_read_another_feature_of_the_network():
    plain, named, pooled = (CATALOGUE.resolve("loss", f"hard{options}") for options in PLAIN_AND_FEATURES)
    assert plain.text == plain.identity == named.identity == "hard(margin=0.5, weights=none)"
    assert ("feature" in plain.origins, named.short, type(named.build(INFO))) == (False, "hard", Hard)
    assert pooled.identity == pooled.text == CATALOGUE.resolve("loss", pooled.text).text
    assert (pooled.short, pooled.origins["feature"]) == ("hard(feature=pooled)", "given")
    total = CATALOGUE.resolve("loss", "2*hard(feature=pooled) + hard").build(
        replace(INFO, feature_sizes={"embedding": 8, "pooled": 3})
    )
    assert (total.reads, [loss.info.embedding_dim for loss in total.losses]) == (("embedding", "pooled"), [3, 8])
    with pytest.raises(
        OptionError, match=r'hard \(tests.losses, .* the network has no feature "pooled"; it has embedding$'
    ):
        pooled.build(INFO)
    taken = PluginItem("loss", "taken", lambda info, *, feature=0: None, PLUGIN)
    with pytest.raises(PluginError, match=r"loss taken: .*feature"):
        taken.check()


def test_only_losses_and_rerankers_may_be_none():
    for kind in ("loss", "reranker"):
        resolved = CATALOGUE.resolve(kind, "none")
        assert (resolved.text, resolved.identity, resolved.short) == ("none", "none", "none")
        assert (resolved.plugin_items, resolved.origins) == ((), {})
    assert CATALOGUE.resolve("loss", "none").build(INFO) is None
    with pytest.raises(OptionError, match="metric: none is only for a loss or a reranker"):
        CATALOGUE.resolve("metric", "none")


def test_only_losses_are_added_and_weighted():
    for text in ("scale + scale", "2*scale"):
        with pytest.raises(OptionError, match="metric: expected a single item"):
            CATALOGUE.resolve("metric", text)


def test_all_mistakes_of_a_sum_come_at_once():
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


def test_unknown_kinds_and_empty_kinds():
    with pytest.raises(OptionError, match='no kind "los"; did you mean "loss"'):
        CATALOGUE.find("los", "hard")
    with pytest.raises(OptionError, match="no plugin provides a recipe"):
        CATALOGUE.resolve("recipe", "anything")
    listed = [(entry.kind, entry.name) for entry in CATALOGUE.list_items()]
    assert listed == [("loss", "hard"), ("loss", "soft"), ("metric", "scale")]


def test_a_failing_constructor_is_a_plugin_error():
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


def test_a_spec_too_long_to_paste_back_is_refused(tmp_path):
    sums = " + ".join(["hard"] * 100)
    with pytest.raises(OptionError, match="has 3297 characters with every option, at most 2000"):
        CATALOGUE.resolve("loss", sums)


def test_the_command_lines_defaults():
    defaults = command_defaults()
    jobs = {"protocol", "loss", "backbone", "recipe", "metric", "rerank", "seed"}
    assert set(defaults) == jobs | {
        *("examples", "instead", "auto_metric", "auto_pair_metric", "executor", "suite", "study_metrics"),
        *("sections", "page_sections", "page_folded", "run_sections", "study_sections", "study_page_sections"),
    }
    for text in [defaults["protocol"], *defaults["loss"], defaults["backbone"], defaults["metric"], defaults["rerank"]]:
        Spec.parse(text)
    defaults["loss"].clear()
    assert command_defaults()["loss"]
