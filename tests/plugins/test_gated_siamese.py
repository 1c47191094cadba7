"""The gated siamese network: gates and layers against loops, what holds for every pair, and its contract."""

import itertools
import math

import pytest
import torch
from reidbench_backbones.gated_siamese import Gate, GatedSiamese
from torch import Tensor, nn

from reidbench import OptionError
from reidbench.testing import check_backbone

SMALL = {"height": 64, "width": 32, "channels": 0.05, "features": 4}


def network(**options: float) -> GatedSiamese:
    """Return a small network in float64 whose batch norms and gates are not as they start."""
    torch.manual_seed(0)
    net = GatedSiamese(**SMALL, **options).double()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and (".p" in name or "running" in name):
            nn.init.uniform_(tensor, 0.3, 0.9)
    return net.eval()


def gates_by_loops(gate: Gate, maps: list[Tensor]) -> list[Tensor]:
    """Return both gated maps [h, r, c] of one pair, entry by entry."""
    weight, bias, results = gate.summary.weight, gate.summary.bias, [x.clone() for x in maps]
    filters, rows, columns = maps[0].shape
    for row, channel in itertools.product(range(rows), range(filters)):
        summaries = []
        for x in maps:
            total = float(bias[channel])
            for source, column in itertools.product(range(filters), range(columns)):
                total += float(weight[channel, source, 0, column] * x[source, row, column])
            summaries.append(total if total > 0 else float(gate.slope.weight[channel]) * total)
        value = math.exp(-((summaries[0] - summaries[1]) ** 2) / float(gate.p[channel]) ** 2)
        for x, gated in zip(maps, results, strict=True):
            for column in range(columns):
                gated[channel, row, column] = x[channel, row, column] * (1 + value)
    for gated, row, column in itertools.product(results, range(rows), range(columns)):
        gated[:, row, column] /= math.sqrt(sum(float(entry) ** 2 for entry in gated[:, row, column]))
    return results


def test_a_distance_follows_the_equations():
    net = network()
    with torch.no_grad():
        rows = net(torch.rand(2, 3, 64, 32, dtype=torch.float64))
        maps = gates_by_loops(net.gates[0], list(rows.unflatten(1, net.map)))
        for layer, gate in zip(net.layers, net.gates[1:], strict=True):
            maps = gates_by_loops(gate, [layer(x[None])[0] for x in maps])
        assert maps[0].shape[1:] == (8, 1)
        features = [net.feature.weight @ x.flatten() + net.feature.bias for x in maps]
        one, other = (feature / feature.square().sum().sqrt() for feature in features)
        expected = (one - other).square().sum().sqrt()
        torch.testing.assert_close(net.pair(rows[:1], rows[1:]), expected[None], rtol=1e-9, atol=1e-12)


def test_what_holds_for_every_pair():
    net, open_gates = network(), network(gates=False)
    with torch.no_grad():
        rows = net(torch.rand(6, 3, 64, 32, dtype=torch.float64))
        others = rows.roll(1, 0)
        distances = net.pair(rows, others)
        assert torch.equal(distances, net.pair(others, rows))
        assert not net.pair(rows, rows).any()
        gates = net.gates[0].values(rows.unflatten(1, net.map), others.unflatten(1, net.map))
        assert (gates > 0).all()
        assert (gates <= 1).all()
        # All gates 1 or all 0: the norms take the factor out, and the network is that without gates.
        ungated = (net.alone(rows) - net.alone(others)).norm(dim=1)
        open_gates.load_state_dict(net.state_dict(), strict=False)
        torch.testing.assert_close(open_gates.pair(rows, others), ungated)
        assert not torch.allclose(distances, ungated, rtol=1e-3)
        for p in (1e6, 0.0):
            for gate in net.gates:
                nn.init.constant_(gate.p, p)
            torch.testing.assert_close(net.pair(rows, others), ungated, rtol=1e-6, atol=1e-9)


def test_it_passes_the_contract_checks():
    for options in ("", ", gates=false"):
        assert "pairs" in check_backbone(f"gated_siamese(height=64, width=24, channels=0.1, features=8{options})")


def test_sizes_are_checked():
    assert GatedSiamese().map == (64, 16, 8)
    assert [layer[0].kernel_size for layer in GatedSiamese().layers] == [(1, 3), (1, 3), (1, 4)]
    with pytest.raises(OptionError, match="gated_siamese: width must be a multiple of 8; got 30"):
        GatedSiamese(width=30)
