"""The loop, written out: each step's images, labels, rates, modes and random numbers; the values of a loss."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from reidbench.errors import TrainingError
from reidbench.images.pixel_file import open_pixels
from reidbench.plugins.interfaces import Loss, TrainInfo
from reidbench.plugins.weighted_sum import WeightedSum
from reidbench.training.checkpoint import WEIGHTS, read_summary
from reidbench.training.loop import evaluate_loss
from reidbench.training.recipe import Recipe
from reidbench.training.sampler import pk_round
from reidbench.utils.machine import local_machine
from reidbench.utils.random_streams import stream, torch_seed
from tests.support.batches import training_batch
from tests.support.logs import assert_same_log
from tests.support.loop_training import RECIPE, SEED, SORTED_PIDS, Fixed, Head, Sampling, assert_same_state, build, fit
from tests.support.tiny_training import Net


def decoded(samples, height, width):
    return open_pixels(samples, height, width, local_machine(device="cpu", threads=1))


# --- steps -----------------------------------------------------------------------------------------------------------
# The schedule of RECIPE: constant for three updates, then a decay that reaches a thousandth after three more.
RATES = [1e-2, 1e-2, 1e-2, 1e-2, 1e-2 * 0.001 ** (1 / 3), 1e-2 * 0.001 ** (2 / 3)]
BETAS = [(0.9, 0.999)] * 3 + [(0.5, 0.999)] * 3
OWN_RATE = 3e-3  # 0.3 of the recipe's


def by_hand(net, loss, samples):
    """Train with RECIPE, written out step by step; the temperature has a learning rate of its own."""
    label_of = {pid: label for label, pid in enumerate(sorted(set(samples.pids.tolist())))}
    labels = np.array([label_of[pid] for pid in samples.pids.tolist()])
    pixels = decoded(samples, 18, 9)
    optimizer = torch.optim.Adam(
        [{"params": list(net.parameters())}, {"params": list(loss.head.parameters())}, {"params": [loss.temperature]}]
    )
    net.train()
    loss.train()
    # Four identities, two in a batch: every round is two steps.
    for step in range(6):
        if step % 2 == 0:
            batches = pk_round(labels, 2, 2, stream(SEED, "round", step // 2))
        units = batches[step % 2]
        torch.manual_seed(torch_seed(SEED, "step", step, 0))
        images = training_batch(pixels, samples, units, net.preprocess, flip=True, seed=SEED, step=step)
        optimizer.zero_grad()
        loss(net(images), torch.from_numpy(labels[units])).mean().backward()
        for group, ratio in zip(optimizer.param_groups, (1, 1, OWN_RATE / 1e-2), strict=True):
            group["lr"] = RATES[step] * ratio
            group["betas"] = BETAS[step]
        optimizer.step()


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_training_equals_the_loop_written_out_bit_for_bit(dropout, samples, tmp_path):
    net, loss = build(dropout=dropout, own_rate=OWN_RATE)
    fit(net, loss, samples, tmp_path)
    net_by_hand, loss_by_hand = build(dropout=dropout, own_rate=OWN_RATE)
    before = net_by_hand.linear.weight.clone()
    by_hand(net_by_hand, loss_by_hand, samples)
    assert not torch.equal(net.linear.weight, before)
    assert_same_state(net, net_by_hand)
    assert_same_state(loss, loss_by_hand)


class Noting(Fixed):
    """Notes the embeddings that it gets."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.embeddings = embeddings.detach()
        return super().forward(embeddings, labels)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_frames_of_a_unit_are_pooled_before_the_loss(pool, samples, tmp_path):
    units = replace(samples, pids=samples.pids[::3], cams=samples.cams[::3], starts=samples.starts[::3])
    (net, loss), (same, _) = build(Noting), build()
    fit(net, loss, units, tmp_path, recipe=replace(RECIPE, steps=1, decay_start=1, frames=3, frame_pool=pool))
    rows = same.train()(net.batches[0]).view(4, 3, -1)
    torch.testing.assert_close(loss.embeddings, rows.amax(dim=1) if pool == "max" else rows.mean(dim=1))
    assert loss.labels[0].tolist() == [SORTED_PIDS.index(pid) for pid in units.pids]


class TwoNames(Net):
    feature_sizes: Mapping[str, int] = {"pooled": 4}

    def training_features(self, images):
        return {"pooled": (embedding := self(images)), "embedding": embedding}


