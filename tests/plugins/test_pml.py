"""pml/...: the signature table, trainings, the paper's terms, options, and why some losses are not available."""

import io
import pickle
import random
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as installed_losses
from pytorch_metric_learning import miners as installed_miners
from reidbench_losses import pml, pml_signatures
from reidbench_losses.pml_ranges import RANGES
from reidbench_losses.pml_signatures import PAGE, batch, classes, make, not_available

from reidbench import Loss, OptionError, TrainInfo, TrainingError, build
from reidbench.plugins.catalogue import load
from tests.support.cases import cases
from tests.support.paths import CHECKOUT

INFO = TrainInfo(embedding_dim=6, num_pids=9)
NAMES = sorted(pml.signatures()["losses"])
PAPER = "distance=LpDistance, normalize_embeddings=false, reducer=MeanReducer"
GIVEN = {"RankedListLoss": "(margin=0.4, Tn=2)"}  # the library gives these no default


def made(name: str, options: str = "", seed: int = 0) -> Loss:
    torch.manual_seed(seed)
    return build("loss", f"pml/{name}{options or GIVEN.get(name, '')}", INFO)


def trained(name, options="", steps=3):
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
        value = loss(network(images), labels)
        optimizer.zero_grad()
        value.total.backward()
        optimizer.step()
        totals.append(value.total.item())
    return totals, [p.detach() for p in [*network.parameters(), *loss.parameters()]]


# --- the table -------------------------------------------------------------------------------------------------------


def test_table_and_page_are_those_of_the_installed_library(tmp_path, monkeypatch):
    table, page = pml.TABLE.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")
    outdated = tmp_path / "pml.md"
    outdated.write_text(re.sub(r"(?m)^\| `(AngularLoss|AngularMiner)`.*\n", "", page), encoding="utf-8")
    monkeypatch.setattr(pml_signatures, "PAGE", outdated)
    monkeypatch.setattr(pml_signatures, "TABLE", tmp_path / "table.json")
    pml_signatures.main()
    reason = "run python -m reidbench_losses.pml_signatures"
    assert (tmp_path / "table.json").read_text(encoding="utf-8") == table, reason
    assert outdated.read_text(encoding="utf-8").endswith(page[page.index("| loss |") :]), reason


def test_rewriting_needs_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(pml_signatures, "PAGE", tmp_path / "pml.md")
    with pytest.raises(SystemExit, match=r"pml\.md does not exist: .* checkout"):
        pml_signatures.main()


def test_every_exported_class_is_available_or_has_a_reason():
    exported = set(classes(installed_losses)) | set(classes(installed_miners)) - {"BaseMiner"}
    assert exported == {*NAMES, *pml.miners(), *not_available()}
    assert not {*NAMES, *pml.miners()} & not_available()
    offered = {entry.name.removeprefix("pml/") for entry in load().list_items("loss") if entry.name.startswith("pml/")}
    assert offered == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_give_the_value_of_the_librarys_defaults(name):
    rows, labels = batch()
    loss = made(name)
    torch.manual_seed(0)
    value = loss(rows, labels).total.item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = make(getattr(installed_losses, name))
        torch.manual_seed(0)
        assert value == pytest.approx(plain(rows, labels).item(), rel=1e-6)


def test_listing_does_not_import_the_library():
    code = (
        "import sys; from reidbench.plugins.catalogue import load; "
        "names = [item.name for item in load().list_items('loss')]; "
        "assert 'pml/TripletMarginLoss' in names, load().plugins; assert 'pytorch_metric_learning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_trains_repeatably(name):
    before = np.random.get_state()[1].tolist(), random.getstate()
    totals, weights = trained(name)
    again, weights_again = trained(name)
    assert totals == again
    assert all(map(torch.equal, weights, weights_again))
    assert np.isfinite(totals).all()
    assert len(set(totals)) > 1  # the weights moved, and the loss with them
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("miner", sorted(pml.miners()))
def test_every_miner_trains(miner):
    spec = (
        f"(margin=1, miner={miner}{'(pos_strategy=hard, neg_strategy=all)' if miner.startswith('BatchEasy') else ''})"
    )
    totals, _ = trained("TripletMarginLoss", spec)
    assert totals == trained("TripletMarginLoss", spec)[0]
    assert np.isfinite(totals).all()


def test_proxies_are_trained_and_sized_by_the_run():
    (group,) = made("ProxyAnchorLoss").param_groups()
    assert [tuple(p.shape) for p in group["params"]] == [(INFO.num_pids, INFO.embedding_dim)]
    assert made("TripletMarginLoss").param_groups() == []
    assert [tuple(p.shape) for p in made("MarginLoss", "(learn_beta=true, num_classes=train)").parameters()] == [(9,)]
    assert [tuple(p.shape) for p in made("MarginLoss", "(learn_beta=true)").parameters()] == [(1,)]


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_widened_and_losses_pickle(name):
    rows, labels = batch()
    half = rows.to(torch.bfloat16)
    plain, mixed = made(name), made(name)
    torch.manual_seed(3)
    expected = plain(half.float(), labels).total
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = mixed(half, labels).total
    assert total.dtype == torch.float32
    assert total.equal(expected)
    copied = pickle.load(io.BytesIO(pickle.dumps(mixed)))
    torch.manual_seed(4)
    expected = mixed(rows, labels).total
    torch.manual_seed(4)
    assert copied(rows, labels).total.equal(expected)


# --- the paper's terms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", ["soft", 0.2, 1.0])
@pytest.mark.parametrize("average", ["all", "nonzero"])
def test_triplet_margin_loss_can_be_batch_all(margin, average):
    rows, labels = batch(5, torch.float64)
    own = "margin=0, smooth_loss=true" if margin == "soft" else f"margin={margin}"
    options = PAPER if average == "all" else PAPER.replace("MeanReducer", "AvgNonZeroReducer")
    theirs = made("TripletMarginLoss", f"({own}, {options})")
    ours: Loss = build("loss", f"batch_all(margin={margin}, average={average})", INFO)
    values, gradients = [], []
    for loss in (theirs, ours):
        leaf = rows.clone().requires_grad_()
        values.append(loss(leaf, labels))
        gradients += torch.autograd.grad(values[-1].total, leaf)
    torch.testing.assert_close(values[0].total, values[1].total, rtol=0, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)
    terms, expected = (value.per_item["loss"].sort().values for value in values)
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-9)


