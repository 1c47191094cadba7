"""What loses the mark of a paper: every option that changes the training, another network, other views or pool."""

import dataclasses

import pytest

from reidbench.runs.job import Memo
from tests.support.cases import cases
from tests.support.jobs import deviations_of, job, plan_of

MEMO = Memo()


def found(**changes: str) -> tuple[str, ...]:
    base = {"recipe": "hermans2017", "backbone": "lunet", "protocol": "market1501"}
    return deviations_of(job(**base | changes), MEMO)[2]


TABLE_1 = {"protocol": "mars_val", "recipe": "hermans2017(crop=false, flip=false)"}


def test_both_training_units_of_mars_are_the_papers():
    # The paper's other experiments are its suites: tests/plugins/test_papers_suites.py.
    assert found(protocol="mars(frames=per_tracklet)") == ()
    assert found(**TABLE_1 | {"protocol": "mars_val(frames=per_tracklet)"}) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "market1501(views=center)", "backbone": "resnet50(height=128, width=64)"},
        {"protocol": "mars", "backbone": "lunet(height=64, width=32)"},
        {"protocol": "market1501_multiquery", "backbone": "lunet(height=64, width=32)"},
        TABLE_1 | {"backbone": "resnet50"},
        TABLE_1 | {"backbone": "lunet(height=64, width=32)"},
        {"backbone": "lunet(height=256, width=128)"},
        {"backbone": "resnet50(height=64, width=64)"},
    ],
)
def test_parts_of_two_experiments_are_none_of_the_papers(changes):
    assert found(**changes) == (f"backbone {changes['backbone']}",)


@pytest.mark.parametrize(("changes", "expected"), cases(__file__, "what_differs_is_named"))
def test_what_differs_is_named(changes, expected):
    assert found(**changes) == tuple(expected)


def test_the_plan_and_its_mark_follow():
    plan, _ = plan_of(job(recipe="hermans2017(p=2, k=2)", backbone="lunet"))
    assert plan.deviations == (
        "recipe hermans2017(p=2, k=2)", "protocol synthetic(identities=40)"
    )  # fmt: skip
    assert not plan.faithful
    assert dataclasses.replace(plan, deviations=()).faithful
    quick, _ = plan_of(job())
    assert not dataclasses.replace(quick, deviations=()).faithful
