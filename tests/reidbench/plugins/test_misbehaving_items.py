"""Items that break their contract: each ends in an error that names the item and its plugin, never in a crash."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from reidbench import Preprocess
from reidbench.errors import OptionError, PluginError
from reidbench.plugins.catalogue import Catalogue, ResolvedSpec, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.plugins.interfaces import BackboneInfo
from reidbench.ranking import external_embeddings
from reidbench.reports import sections
from reidbench.reports.artifacts import RunFiles
from reidbench.runs import suite
from reidbench.runs.prepare import Planner
from reidbench.training.build import build_backbone, build_loss, build_recipe, build_split, describe_backbone
from reidbench.training.loop import evaluate_loss
from reidbench.training.optimizer import own_groups
from reidbench.training.precision import forward_pass
from reidbench.training.sampler import sample_round
from reidbench.utils.machine import local_machine
from tests.support import misbehaving as wrong
from tests.support.jobs import job
from tests.support.tiny_training import view_of

OWNER = "wrong_plugin, wrong-dist 1.0"
MACHINE = local_machine(device="cpu")
NETWORK = BackboneInfo(4, Preprocess(16, 8), pretrained=False, parameters=1)
# What a user can write too is a wrong option, not a broken plugin.
RECIPES = ("steps_text", "steps_fraction", "crop_number", "rate_nan", "rate_none")
OPTION_ERRORS = {("protocol", "dataset_unknown"), *(("recipe", name) for name in RECIPES)}


def rows(count):
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 4, generator=generator), np.arange(count) % 3 + 1, np.arange(count) % 2 + 1


def use_metric(spec: ResolvedSpec, catalogue: Catalogue, folder: Path, rerank: str = "none") -> None:
    name = spec.text if spec.kind == "metric" else "euclidean"
    train = rows(5) if name == "fit_raises" else None
    with mock.patch.object(external_embeddings, "load", return_value=catalogue):
        external_embeddings.evaluate(rows(7), rows(11), train=train, metric=name, rerank=rerank)


def use_loss(spec: ResolvedSpec, catalogue: Catalogue, folder: Path) -> None:
    loss = build_loss(spec, NETWORK, wrong.split(), 0)
    own_groups(loss)
    sample_round(loss, wrong.RECIPE, view_of([0, 0, 1, 1]), 0)
    evaluate_loss(loss, rows(4)[0].requires_grad_(), torch.tensor([0, 0, 1, 1]))


def use_backbone(spec: ResolvedSpec, catalogue: Catalogue, folder: Path) -> None:
    info = describe_backbone(spec)
    images = torch.zeros(2, 3, info.preprocess.height, info.preprocess.width)
    forward_pass(build_backbone(spec, 0), wrong.RECIPE, torch.device("cpu"))(images)


def use_section(spec: ResolvedSpec, catalogue: Catalogue, folder: Path) -> None:
    with mock.patch.object(sections, "load", return_value=catalogue):
        (part,) = sections.build_sections([spec.text], [], RunFiles([], MACHINE))
    if part.error:  # in place of the part, so that the other sections are shown
        raise PluginError(part.error)


def use_synthesizer(spec: ResolvedSpec, catalogue: Catalogue, folder: Path) -> None:
    with mock.patch.object(suite, "load", return_value=catalogue):
        suite.synthesize(spec.text, folder)


KINDS: dict[str, tuple[dict[str, Callable[..., Any]], Callable[[ResolvedSpec, Catalogue, Path], None]]] = {
    "metric": (wrong.METRICS, use_metric),
    "reranker": (wrong.RERANKERS, lambda spec, catalogue, folder: use_metric(spec, catalogue, folder, spec.text)),
    "loss": (wrong.LOSSES, use_loss),
    "backbone": (wrong.BACKBONES, use_backbone),
    "dataset": (wrong.DATASETS, lambda spec, catalogue, folder: build_split(spec, folder)),
    "protocol": (wrong.PROTOCOLS, lambda spec, known, folder: Planner(known, MACHINE).plan(job(protocol=spec.text))),
    "recipe": (wrong.RECIPES, lambda spec, catalogue, folder: build_recipe(spec, NETWORK)),
    "section": (wrong.SECTIONS, use_section),
    "synthesizer": (wrong.SYNTHESIZERS, use_synthesizer),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (items, _) in KINDS.items() for name in items])
def test_a_misbehaving_item_is_named_with_its_plugin(kind, name, tmp_path):
    """Each is used as a run, an evaluation, a report or a synthesis does."""
    factories, use = KINDS[kind]
    item = PluginItem(kind, name, factories[name], Plugin("wrong_plugin", "wrong-dist", "1.0", state="ok"))
    catalogue = Catalogue((), (*load().items, item))
    expected = OptionError if (kind, name) in OPTION_ERRORS else PluginError
    with pytest.raises(expected) as caught:
        use(catalogue.resolve(kind, name), catalogue, tmp_path)
    assert f"{kind} {name} ({OWNER})" in str(caught.value)
    if "raise" in name or "fails" in name:
        assert "misbehaving.py, line" in str(caught.value)
