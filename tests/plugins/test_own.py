"""Networks that compare pairs of images: loss, metric and runs, and what they refuse."""

import importlib
import itertools
import re

import numpy as np
import pytest
import torch
from reidbench_backbones.gated_siamese import GatedSiamese
from reidbench_losses.contrastive import Contrastive
from reidbench_metrics.own import Own
from safetensors.torch import load_file
from torch import Tensor, distributed

import reidbench
from reidbench import Backbone, OptionError, TrainInfo
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.errors import ContractError
from reidbench.runs.export import describe_network, load_network
from reidbench.testing import check_backbone, check_loss, check_metric
from reidbench.training.build import build_backbone
from reidbench.training.checkpoint import WEIGHTS
from reidbench.training.distributed import add_gradients
from reidbench.utils.processes import World
from tests.support.cases import cases
from tests.support.jobs import job, plan_of, run
from tests.support.paths import CHECKOUT
from tests.support.rankings import rank_units

BACKBONE = "gated_siamese(channels=0.1, height=64, width=32, features=8)"
PAIRS = {"protocol": "synthetic(identities=40, views=original)", "backbone": BACKBONE, "loss": "contrastive"}
STARTS = np.array([0, 1, 4, 5])


def own(shortlist: int | None = None) -> tuple[Own, Tensor, Tensor]:
    """Return the metric with a network, five rows of three queries, and a gallery of 20 rows."""
    torch.manual_seed(0)
    metric = Own(shortlist=shortlist)
    metric.network, metric.starts = GatedSiamese(channels=0.1, height=64, width=32, features=8).eval(), STARTS
    with torch.no_grad():
        rows = metric.network(torch.rand(25, 3, 64, 32))
    return metric, rows[:5], rows[5:]


def blocks(metric: Own, query: Tensor, gallery: Tensor, rows: int = 2) -> Tensor:
    return torch.cat([*metric.blocks(query, gallery, metric, rows)])


def test_a_distance_is_that_of_its_pair_alone():
    metric, query, gallery = own()
    distances = metric.distances(query, gallery)
    with torch.no_grad():
        one_by_one = [[metric.network.pair(a[None], b[None]) for b in gallery] for a in query[:2]]
    torch.testing.assert_close(distances[:2], torch.tensor(one_by_one))
    order = torch.randperm(20)
    assert torch.equal(metric.distances(query.flip(0), gallery[order]), distances.flip(0)[:, order])
    assert torch.equal(metric.pair_distances(query, gallery, torch.tensor([4]), torch.tensor([7])), distances[4:, 7])
    units = blocks(metric, query, gallery)
    torch.testing.assert_close(units[1], distances[1:4].mean(dim=0).double())
    assert torch.equal(units[[0, 2]], distances[[0, 4]].double())
    assert torch.equal(units, blocks(metric, query, gallery, 1))
    pids, cams = np.arange(23) % 5 + 1, np.arange(23) % 7
    sides = UnitEmbeddings(query, pids[:3], cams[:3]), UnitEmbeddings(gallery, pids[3:], cams[3:])
    ranking = rank_units(*sides, metric, metric, None, exclude=()).ranking
    assert ranking.top[:, 0].tolist() == units.argmin(dim=1).tolist()


def test_a_shortlist_of_all_is_no_shortlist():
    whole, query, gallery = own()
    for length in (20, 1000):
        assert torch.equal(blocks(own(length)[0], query, gallery), blocks(whole, query, gallery))
    values = blocks(own(7)[0], query, gallery)
    with torch.no_grad():
        alone = torch.cdist(whole.network.alone(query), whole.network.alone(gallery))
    alone = torch.stack([alone[first:last].mean(dim=0) for first, last in itertools.pairwise(STARTS)])
    old, new = alone.argsort(dim=1), values.argsort(dim=1)
    assert torch.equal(old[:, :7].sort().values, new[:, :7].sort().values)
    assert torch.equal(old[:, 7:], new[:, 7:]), "the others in the old order"
    chosen = old[:, :7]
    assert torch.equal(values.gather(1, chosen), blocks(whole, query, gallery).gather(1, chosen))


def test_the_contrastive_loss_by_loops():
    rows, labels = torch.rand(8, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1, 3, 2])
    loss = Contrastive(TrainInfo(4, 4, pair=lambda a, b: (a - b).abs().sum(dim=1)), margin=1.5)
    expected = []
    for a, b, same in zip(rows[:4].tolist(), rows[4:].tolist(), (labels[:4] == labels[4:]).tolist(), strict=True):
        distance = sum(abs(x - y) for x, y in zip(a, b, strict=True))
        expected.append(distance**2 if same else max(0, 1.5 - distance) ** 2)
    value = loss(rows, labels)
    assert value.per_item["loss"].tolist() == pytest.approx(expected)
    assert float(value.total) == pytest.approx(sum(expected) / 4)
    assert "learning brings positives closer than negatives" in check_loss("contrastive")


def test_own_passes_the_contract_checks():
    assert "blocks of any size" in check_metric("own")
    check_metric("own(shortlist=500)")
    with pytest.raises(OptionError, match="own: option shortlist"):
        Own(shortlist=0)


def test_a_network_of_pairs_is_trained_and_scored(tmp_path):
    plan, record, _ = run(job(**PAIRS, recipe="quick(steps=3, p=6, k=2)"))
    assert record.status == "ok", record.error
    assert (record.items["metric"].short, record.evaluation.metric_is_auto) == ("own", True)
    trained = load_file(plan.training_folder / WEIGHTS)
    first = build_backbone(plan.items["backbone"], plan.job.seed).state_dict()
    moved = {name for name, tensor in first.items() if not torch.equal(trained[name], tensor)}
    assert {"gates.0.p", "layers.2.0.weight", "stem.0.weight", "feature.bias"} <= moved
    for refuse in (load_network, describe_network):  # of embed, reports, and shards
        with pytest.raises(OptionError, match=r"gated_siamese .* compares pairs of images"):
            refuse(plan.run_folder)
    with pytest.raises(OptionError, match=r"metric own: .* --distances"):
        reidbench.evaluate(([[0.0, 1.0], [1.0, 0.0]], [1, 1], [1, 2]), metric="own")


@pytest.mark.parametrize(("message", "changes"), cases(__file__, "refused"))
def test_what_means_nothing_for_pairs_is_refused(message, changes):
    with pytest.raises(OptionError, match=message):
        plan_of(job(**PAIRS | changes))


def test_the_network_of_the_docs_passes_its_checks(tmp_path, monkeypatch):
    page = (CHECKOUT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def pair(" in block]
    (tmp_path / "networks_of_pairs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    difference = importlib.import_module("networks_of_pairs").register_backbones()["difference"]
    assert "pairs" in check_backbone(difference)

    monkeypatch.setattr(difference, "pair_parameters", Backbone.pair_parameters)  # which names none
    with pytest.raises(ContractError, match=r"pair_parameters .* upper\.weight"):
        check_backbone(difference)


def test_gradients_of_the_pair_stage_are_averaged(monkeypatch):
    net = GatedSiamese(channels=0.1, height=64, width=32)
    loss = torch.nn.Linear(2, 2)
    for parameter in (*net.parameters(), *loss.parameters()):
        parameter.grad = torch.ones_like(parameter)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))  # as two equal processes do
    add_gradients(World(0, 2), net, loss)
    named = {id(parameter) for parameter in (*net.pair_parameters(), *loss.parameters())}
    for parameter in (*net.parameters(), *loss.parameters()):
        assert (parameter.grad == (1 if id(parameter) in named else 2)).all()