def test_the_miner_uses_the_distance_of_the_loss():
    rows, labels = batch(6, torch.float64)
    spec = f"(margin=0, smooth_loss=true, miner=BatchHardMiner, {PAPER})"
    ours = build("loss", "batch_hard", INFO)(rows, labels).total
    assert made("TripletMarginLoss", spec)(rows, labels).total.item() == pytest.approx(ours.item(), abs=1e-9)
    normalised = spec.replace("normalize_embeddings=false", "normalize_embeddings=true")
    unit = torch.nn.functional.normalize(rows)
    ours = build("loss", "batch_hard", INFO)(unit, labels).total
    total = made("TripletMarginLoss", normalised)(rows, labels).total.item()
    assert total == pytest.approx(ours.item(), abs=1e-9)


def test_a_distance_with_a_power_is_squared_and_reducers_differ():
    rows, labels = batch(7, torch.float64)
    spec = "(margin=1, normalize_embeddings=false, power=2, reducer={})"
    squared = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    same = labels[:, None] == labels[None, :]
    terms = torch.relu(1 + squared[:, :, None] - squared[:, None, :])
    terms = terms[(same & ~torch.eye(16, dtype=torch.bool))[:, :, None] & ~same[:, None, :]]
    for reducer, expected in [("SumReducer", terms.sum()), ("MeanReducer", terms.mean())]:
        total = made("TripletMarginLoss", spec.format(reducer))(rows, labels).total
        assert total.item() == pytest.approx(expected.item(), rel=1e-9)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_spec_resolves_to_itself(name):
    resolved = load().resolve("loss", f"pml/{name}{GIVEN.get(name, '')}")
    again = load().resolve("loss", resolved.text)
    assert (again.text, again.identity) == (resolved.text, resolved.identity)
    assert isinstance(again.build(INFO), Loss)


def test_a_miner_with_options_resolves_to_itself():
    text = "pml/TripletMarginLoss(miner=TripletMarginMiner(margin=0.1, type_of_triplets=semihard))"
    resolved = load().resolve("loss", text)
    miner = load().resolve("loss", resolved.text).build(INFO).miner
    assert (miner.margin, miner.type_of_triplets) == (0.1, "semihard")


@pytest.mark.parametrize(("spec", "message"), cases(__file__, "mistakes_are_named"))
def test_mistakes_are_named(spec, message):
    with pytest.raises(OptionError) as error:
        build("loss", spec, INFO)
    assert message in str(error.value)
    assert "pml/" in str(error.value)


def test_a_batch_that_the_library_refuses_is_an_error():
    loss = made("TripletMarginLoss", "(reducer=DivisorReducer)")
    with pytest.raises(TrainingError, match=r"pml/TripletMarginLoss: .* 16 images of 4 identities: KeyError"):
        loss(*batch())


# --- what is not available, and the page -----------------------------------------------------------------------------


def test_dependence_on_batch_order_is_as_documented():
    rows, labels = batch(8, torch.float64)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    dependent = set()
    for name in NAMES:
        plain, shuffled = made(name), made(name)
        torch.manual_seed(0)
        expected = plain(rows, labels).total.item()
        torch.manual_seed(0)
        if shuffled(rows[order], labels[order]).total.item() != pytest.approx(expected, rel=1e-6):
            dependent.add(name)
    page = PAGE.read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Depend on the order of the batch: (.*?)\.", page, re.DOTALL)
    assert dependent == set(re.findall(r"`(\w+)`", sentence))


def test_every_range_is_that_of_an_option():
    declared = {item.name: item.options for item in load().list_items("loss")}
    for loss, ranges in RANGES.items():
        for option in ranges:
            assert declared[f"pml/{loss}"][option].searched, f"{loss} has no option {option}"
