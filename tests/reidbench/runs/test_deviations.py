"""What loses the mark of a paper: every option that changes the training, another network, other views or pool."""

from __future__ import annotations

import dataclasses

import pytest

from reidbench.data.protocol import Protocol
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import BackboneInfo
from reidbench.runs.deviations import deviations
from reidbench.training.build import build_backbone
from reidbench.training.recipe import Recipe
from tests.support.jobs import job, plan_of


def found(
    recipe: str = "hermans2017", backbone: str = "lunet", protocol: str = "market1501"
) -> tuple[tuple[str, ...], Recipe]:
    catalogue = load()
    items = {"protocol": catalogue.resolve("protocol", protocol)}
    built: Protocol = items["protocol"].build()
    items["recipe"] = catalogue.resolve("recipe", recipe, built.defaults)
    items["backbone"] = catalogue.resolve("backbone", backbone, built.defaults)
    network = build_backbone(items["backbone"], 0)
    info = BackboneInfo(
        network.embedding_dim, network.preprocess, network.pretrained, 1, network.batch, network.faithful_to
    )
    made: Recipe = items["recipe"].build(info)
    return deviations(items, made, info, built), made


@pytest.mark.parametrize("backbone", ["lunet", "resnet50"])
@pytest.mark.parametrize("protocol", ["market1501", "market1501_multiquery", "market1501_500k", "mars", "mars_val"])
def test_the_papers_own_systems_deviate_in_nothing(backbone: str, protocol: str) -> None:
    # The setting of table 1 neither crops nor flips: a suite says so.
    recipe = "hermans2017(crop=false, flip=false)" if protocol == "mars_val" else "hermans2017"
    assert found(backbone=backbone, protocol=protocol, recipe=recipe)[0] == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recipe": "hermans2017(steps=2000)"}, ("recipe hermans2017(steps=2000)",)),
        ({"recipe": "hermans2017(crop=false)"}, ("recipe hermans2017(crop=false)",)),
        ({"backbone": "tiny"}, ("backbone tiny",)),
        ({"backbone": "lunet(height=64, width=32)"}, ("backbone lunet(height=64, width=32)",)),
        ({"backbone": "resnet50(weights=none)"}, ("backbone resnet50(weights=none)",)),
        ({"backbone": "resnet50(head=none)"}, ("backbone resnet50(head=none)",)),
        ({"protocol": "market1501(views=center)"}, ("protocol market1501(views=center)",)),
        ({"protocol": "market1501_multiquery(pool=max)"}, ("protocol market1501_multiquery(pool=max)",)),
        ({"protocol": "mars(frames=per_tracklet)"}, ("protocol mars(frames=per_tracklet)",)),
        ({"protocol": "mars_torchreid_gallery"}, ("protocol mars_torchreid_gallery",)),
        # The paper's own setting of table 1 neither crops nor flips; whoever does deviates.
        (
            {"protocol": "mars_val", "recipe": "hermans2017(crop=false)"},
            ("recipe hermans2017(crop=false), where the protocol's paper has flip=false",),
        ),
        (
            {"protocol": "mars_val"},
            ("recipe hermans2017, where the protocol's paper has crop=false and flip=false",),
        ),
        (
            {"recipe": "hermans2017(p=3)", "backbone": "tiny", "protocol": "synthetic"},
            ("recipe hermans2017(p=3)", "backbone tiny", "protocol synthetic"),
        ),
        # A recipe that is no paper's is compared with itself alone.
        ({"recipe": "quick", "backbone": "tiny", "protocol": "synthetic"}, ()),
        ({"recipe": "quick(steps=4)", "backbone": "tiny"}, ("recipe quick(steps=4)",)),
    ],
)
def test_what_differs_is_named(changes: dict[str, str], expected: tuple[str, ...]) -> None:
    assert found(**changes)[0] == expected


def test_the_plan_and_its_mark_follow() -> None:
    plan, _ = plan_of(job(recipe="hermans2017(p=2, k=2)", backbone="lunet"))
    assert plan.deviations == (
        "recipe hermans2017(p=2, k=2)", "backbone lunet(height=64, width=32)", "protocol synthetic(identities=40)"
    )  # fmt: skip
    assert not plan.faithful
    assert dataclasses.replace(plan, deviations=()).faithful
    quick, _ = plan_of(job())
    assert not dataclasses.replace(quick, deviations=()).faithful
