"""pml/...: what the sources say is what the library does; every loss trains; the paper's terms; options and reasons."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import pickle
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reidbench_losses import pml, pml_page, pml_sources
from torch import Tensor

from reidbench import Loss, LossValue, OptionError, TrainInfo, TrainingError, build
from reidbench.plugins.catalogue import load
from reidbench.plugins.options import options_of
from tests.support.paths import CHECKOUT

INFO = TrainInfo(embedding_dim=6, num_pids=9)
NAMES = sorted(pml.declarations())
PAPER = "distance=LpDistance, normalize_embeddings=false, reducer=MeanReducer"
GIVEN = {"RankedListLoss": "(margin=0.4, Tn=2)"}  # the library gives these no default


def made(name: str, options: str = "", seed: int = 0) -> Loss:
    torch.manual_seed(seed)
    loss: Loss = build("loss", f"pml/{name}{options or GIVEN.get(name, '')}", INFO)
    return loss


def batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randperm(INFO.num_pids, generator=generator)[:4].repeat_interleave(4)
    # Spread around a centre: of the library's losses some take distances near the largest possible for an error.
    return torch.randn(16, INFO.embedding_dim, generator=generator, dtype=dtype) / 2 + 1, labels


def value_of(loss: Loss, rows: Tensor, labels: Tensor) -> LossValue:
    value = loss(rows, labels)
    assert isinstance(value, LossValue)
    return value


def trained(name: str, options: str = "", steps: int = 3) -> tuple[list[float], list[Tensor]]:
    """Train a linear map and the loss's own parameters as the loop does: seeded by the step."""
    loss = made(name, options)
    torch.manual_seed(1)
    network = torch.nn.Linear(5, INFO.embedding_dim)
    images = torch.randn(16, 5, generator=torch.Generator().manual_seed(2)) / 2 + 1
    labels = batch()[1]
    optimizer = torch.optim.Adam([{"params": list(network.parameters())}, *loss.param_groups()], lr=0.01)
    totals = []
    for step in range(steps):
        torch.manual_seed(step)
        value = value_of(loss, network(images), labels)
        optimizer.zero_grad()
        value.total.backward()
        optimizer.step()
        totals.append(value.total.item())
    return totals, [p.detach() for p in [*network.parameters(), *loss.parameters()]]


# --- what is offered -------------------------------------------------------------------------------------------------


def test_every_exported_loss_is_offered_or_has_a_reason() -> None:
    import pytorch_metric_learning.losses as installed

    exported = {name for name, what in vars(installed).items() if inspect.isclass(what)}
    offered = {entry.name.removeprefix("pml/") for entry in load().list_items("loss") if entry.name.startswith("pml/")}
    assert offered == set(NAMES)
    assert offered | set(pml.unbridged()) >= exported
    assert not offered & set(pml.unbridged())
    assert all(pml.unbridged().values())
    assert len(offered) >= 25


def constructor_arguments(kind: type) -> dict[str, Any]:
    """The constructor's arguments with their defaults, by the library's own classes at run time."""
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        if "__init__" in vars(owner) and owner.__module__.startswith("pytorch_metric_learning"):
            for name, parameter in list(inspect.signature(owner.__init__).parameters.items())[1:]:
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    found.setdefault(name, parameter.default)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_options_and_defaults_are_those_of_the_imported_classes(name: str) -> None:
    import pytorch_metric_learning.losses as installed

    kind = getattr(installed, name)
    declared = pml.declarations()[name]
    actual = constructor_arguments(kind)
    for option, parameter in declared.own.items():
        expected = actual[option]
        assert parameter.default == (None if expected is inspect.Parameter.empty else expected)
    left = {"embedding_regularizer", "embedding_reg_weight", "weight_regularizer", "weight_reg_weight"}
    left |= {"weight_init_func", "collect_stats", "distance", "reducer", "mat_based_loss"}
    assert set(actual) - left == {*declared.own, *declared.needs}

    loss = made(name)
    torch.manual_seed(0)
    given = {n: {"num_classes": 9}.get(n, 6) for n in declared.needs if actual[n] is inspect.Parameter.empty}
    assert isinstance(loss, pml.PmlLoss)
    rows, labels = batch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = kind(**given, **({"margin": 0.4, "Tn": 2} if name in GIVEN else {}))
        torch.manual_seed(0)
        expected = copy.deepcopy(plain)(rows, labels).item()
    torch.manual_seed(0)
    assert value_of(loss, rows, labels).total.item() == pytest.approx(expected, rel=1e-6)
    if declared.distance:
        distance = type(plain.distance).__name__
        assert declared.distance["distance"].default == distance
        for option in ("normalize_embeddings", "p", "power"):
            assert declared.distance[option].default == getattr(plain.distance, option)
    if declared.reducer:
        parts = getattr(plain.reducer, "reducers", {"": plain.reducer})
        names = {type(part).__name__ for part in (parts.values() if parts else [])}
        assert names == {declared.reducer["reducer"].default}


