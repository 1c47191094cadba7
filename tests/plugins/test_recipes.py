"""The recipes: every number that their sources give, options, and short trainings; Eq. 9 is in test_papers_training."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_backbones.lunet import LuNet
from reidbench_recipes.dtl2016 import dtl2016
from reidbench_recipes.hermans2017 import hermans2017
from reidbench_recipes.ide import ide
from reidbench_recipes.ide_caffe import ide_caffe
from reidbench_recipes.quick import quick
from reidbench_recipes.sgd import sgd
from reidbench_recipes.zheng import zheng2016, zheng2017

from reidbench import BackboneInfo, OptionError, Preprocess, Recipe
from reidbench.plugins.catalogue import load
from reidbench.training.optimizer import learning_rate

Factory = Callable[..., Recipe]
INFO = BackboneInfo(128, Preprocess(256, 128), pretrained=True, parameters=1)
LUNET = BackboneInfo(128, Preprocess(128, 64), pretrained=False, parameters=1, batch=LuNet.batch)
ADAM = {"beta1": 0.9, "beta2": 0.999, "late_beta1": 0.5, "decay_factor": 0.001, "batches": "pk", "crop": True}
SGD = {"optimizer": "sgd", "schedule": "milestones", "decay_factor": 0.1, "momentum": 0.9}
SGD |= {"weight_decay": 5e-4, "batches": "shuffled", "k": 4}
ZHENG = SGD | {"learning_rate": 0.002, "new_factor": 10.0}
EXPECTED: dict[Factory, dict[str, Any]] = {
    hermans2017: ADAM
    | {"steps": 25_000, "decay_start": 15_000, "learning_rate": 3e-4, "p": 18, "k": 4}
    | {"faithful_to": "Hermans et al. (2017)"},
    quick: ADAM | {"steps": 300, "decay_start": 180, "learning_rate": 1e-3, "p": 18, "k": 4},
    ide: {"optimizer": "adadelta", "rho": 0.95, "epsilon": 1e-6, "batches": "shuffled", "decay_factor": 0.001}
    | {"steps": 25_000, "decay_start": 15_000, "learning_rate": 1.0, "p": 18, "k": 4},
    zheng2016: ZHENG | {"steps": 19_000, "p": 24, "milestones": (17_733,)},
    zheng2017: ZHENG
    | {"steps": 29_000, "p": 16, "milestones": (23_200,), "weight_decay": 1e-4}
    | {"nesterov": True, "decay_vectors": False},
    ide_caffe: SGD
    | {"steps": 50_000, "learning_rate": 0.001, "p": 4, "milestones": (20_000, 40_000), "crop": False}
    | {"bias_factor": 2.0, "decay_vectors": False, "fixed_norms": True},
    dtl2016: SGD
    | {"steps": 25_000, "learning_rate": 0.001, "p": 18, "milestones": (16_667,), "frozen": 2_000}
    | {"new_factor": 10.0},
}


@pytest.mark.parametrize("recipe", EXPECTED)
def test_the_numbers_are_the_sources(recipe):
    values = EXPECTED[recipe]
    assert recipe(INFO) == Recipe(**{"decay_start": values["steps"], "faithful_to": ""} | values)
    changed = recipe(INFO, steps=7, learning_rate=0.5, p=3, k=2)
    assert (changed.steps, changed.learning_rate, changed.p, changed.k) == (7, 0.5, 3, 2)
    assert recipe(INFO, steps=1).milestones == ()


def test_frames_leave_the_ids_of_older_results():
    old, new = (load().resolve("recipe", spec) for spec in ("quick(steps=9)", "quick(steps=9, frames=2)"))
    assert ("frame" in old.identity, "frames=2" in new.identity, new.build(INFO).frames) == (False, True, 2)


def test_networks_have_their_papers_rate_and_batch():
    recipe = hermans2017(LUNET)
    assert (recipe.learning_rate, recipe.p, recipe.k) == (1e-3, 32, 4)
    assert (hermans2017(LUNET, p=7).p, hermans2017(LUNET, p=7).k) == (7, 4)
    assert (ide(LUNET).p, quick(LUNET).p) == (18, 18)


@settings(deadline=None)
@given(recipe=st.sampled_from([hermans2017, ide, quick]), steps=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_decay_starts_within_the_training(recipe, steps, share):
    assert recipe(INFO, steps=steps).decay_start == steps * 3 // 5
    chosen = recipe(INFO, steps=steps, decay_start=int(share * steps), crop=False)
    assert (chosen.decay_start, chosen.crop, chosen.flip) == (int(share * steps), False, True)


def test_sgd_falls_along_a_cosine_or_at_milestones():
    cosine = sgd(INFO, steps=100, warmup=10)
    assert [learning_rate(cosine, step) for step in (0, 50)] == pytest.approx([0.001, 0.005], rel=2e-3)
    with pytest.raises(OptionError, match="decay_factor"):
        sgd(INFO, decay_factor=0.0)
    stepped = sgd(INFO, steps=100, milestones=(30, 60), decay_factor=0.5)
    assert [learning_rate(stepped, step) for step in (29, 30, 60, 99)] == pytest.approx([0.01, 0.005, 0.0025, 0.0025])
