"""Weights files: the normalisation that they expect, damaged tensors, and starting from a trained network."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reidbench import Backbone, DataError, OptionError, Preprocess, Weights, build
from reidbench.plugins.catalogue import load
from reidbench.plugins.weights import WEIGHTS, Normalisation, load_tensors, read_normalisation, read_weights
from reidbench.runs.preflight import initialised_backbone
from reidbench.training.checkpoint import load_weights
from tests.support.cases import cases
from tests.support.damage import flip
from tests.support.jobs import job, plan_of, run

METADATA = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]", "channels": "RGB"}


def write(folder, metadata, tensors=None):
    save_file(tensors or {"x": torch.zeros(1)}, folder / "w.safetensors", metadata=metadata)
    return folder / "w.safetensors"


def test_mean_and_std_come_from_the_file_in_rgb_order(tmp_path):
    assert read_normalisation(write(tmp_path, METADATA)) == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), bgr=False)
    bgr = read_normalisation(write(tmp_path, METADATA | {"channels": "BGR"}))
    assert bgr == Normalisation((0.3, 0.2, 0.1), (0.6, 0.5, 0.4), bgr=True)


@pytest.mark.parametrize("keys", [["mean"], ["std"], ["channels"], ["mean", "std", "channels"]])
def test_a_missing_key_is_named(tmp_path, keys):
    file = write(tmp_path, {key: value for key, value in METADATA.items() if key not in keys} or None)
    with pytest.raises(DataError, match=rf"its metadata has no {', '.join(keys)}.*safetensors"):
        read_normalisation(file)


@pytest.mark.parametrize("wrong", cases(__file__, "an_invalid_normalisation_is_refused"))
def test_an_invalid_normalisation_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match=r"w\.safetensors: its metadata is no valid normalisation"):
        read_normalisation(write(tmp_path, METADATA | wrong))


def test_another_format_is_refused(tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"x": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"w\.pth: not a safetensors file"):
        read_normalisation(file)


# --- tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"0.weight": torch.tensor([[1.0, torch.nan]])}, r"1 not finite \(0\.weight\)"),
        ({"1.running_var": torch.tensor([torch.inf])}, r"1 not finite \(1\.running_var\)"),
        (
            {"0.weight": torch.ones(1, 2, dtype=torch.int64)},
            r"1 of another shape or type \(0\.weight torch\.int64 .*float32",
        ),
        ({"0.weight": torch.ones(2, 1)}, r"1 of another shape or type \(0\.weight .*\[2, 1\], expected .*\[1, 2\]\)"),
        (
            {"0.weight": torch.ones(1, 2, dtype=torch.float8_e5m2)},
            r"1 of another shape or type \(0\.weight torch\.float8_e5m2",
        ),
        ({"0.weight": torch.full((1, 2), 1e300, dtype=torch.float64)}, r"1 not finite \(0\.weight\)"),
        ({"0.weight": torch.zeros(1, 2)}, r"1 all zero \(0\.weight\)"),
        ({"1.running_var": torch.tensor([-0.5])}, r"1 negative \(1\.running_var\)"),
        ({"1.num_batches_tracked": torch.tensor(0.5)}, r"1 of another shape or type \(1\.num_batches_tracked"),
    ],
)
def test_unusable_tensors_are_named_with_the_file(damage, problem):
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    before = network[0].weight.clone()
    tensors = network.state_dict() | {"0.bias": torch.ones(1)} | damage
    with pytest.raises(DataError, match=f"w\\.safetensors: does not fit this network: {problem}"):
        load_tensors(network, tensors, "w.safetensors")
    assert network[0].weight.equal(before)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        load_tensors(network, network.state_dict() | {"0.weight": torch.full((1, 2), 0.5, dtype=dtype)}, "w")
        assert network[0].weight.equal(torch.full((1, 2), 0.5))


# --- a trained network is where another starts -----------------------------------------------------------------------


class Linear(Backbone):
    """A third-party network.

    Options:
        weights: weights to start from.
    """

    embedding_dim = 2

    def __init__(self, *, weights: Weights | None = None) -> None:
        super().__init__()
        self.use_weights(weights, Preprocess(8, 4))
        self.layer = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean((2, 3)))


SMALL = {
    "tiny": "height=16, width=16",
    "lunet": "height=32, width=32, channels=0.05",
    "timm": "name=resnet10t, head=trinet, height=32, width=32",
}


@pytest.mark.parametrize("name", [*SMALL, "third-party"])
def test_every_backbone_starts_from_a_weights_file(name, tmp_path):
    def network(weights):
        if name == "third-party":
            return Linear(weights=None if weights == "none" else Weights(json.loads(weights)))
        return build("backbone", f"{name}({SMALL[name]}, weights={weights})")

    first = network("none")
    assert (first.pretrained, first.preprocess.mean) == (False, (0, 0, 0))
    file = write(tmp_path, METADATA, first.state_dict())
    second = network(json.dumps(str(file)))
    assert (second.pretrained, second.preprocess.mean) == (True, (0.1, 0.2, 0.3))
    second.initialise()
    assert all(tensor.equal(first.state_dict()[key]) for key, tensor in second.state_dict().items())
    save_file({"x": torch.zeros(1)}, file, metadata=METADATA)
    with pytest.raises(DataError, match=r"w\.safetensors: .*1 unexpected \(x\)"):
        network(json.dumps(str(file))).initialise()


def test_weights_may_be_a_run_a_training_or_a_file(tmp_path):
    trained, record, _ = run(job())
    folders = (trained.run_folder, trained.training_folder, trained.training_folder / WEIGHTS)
    plans = [plan_of(job(backbone=f"tiny(weights={json.dumps(str(path))})"))[0] for path in folders]
    assert len({plan.train_id for plan in plans}) == 1
    assert plans[0].train_id != trained.train_id
    assert f"sha256:{record.weights}" in plans[0].items["backbone"].identity
    network, same = initialised_backbone(plans[0]), initialised_backbone(trained)
    load_weights(same, trained.training_folder)
    assert all(tensor.equal(same.state_dict()[name]) for name, tensor in network.state_dict().items())
    copy = tmp_path / WEIGHTS
    copy.write_bytes((trained.training_folder / WEIGHTS).read_bytes())
    flip(copy, copy.stat().st_size - 8)
    with pytest.raises(DataError, match=rf"{WEIGHTS}: .*checksum"):
        read_weights(copy)
    untrained, _, _ = run(job(loss="none"))
    for path in (untrained.run_folder, trained.run_folder.parent):
        with pytest.raises(OptionError, match="is no folder of a training, or of a run"):
            load().resolve("backbone", f"tiny(weights={json.dumps(str(path))})")


def test_a_record_leads_to_no_file_outside_of_its_results(tmp_path):
    folder = tmp_path / "results" / "runs" / "r"
    folder.mkdir(parents=True)
    write(tmp_path, METADATA).rename(tmp_path / WEIGHTS)
    (folder / "record.json").write_text(json.dumps({"training": f"../../{tmp_path.name}"}))
    with pytest.raises(OptionError, match="is no folder of a training"):
        load().resolve("backbone", f"tiny(weights={json.dumps(str(folder))})")