def test_miners_are_those_of_the_imported_classes() -> None:
    import pytorch_metric_learning.miners as installed

    exported = {name for name, what in vars(installed).items() if inspect.isclass(what)} - {"BaseMiner"}
    assert exported == set(pml.miners()) | (exported & set(pml.unbridged()))
    assert set(options_of(pml.miners()["BatchEasyHardMiner"])) == {
        "pos_strategy",
        "neg_strategy",
        "allowed_pos_range",
        "allowed_neg_range",
    }
    assert "pos_strategy" not in options_of(pml.miners()["BatchHardMiner"])  # its parent's, which it fixes


def test_listing_does_not_import_the_library() -> None:
    code = (
        "import sys; from reidbench.plugins.catalogue import load; "
        "names = [item.name for item in load().list_items('loss')]; "
        "assert 'pml/TripletMarginLoss' in names, load().plugins; assert 'pytorch_metric_learning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_trains_twice_alike_and_leaves_global_generators_alone(name: str) -> None:
    before = np.random.get_state()[1].tolist(), random.getstate()
    totals, weights = trained(name)
    again, weights_again = trained(name)
    assert totals == again
    assert all(map(torch.equal, weights, weights_again))
    assert np.isfinite(totals).all()
    assert len(set(totals)) > 1  # the weights moved, and the loss with them
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("miner", sorted(pml.miners()))
def test_every_miner_trains(miner: str) -> None:
    spec = (
        f"(margin=1, miner={miner}{'(pos_strategy=hard, neg_strategy=all)' if miner.startswith('BatchEasy') else ''})"
    )
    totals, _ = trained("TripletMarginLoss", spec)
    assert totals == trained("TripletMarginLoss", spec)[0]
    assert np.isfinite(totals).all()


def test_parameters_of_the_loss_go_to_the_optimizer_and_take_their_size_from_the_run() -> None:
    (group,) = made("ProxyAnchorLoss").param_groups()
    assert [tuple(p.shape) for p in group["params"]] == [(INFO.num_pids, INFO.embedding_dim)]  # type: ignore[attr-defined]
    assert made("TripletMarginLoss").param_groups() == []
    assert [tuple(p.shape) for p in made("MarginLoss", "(learn_beta=true, num_classes=train)").parameters()] == [(9,)]
    assert [tuple(p.shape) for p in made("MarginLoss", "(learn_beta=true)").parameters()] == [(1,)]


def test_what_the_library_remembers_between_steps_is_saved_and_restored() -> None:
    loss = made("DynamicSoftMarginLoss")
    rows, labels = batch()
    value_of(loss, rows.requires_grad_(), labels).total.backward()
    assert any("hist_" in name for name in loss.state_dict())
    resumed = made("DynamicSoftMarginLoss")
    resumed.load_state_dict(loss.state_dict())
    rows, labels = batch(1)
    after = value_of(loss, rows, labels).total
    assert value_of(resumed, rows, labels).total.equal(after)
    assert not value_of(made("DynamicSoftMarginLoss"), rows, labels).total.equal(after)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_widened_even_under_autocast_and_losses_can_be_pickled(name: str) -> None:
    rows, labels = batch()
    half = rows.to(torch.bfloat16)
    plain, mixed = made(name), made(name)
    torch.manual_seed(3)
    expected = value_of(plain, half.float(), labels).total
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_of(mixed, half, labels).total
    assert found.dtype == torch.float32
    assert found.equal(expected)
    copied = pickle.load(io.BytesIO(pickle.dumps(mixed)))
    torch.manual_seed(4)
    expected = value_of(mixed, rows, labels).total
    torch.manual_seed(4)
    assert value_of(copied, rows, labels).total.equal(expected)


# --- the paper's terms -----------------------------------------------------------------------------------------------


def slow_triplets(rows: Tensor, labels: Tensor, margin: float | str) -> Tensor:
    """Eq. 6 by loops: all valid triplets, Euclidean distances."""
    terms = []
    for a, p, n in itertools.product(range(len(rows)), repeat=3):
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
            difference = (rows[a] - rows[p]).square().sum().sqrt() - (rows[a] - rows[n]).square().sum().sqrt()
            terms.append(torch.log1p(difference.exp()) if margin == "soft" else torch.relu(float(margin) + difference))
    return torch.stack(terms)


@pytest.mark.parametrize("margin", ["soft", 0.2, 1.0])
@pytest.mark.parametrize("average", ["all", "nonzero"])
def test_triplet_margin_loss_set_to_the_papers_terms_is_batch_all(margin: float | str, average: str) -> None:
    rows, labels = batch(5, torch.float64)
    own = "margin=0, smooth_loss=true" if margin == "soft" else f"margin={margin}"
    options = PAPER if average == "all" else PAPER.replace("MeanReducer", "AvgNonZeroReducer")
    leaf = rows.clone().requires_grad_()
    value = value_of(made("TripletMarginLoss", f"({own}, {options})"), leaf, labels)
    value.total.backward()

    slow = rows.clone().requires_grad_()
    terms = slow_triplets(slow, labels, margin)
    expected = terms.mean() if average == "all" else terms[terms > 0].mean()
    expected.backward()
    assert value.total.dtype == torch.float64
    assert value.total.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(leaf.grad, slow.grad, rtol=0, atol=1e-9)
    torch.testing.assert_close(value.per_item["loss"].sort().values, terms.sort().values, rtol=0, atol=1e-9)

    if "batch_all" in [entry.name for entry in load().list_items("loss")]:
        ours = build("loss", f"batch_all(margin={margin}, average={average})", INFO)(rows, labels)
        assert ours.total.item() == pytest.approx(value.total.item(), abs=1e-6)


def test_batch_hard_miner_measures_with_the_distance_of_the_loss() -> None:
    rows, labels = batch(6, torch.float64)
    spec = f"(margin=0, smooth_loss=true, miner=BatchHardMiner, {PAPER})"
    ours = build("loss", "batch_hard", INFO)(rows, labels).total
    assert value_of(made("TripletMarginLoss", spec), rows, labels).total.item() == pytest.approx(ours.item(), abs=1e-9)
    normalised = spec.replace("normalize_embeddings=false", "normalize_embeddings=true")
    unit = torch.nn.functional.normalize(rows)
    ours = build("loss", "batch_hard", INFO)(unit, labels).total
    found = value_of(made("TripletMarginLoss", normalised), rows, labels).total.item()
    assert found == pytest.approx(ours.item(), abs=1e-9)


def test_histogram_loss_is_its_definition() -> None:
    """Sum over bins of the negatives' density times the cumulated density of the positives, by loops."""
    rows, labels = batch(9, torch.float64)
    unit = torch.nn.functional.normalize(rows)
    bins, width = 20, 0.1
    density = {True: [0.0] * (bins + 1), False: [0.0] * (bins + 1)}
    for a, b in itertools.combinations(range(16), 2):
        place = (float(unit[a] @ unit[b]) + 1) / width
        left = int(place)
        density[bool(labels[a] == labels[b])][left] += 1 - (place - left)
        density[bool(labels[a] == labels[b])][left + 1] += place - left
    positive, negative = (np.array(density[same]) / sum(density[same]) for same in (True, False))
    found = value_of(made("HistogramLoss", f"(n_bins={bins})"), rows, labels).total.item()
    assert found == pytest.approx(float((negative * positive.cumsum()).sum()), abs=1e-6)  # float32 bins


def test_a_distance_with_a_power_is_squared_and_reducers_differ() -> None:
    rows, labels = batch(7, torch.float64)
    spec = "(margin=1, normalize_embeddings=false, power=2, reducer={})"
    squared = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    same = labels[:, None] == labels[None, :]
    terms = torch.relu(1 + squared[:, :, None] - squared[:, None, :])
    terms = terms[(same & ~torch.eye(16, dtype=torch.bool))[:, :, None] & ~same[:, None, :]]
    for reducer, expected in [("SumReducer", terms.sum()), ("MeanReducer", terms.mean())]:
        found = value_of(made("TripletMarginLoss", spec.format(reducer)), rows, labels).total
        assert found.item() == pytest.approx(expected.item(), rel=1e-9)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_reads_back_as_it_was_written(name: str) -> None:
    resolved = load().resolve("loss", f"pml/{name}{GIVEN.get(name, '')}")
    again = load().resolve("loss", resolved.text)
    assert (again.text, again.identity) == (resolved.text, resolved.identity)
    assert isinstance(again.build(INFO), Loss)


def test_a_miner_with_options_reads_back() -> None:
    text = "pml/TripletMarginLoss(miner=TripletMarginMiner(margin=0.1, type_of_triplets=semihard))"
    resolved = load().resolve("loss", text)
    miner = load().resolve("loss", resolved.text).build(INFO).miner
    assert (miner.margin, miner.type_of_triplets) == (0.1, "semihard")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pml/TripletMarginLos", 'did you mean "pml/TripletMarginLoss"'),
        ("pml/TripletMarginLoss(margn=1)", 'no option "margn"; did you mean "margin"'),
        ("pml/TripletMarginLoss(swap=1)", "expected true or false"),
        ("pml/TripletMarginLoss(reducer=MeanReduce)", '"MeanReducer"'),
        ("pml/TripletMarginLoss(distance=LpDistanc)", '"LpDistance"'),
        ("pml/TripletMarginLoss(miner=BatchHrdMiner)", 'no miner "BatchHrdMiner"; did you mean "BatchHardMiner"'),
        ("pml/TripletMarginLoss(miner=PairMarginMiner(neg_margn=1))", 'did you mean "neg_margin"'),
        ("pml/TripletMarginLoss(miner=BatchEasyHardMiner(pos_strategy=harder))", "pos_strategy must be one of"),
        ("pml/TripletMarginLoss(distance=CosineSimilarity, normalize_embeddings=false)", "normalize_embeddings=True"),
        ("pml/CircleLoss(distance=LpDistance)", "CosineSimilarity"),
        ("pml/PNPLoss(variant=X)", "variant=X"),
        ("pml/PNPLoss(miner=BatchHardMiner)", 'no option "miner"'),
        ("pml/RankedListLoss(margin=1)", "no default for Tn"),
        ("pml/VICRegLoss", "no loss"),
    ],
)
def test_mistakes_are_named(spec: str, said: str) -> None:
    with pytest.raises(OptionError) as error:
        build("loss", spec, INFO)
    assert said in str(error.value)
    assert "pml/" in str(error.value)