@pytest.mark.parametrize("changes", [{}, {"frames": 3, "channels_last": True}], ids=str)
def test_two_names_of_one_feature_train_as_one_bit_for_bit(changes, samples, tmp_path):
    units = replace(samples, pids=samples.pids[::3], cams=samples.cams[::3], starts=samples.starts[::3])
    states = []
    for make, features in ((Net, ["embedding"] * 2), (TwoNames, ["pooled", "embedding"])):
        torch.manual_seed(1)
        net, info = make(dropout=0.4), TrainInfo(4, 4, feature_sizes={"embedding": 4, "pooled": 4})
        loss = WeightedSum([("a", 1.0, Head()), ("b", 0.5, Head())], features, info)
        fit(net, loss, units if changes else samples, tmp_path / make.__name__, recipe=replace(RECIPE, k=1, **changes))
        states.append(nn.ModuleList([net, loss]))
    assert_same_state(*states)
    assert_same_log(tmp_path / "Net", tmp_path / "TwoNames")


def test_a_groups_own_betas_do_not_change(samples, tmp_path):
    class Slow(Head):
        def param_groups(self) -> list[dict[str, object]]:
            return [{"params": list(self.head.parameters()), "betas": (0.7, 0.95)}, {"params": [self.temperature]}]

    net, loss = build(Slow)
    seen: list[list[tuple[float, float]]] = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([group["betas"] for group in optimizer.param_groups])
    )
    try:
        fit(net, loss, samples, tmp_path)
    finally:
        hook.remove()
    assert seen == [[betas, (0.7, 0.95), betas] for betas in BETAS]


def test_parameters_without_gradient_do_not_change(samples, tmp_path):
    net, loss = build()
    net.convolution.weight.requires_grad_(False)
    loss.temperature.requires_grad_(False)
    before = net.convolution.weight.clone()
    fit(net, loss, samples, tmp_path)
    assert torch.equal(net.convolution.weight, before)
    assert loss.temperature.item() == 1.0


# --- modes -----------------------------------------------------------------------------------------------------------


