"""The recipes: every number that their sources give, options, and short trainings; Eq. 9 is in test_papers_training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_backbones.lunet import LuNet
from reidbench_recipes.bag_of_tricks import agw, bag_of_tricks
from reidbench_recipes.dtl2016 import dtl2016
from reidbench_recipes.hermans2017 import hermans2017
from reidbench_recipes.ide import ide
from reidbench_recipes.ide_caffe import ide_caffe
from reidbench_recipes.quick import quick
from reidbench_recipes.sgd import sgd
from reidbench_recipes.transformer import transformer
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
PADDED = {"crop": False, "pad": 10, "erase": 0.5, "p": 16, "k": 4, "steps": 22_000, "warmup_start": 0.01}
LUO = PADDED | {"learning_rate": 3.5e-4, "weight_decay": 5e-4, "warmup": 1_833, "faithful_to": "Luo et al. (2019)"}
LUO |= {"schedule": "milestones", "decay_factor": 0.1, "milestones": (7_333, 12_833), "erase_area": (0.02, 0.4)}
LUO |= {"brightness": 0.15, "contrast": 0.15, "saturation": 0.1, "hue": 0.1}  # of jitter, which is off
EXPECTED: dict[Factory, dict[str, Any]] = {
    bag_of_tricks: LUO,
    agw: LUO | {"faithful_to": "Ye et al. (2021)"},
    transformer: PADDED
    | {"optimizer": "sgd", "learning_rate": 0.008, "momentum": 0.9, "late_beta1": 0.9, "weight_decay": 1e-4}
    | {"warmup": 916, "schedule": "half_cosine", "decay_start": 0, "decay_factor": 0.002, "bias_factor": 2.0}
    | {"erase_area": (0.02, 1 / 3), "faithful_to": "He et al. (2021)"},
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


@pytest.mark.parametrize("recipe", [bag_of_tricks, agw, transformer])
def test_tricks_can_be_removed(recipe):
    plain = recipe(
        INFO, steps=120, learning_rate=0.1, warmup=0, decay=False, weight_decay=0.0, pad=0, flip=False, erase=0.0
    )
    assert {learning_rate(plain, step) for step in range(120)} == {0.1}
    assert (plain.weight_decay, plain.flip, plain.changes_pixels) == (0, False, False)
    # the code of Luo et al. in epoch e of 120: 0.01 + 0.099 e, and of TransReID: from a hundredth in 5 epochs
    rising, warmup = recipe(INFO, steps=120, learning_rate=1.0, decay=False), 5 if recipe is transformer else 10
    assert learning_rate(rising, 0) == pytest.approx(0.01 + 0.99 / warmup)
    assert (learning_rate(rising, warmup - 2) < 1, learning_rate(rising, warmup - 1)) == (True, 1)


def test_padding_and_erased_pixels_follow_the_network():
    small = replace(INFO, preprocess=Preprocess(64, 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert (bag_of_tricks(small).pad, agw(small, pad=7).pad) == (2, 7)
    assert agw(small).erase_fill == transformer(INFO).erase_fill == (124, 116, 104)
    assert bag_of_tricks(small, erased="code").erase_fill == (152, 142, 127)


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