def test_a_batch_that_the_library_cannot_take_is_named() -> None:
    loss = made("TripletMarginLoss", "(reducer=DivisorReducer)")
    with pytest.raises(TrainingError, match=r"pml/TripletMarginLoss: .* 16 images of 4 identities: KeyError"):
        loss(*batch())


# --- what is refused, and the page -----------------------------------------------------------------------------------


def test_smooth_ap_is_still_wrong_where_p_is_not_k() -> None:
    from pytorch_metric_learning.losses import SmoothAPLoss

    def perfect(p: int, k: int) -> float:
        labels = torch.arange(p).repeat_interleave(k)
        return float(SmoothAPLoss()(torch.nn.functional.one_hot(labels, 9).float(), labels))

    assert perfect(4, 4) == 0
    assert perfect(8, 4) > 0.1, "it was repaired: take it out of REFUSED"


def test_instance_loss_still_draws_images_to_others() -> None:
    from pytorch_metric_learning.losses import InstanceLoss

    labels = torch.arange(8).repeat_interleave(4)
    assert float(InstanceLoss()(torch.nn.functional.one_hot(labels, 9).float(), labels)) > 10, "look at REFUSED"


def test_the_queue_of_cross_batch_memory_is_still_no_state() -> None:
    from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory

    memory = CrossBatchMemory(ContrastiveLoss(), 6, 32)
    memory(*batch())
    assert memory.queue_idx == 16
    assert set(memory.state_dict()) == {"embedding_memory", "label_memory"}, "it was repaired: look at REFUSED"