class Drops(Fixed):
    """A loss with a dropout that embeds units before every round, as mining losses do."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.dropped: list[int] = []
        self.embedded: list[Tensor] = []

    def next_round(self, view, number):
        self.embedded.append(view.embed(np.array([1, 0])))
        return super().next_round(view, number)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.dropped.append(int((self.dropout(torch.ones(1000)) == 0).sum()))
        return super().forward(embeddings, labels)


def test_training_mode_also_after_embedding(samples, tmp_path):
    net, loss = build(Drops)
    net.eval()
    loss.eval()
    fit(net, loss, samples, tmp_path)
    assert int(net.norm.num_batches_tracked) == RECIPE.steps, "training moves the statistics, embedding does not"
    assert (net.norm.running_mean != 0).all()
    assert len(loss.dropped) == RECIPE.steps
    assert all(300 < dropped < 700 for dropped in loss.dropped)


def test_a_loss_embeds_in_evaluation_mode_without_gradient(samples, tmp_path):
    net, loss = build(Drops)
    fit(net, loss, samples, tmp_path)
    fresh, _ = build(Drops)
    fresh.eval()
    centre = decoded(samples, 18, 9).pixels[[1, 0], 1:17, 0:8]
    expected = fresh(centre.permute(0, 3, 1, 2).float() / 255)
    assert torch.allclose(loss.embedded[0], expected, atol=1e-5)
    assert not any(embedded.requires_grad for embedded in loss.embedded)
    assert not torch.allclose(loss.embedded[0], loss.embedded[-1], atol=1e-4), "the present network embeds"


# --- images and labels -----------------------------------------------------------------------------------------------


def images_of(samples, folder, **changes):
    """Return the images of every step of a training whose batches are all alike."""
    recipe = Recipe(**{**vars(RECIPE), **{name: v for name, v in changes.items() if name != "seed"}})
    net, loss = build(Fixed)
    fit(net, loss, samples, folder, recipe=recipe, seed=changes.get("seed", SEED))
    return net.batches


@pytest.mark.parametrize("kind", ["crop", "flip"])
def test_every_step_and_seed_has_its_own_augmentation(kind, samples, tmp_path):
    only = {"crop": kind == "crop", "flip": kind == "flip"}
    first = images_of(samples, tmp_path / "first", **only)
    again = images_of(samples, tmp_path / "again", **only)
    other = images_of(samples, tmp_path / "other", seed=SEED + 1, **only)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert all(not torch.equal(first[i], first[j]) for i in range(RECIPE.steps) for j in range(i))


def test_without_crop_and_flip_images_do_not_change(samples, tmp_path):
    images = images_of(samples, tmp_path, crop=False, flip=False)
    pixels = decoded(samples, 16, 8).pixels.permute(0, 3, 1, 2).float() / 255
    assert len(images) == RECIPE.steps
    for batch in images:
        torch.testing.assert_close(batch, pixels, rtol=0, atol=1e-6)


def test_labels_count_the_sorted_identities(samples, tmp_path):
    net, loss = build(Fixed)
    fit(net, loss, samples, tmp_path)
    expected = [SORTED_PIDS.index(pid) for pid in samples.pids.tolist()]
    assert sorted(set(expected)) == [0, 1, 2, 3]
    for labels in loss.labels:
        assert labels.dtype == torch.int64
        assert labels.tolist() == expected
    for view in loss.views:
        assert view.labels.tolist() == expected
        assert (view.p, view.k) == (RECIPE.p, RECIPE.k)


def test_the_label_of_a_unit_without_identity(samples, tmp_path):
    class Noting(Fixed):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            self.labels.append(labels)
            return embeddings.square().sum(1)

    net, loss = build(Noting)
    fit(net, loss, replace(samples, pids=np.where(samples.pids == SORTED_PIDS[1], 0, samples.pids)), tmp_path)
    expected = [(0, -1, 1, 2)[SORTED_PIDS.index(pid)] for pid in samples.pids.tolist()]
    assert loss.labels[0].tolist() == loss.views[0].labels.tolist() == expected


# --- random numbers --------------------------------------------------------------------------------------------------


def sampled(samples, folder, greedy, seed=SEED):
    net, loss = build(Sampling, greedy=greedy)
    fit(net, loss, samples, folder, seed=seed)
    return loss


def test_random_numbers_follow_from_seed_and_round_or_step(samples, tmp_path):
    modest, greedy = (sampled(samples, tmp_path / str(greedy), greedy) for greedy in (False, True))
    assert len(modest.of_rounds) == 6
    assert len(greedy.of_rounds) == 3, "its rounds are twice as long, so they begin at other steps"
    assert modest.of_rounds[:3] == greedy.of_rounds
    assert modest.of_steps == greedy.of_steps
    for numbers in zip(*modest.of_rounds, strict=True):
        assert len(set(numbers)) == len(numbers), "every round has its own numbers"
    assert len(set(modest.of_steps)) == 6
    other = sampled(samples, tmp_path / "other", False, seed=SEED + 1)
    for own, others in (*zip(modest.of_rounds, other.of_rounds, strict=True),):
        assert own[0] != others[0]
        assert own[1] != others[1]
    assert not set(modest.of_steps) & set(other.of_steps)


def test_the_callers_generators_do_not_reach_a_training(samples, tmp_path):
    one = sampled(samples, tmp_path / "one", False)
    net, loss = build(Sampling)
    torch.rand(17)
    np.random.default_rng().random()
    fit(net, loss, samples, tmp_path / "two")
    assert (loss.of_rounds, loss.of_steps) == (one.of_rounds, one.of_steps)


# --- losses that are not finite, values of a loss --------------------------------------------------------------------


class Diverges(Head):
    """Is not finite from a certain step on."""

    def __init__(self, at_step: int, value: float) -> None:
        super().__init__()
        self.at_step, self.value = at_step, value

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        terms = super().forward(embeddings, labels)
        return terms * self.value if int(self.calls) > self.at_step else terms


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named(value, samples, tmp_path):
    net, loss = build(Diverges, at_step=4, value=value)
    with pytest.raises(TrainingError) as caught:
        fit(net, loss, samples, tmp_path)
    identities = sorted({SORTED_PIDS[label] for label in loss.labels[-1].tolist()})
    assert len(identities) == RECIPE.p
    for part in (f"Diverges ({__name__}) is {value} at step 4 ", "learning rate 0.001", f"identities {identities}"):
        assert part in str(caught.value)
    assert len(loss.labels) == 5, "no further step"
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters()), "no update from it"
    assert read_summary(tmp_path) is None
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("given", "computed"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_the_loss_gets_float32_or_float64(given, computed):
    seen = []

    class Watch(Loss):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            seen.append(embeddings.dtype)
            return embeddings.sum(1)

    value = evaluate_loss(Watch(), torch.ones(3, 2, dtype=getattr(torch, given)), torch.zeros(3, dtype=torch.int64))
    assert seen == [value.total.dtype] == [getattr(torch, computed)]
