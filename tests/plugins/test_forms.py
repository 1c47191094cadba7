"""What the learned metrics have in common: their forms, rows alone, invariance, the seed of pairs, and mistakes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reidbench
from reidbench import DataError
from tests.support import metric_arrays as arrays
from tests.support.metric_arrays import People

FORMS = ("xqda", "kissme", "mahalanobis")
OF_PAIRS = ("xqda(pairs=official)", "xqda(pairs=all)", "kissme")


def fitted(spec: str, units: People):
    metric = reidbench.build("metric", spec)
    metric.fit(*units)
    return metric


@pytest.mark.parametrize("name", FORMS)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 7), count=st.integers(10, 20))
@settings(max_examples=30)
def test_factors_order_as_the_distances_and_both_are_the_form(name, seed, dim, count):
    metric = fitted(f"{name}(pairs=all)", arrays.people(count, dim, seed=seed, each=(3, 7)))
    arrays.assert_a_form(metric, arrays.people(4, dim, seed=seed + 1).rows, arrays.people(9, dim, seed=seed + 2).rows)


@pytest.mark.parametrize(
    ("spec", "dim"),
    [*((f"xqda(pairs=all, lam=0.1, dims={dim})", dim) for dim in (1, 33, 129)), ("kissme(pairs=all, pca=17)", 33)],
)
def test_a_row_gives_the_same_in_company_and_alone(spec, dim):
    units = arrays.people(60, dim, seed=3)
    arrays.assert_rows_stand_alone(fitted(spec, units), units.rows)


@pytest.mark.parametrize("spec", ["xqda(pairs=all)", "kissme(pairs=all, pca=4)", "mahalanobis(pairs=all)"])
def test_metric_is_invariant_to_order_and_axes(spec):
    rows, pids, cams = arrays.people(20, 6, seed=4)
    form, order = (
        arrays.form_of(fitted(spec, People(rows, pids, cams))),
        np.random.default_rng(0).permutation(len(pids)),
    )
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(1).normal(size=(6, 6))))[0]
    for moved, expected in (
        (People(rows[order], pids[order], cams[order]), form),
        (People(rows + 50, pids * 7, 9 - cams), form),
        (People(rows @ turn, pids, cams), turn.T.numpy() @ form @ turn.numpy()),
    ):
        arrays.assert_close_forms(arrays.form_of(fitted(spec, moved)), expected, 1e-7)


@pytest.mark.parametrize("name", ["xqda", "kissme"])
def test_the_seed_chooses_the_pairs(name):
    first, again, other = (fitted(f"{name}(seed={seed})", arrays.people(40, 4, seed=2)) for seed in (5, 5, 6))
    assert again.map.equal(first.map)
    assert np.abs(arrays.form_of(other) - arrays.form_of(first)).max() > 1e-6 * np.abs(arrays.form_of(first)).max()


@pytest.mark.parametrize("name", [*FORMS, "null_space"])
def test_embeddings_that_do_not_fit_are_refused(name):
    rows, pids, cams = arrays.people(12, 6)
    for units, message in (
        (People(rows, pids[:3], cams), "training embeddings with 3 pids"),
        (People(rows, pids, cams[:3]), "training embeddings with 3 cams"),
        (
            People(rows.clone().index_fill_(0, torch.tensor(1), torch.nan), pids, cams),
            "embedding 1 is not finite",
        ),
        (People(rows, np.concatenate([[-1], pids[1:]]), cams), "embedding 0 has pid -1"),
        (People(rows[:0], pids[:0], cams[:0]), r"expected training embeddings \[n, D\]"),
        (People(rows.half(), pids, cams), r"got torch\.float16"),
    ):
        if name == "null_space" and message.endswith("cams"):
            continue  # it looks at identities alone
        with pytest.raises(DataError, match=f"metric {name}: .*{message}"):
            fitted(name, units)
    with pytest.raises(DataError, match=f"metric {name}: it is not fitted"):
        reidbench.build("metric", name).project(rows)
    with pytest.raises(DataError, match="embeddings have 3 dimensions, those that it was fitted on 6"):
        fitted(name if name == "null_space" else f"{name}(pairs=all)", People(rows, pids, cams)).project(rows[:, :3])


@pytest.mark.parametrize("spec", [*OF_PAIRS, "mahalanobis"])
def test_units_without_pairs_are_refused(spec):
    rows, pids, cams = arrays.people(6, 4)
    with pytest.raises(DataError, match=f"{spec.partition('(')[0]}: 0 positive"):
        fitted(spec, People(rows, pids, np.ones_like(cams)))
    if spec in OF_PAIRS:
        with pytest.raises(DataError, match="and 0 negative"):
            fitted(spec, People(rows, np.ones_like(pids), np.arange(len(pids))))


@pytest.mark.parametrize("name", FORMS)
def test_normalisation_is_the_default_and_an_option(name):
    built = [reidbench.build("metric", f"{name}({options})").normalize for options in ("", "normalize=false")]
    assert built == [True, False]