def test_packaged_triplets_still_read_positions() -> None:
    from pytorch_metric_learning.miners import EmbeddingsAlreadyPackagedAsTriplets

    rows, labels = batch()
    anchors, positives, _ = EmbeddingsAlreadyPackagedAsTriplets()(rows[:15], labels[:15])
    assert not labels[anchors].equal(labels[positives])


def test_losses_that_refuse_labels_do() -> None:
    import pytorch_metric_learning.losses as installed

    without: dict[str, Callable[[], Any]] = {
        "ManifoldLoss": lambda: installed.ManifoldLoss(l=6, K=4),
        "VICRegLoss": installed.VICRegLoss,
    }
    assert {name for name, reason in pml.unbridged().items() if "labels" in reason} == set(without)
    for make in without.values():
        with pytest.raises(ValueError, match="labels"):
            make()(*batch())


def test_order_dependence_is_as_the_page_says() -> None:
    rows, labels = batch(8, torch.float64)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    dependent = set()
    for name in NAMES:
        plain, shuffled = made(name), made(name)
        torch.manual_seed(0)
        expected = value_of(plain, rows, labels).total.item()
        torch.manual_seed(0)
        if value_of(shuffled, rows[order], labels[order]).total.item() != pytest.approx(expected, rel=1e-6):
            dependent.add(name)
    page = (CHECKOUT / "docs" / "losses" / "pml.md").read_text()
    (sentence,) = re.findall(r"Depend on the order of the batch: (.*?)\.", page, re.DOTALL)
    assert dependent == set(re.findall(r"`(\w+)`", sentence))


def test_the_page_holds_the_tables_of_the_installed_version() -> None:
    page = (CHECKOUT / "docs" / "losses" / "pml.md").read_text()
    written = re.search(r"version ([\d.]+)", page)
    assert written
    if written[1] != pml_sources.library().version:
        pytest.skip(f"the page is of version {written[1]}, installed is {pml_sources.library().version}")
    assert pml_page.tables() in page
