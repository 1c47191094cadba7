"""What every built-in loss does: gradients, precision, NaN, refused options and batches, exact repetition."""

import math
import re
from dataclasses import replace

import pytest
import torch

from reidbench import OptionError, TrainingError, build
from tests.support.cases import cases
from tests.support.losses import COSINE, INFO, LABELS, built, gradient_of, random_embeddings
from tests.support.tiny_training import INFO as TRAINED
from tests.support.tiny_training import RECIPE, assert_exact, view_of

NAMES = [name.replace("centre", "centre(centre_learning_rate=0)") for name in LABELS]
SPECS = cases(__file__, "specs")  # without adasp's default, which has a test of its own


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_are_those_of_finite_differences(spec):
    loss, labels = built(spec)
    loss.double()
    embeddings = random_embeddings(len(labels), seed=2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: loss(rows, labels).total, embeddings)


@pytest.mark.parametrize("spec", SPECS)
def test_coincident_embeddings_have_a_finite_gradient(spec):
    loss, labels = built(spec)
    value, gradient = gradient_of(lambda rows: loss(rows, labels).total, torch.full((len(labels), 4), 0.7))
    assert value.isfinite()
    assert gradient.isfinite().all()
    if "margin=" in spec:
        assert value.item() == pytest.approx(math.log(2) if "soft" in spec else 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_computed_in_float32_or_better(name, dtype):
    loss, labels = built(name)
    embeddings = random_embeddings(len(labels)).to(dtype)
    value, gradient = gradient_of(lambda rows: loss(rows, labels).total, embeddings)
    assert gradient.dtype == dtype
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.equal(loss(embeddings.to(value.dtype), labels).total)
    assert {terms.dtype for terms in loss(embeddings, labels).per_item.values()} == {value.dtype}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(embeddings, labels).total.equal(value)


@pytest.mark.parametrize("spec", [*LABELS, "batch_hard(average=nonzero, margin=0.2)", "batch_all(average=nonzero)"])
def test_nan_reaches_the_loss(spec):
    loss, labels = built(spec)
    embeddings = random_embeddings(len(labels))
    embeddings[0, 0] = math.nan
    assert loss(embeddings, labels).total.isnan()


@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_nonzero_is_0_with_a_gradient_if_no_term_is_active(name):
    loss, _ = built(f"{name}(margin=0.2, average=nonzero)")
    embeddings = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    value, gradient = gradient_of(lambda rows: loss(rows, torch.tensor([0, 0, 1, 1])).total, embeddings)
    assert value.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LABELS)
def test_pooling_and_parameters(name):
    loss, _ = built(name)
    assert loss.metric == ("cosine" if name in COSINE else None)
    assert loss.pool == ("max" if name in ("classification", "identification_verification") else "mean")
    assert bool(loss.param_groups()) == name.endswith("cation")


@pytest.mark.parametrize("name", [name for name in LABELS if name.endswith("cation")])
def test_dropout_is_for_training_only(name):
    (loss, labels), (plain, _) = built(f"{name}(dropout=0.5)"), built(name)
    plain.load_state_dict(loss.state_dict())
    embeddings = random_embeddings(len(labels))
    assert not loss(embeddings, labels).total.equal(plain(embeddings, labels).total)
    loss.eval()
    assert loss(embeddings, labels).total.equal(plain(embeddings, labels).total)


@pytest.mark.parametrize("spec", cases(__file__, "options_out_of_range_are_refused"))
def test_options_out_of_range_are_refused(spec):
    name, option, value = re.split(r"[(=)]", spec)[:3]
    with pytest.raises(OptionError, match=f"{name}: option {option}: expected .*got {re.escape(value)}"):
        build("loss", spec, INFO)


@pytest.mark.parametrize(
    "name", ["batch_hard", "batch_all", "lifted", "lifted_generalized", *COSINE, "weighted_regularized_triplet"]
)
def test_batches_without_positives_or_negatives_are_refused(name):
    loss, _ = built(name)
    with pytest.raises(TrainingError, match=rf"{name}: no anchor has a positive.*4 images.*k=2"):
        loss(torch.randn(4, 2), torch.arange(4))
    with pytest.raises(TrainingError, match=rf"{name}: no anchor has a negative.*4 images.*p=2"):
        loss(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    "labels", [[0, 1, 0, 1, 1], [0, 1, 0, 2, 1, 0], [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 1, 1], [], [0]]
)
@pytest.mark.parametrize("spec", ["triplet", "triplet_ohm", "improved_triplet", "lifted(pairs=triplets)"])
def test_batches_that_are_not_stacked_triplets_are_refused(spec, labels):
    loss, _ = built(spec)
    with pytest.raises(TrainingError, match=rf"{spec.partition('(')[0]}: a batch must be B anchors"):
        loss(torch.randn(len(labels), 4), torch.tensor(labels, dtype=torch.int64))


@pytest.mark.parametrize("labels", [[1] * 9, list(range(9))])
@pytest.mark.parametrize(
    "spec",
    ["triplet", "lifted(pairs=triplets)", "improved_triplet", "triplet_ohm", "lmnn", "verification",
     "identification_verification"],
)  # fmt: skip
def test_data_without_positives_or_negatives_are_refused(spec, labels):
    loss, _ = built(spec)
    lacking = "negative" if labels[0] == labels[1] else "positive"
    with pytest.raises(
        TrainingError, match=rf"^{spec.partition('(')[0]}: none of the 9 training units has a {lacking}"
    ):
        loss.next_round(view_of(labels), 0)


@pytest.mark.parametrize("spec", cases(__file__, "a_training_is_repeated_and_resumed_exactly"))
def test_a_training_is_repeated_and_resumed_exactly(spec, tmp_path):
    recipe = RECIPE
    if spec.startswith("classification"):
        recipe = replace(RECIPE, batches="shuffled", optimizer="adadelta", learning_rate=1.0)
    assert_exact(lambda: build("loss", spec, TRAINED), tmp_path, recipe)
