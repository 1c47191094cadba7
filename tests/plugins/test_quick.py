"""quick: the paper's schedule at any length, options, and values out of range."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_recipes.quick import quick, register_recipes

from reidbench import BackboneInfo, OptionError, Preprocess, Recipe

BACKBONE = BackboneInfo(embedding_dim=128, preprocess=Preprocess(64, 32), pretrained=False, parameters=1)


def test_the_defaults_are_the_papers_schedule_in_300_steps() -> None:
    assert quick(BACKBONE) == Recipe(
        steps=300,
        decay_start=180,
        learning_rate=1e-3,
        p=18,
        k=4,
        decay_factor=0.001,
        beta1=0.9,
        beta2=0.999,
        late_beta1=0.5,
        batches="pk",
        crop=True,
        flip=True,
        faithful_to="",
    )
    assert quick(BACKBONE, steps=25_000).decay_start == 15_000  # Hermans et al. 2017, section 3.2


@settings(deadline=None)
@given(steps=st.integers(1, 10**6), data=st.data())
def test_the_decay_starts_within_the_training(steps: int, data: st.DataObject) -> None:
    assert 0 <= quick(BACKBONE, steps=steps).decay_start < steps
    chosen = data.draw(st.integers(0, steps))
    assert quick(BACKBONE, steps=steps, decay_start=chosen).decay_start == chosen


def test_options_reach_the_recipe() -> None:
    recipe = quick(BACKBONE, steps=7, learning_rate=0.5, p=3, k=2, crop=False, flip=False, decay_start=0)
    found = (recipe.steps, recipe.learning_rate, recipe.p, recipe.k, recipe.crop, recipe.flip, recipe.decay_start)
    assert found == (7, 0.5, 3, 2, False, False, 0)
    assert (quick(BACKBONE, crop=False).crop, quick(BACKBONE, crop=False).flip) == (False, True)


def test_values_out_of_range_are_refused_all_at_once() -> None:
    with pytest.raises(OptionError, match=r"steps must be .* 0; p must be .* 0; k must be .* -1"):
        quick(BACKBONE, steps=0, p=0, k=-1)


def test_it_registers() -> None:
    assert register_recipes() == {"quick": quick}
