"""An exported network: its weights load back by digest, its card has the scores, its ONNX file the embeddings."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

import reidbench
from reidbench.plugins.catalogue import load
from reidbench.ranking.scores import shown_scores
from reidbench.reports.export_network import to_onnx
from reidbench.reports.html import environment
from reidbench.runs.record import read_record
from reidbench.training.build import build_backbone
from reidbench.utils.untrusted_files import file_digest
from tests.support.jobs import job, run
from tests.support.records import make_record
from tests.support.weights_server import weights_server


def test_a_folder_loads_back_by_its_digest(tmp_path, reidbench_main):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    plan, record, _ = run(job())
    folder = tmp_path / "network"
    code, error = reidbench_main("export", str(plan.run_folder), str(folder), "--onnx")
    assert (code, error) == (0, "")
    weights = folder / "weights.safetensors"
    digest = file_digest(weights)
    assert digest == record.weights, "the file of the training"
    assert read_record(folder / "record.json") == record
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "reidbench"
    for text in (f"{100 * record.scores['map_market']:.2f}", digest, record.items["recipe"].spec, "model.onnx"):
        assert text in card.text
    described = json.loads((folder / "preprocessing.json").read_text())
    assert (described["height"], described["width"], described["pool"]) == (64, 32, record.evaluation.pool)

    images = torch.rand(5, 3, 64, 32)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    with weights_server(weights.read_bytes(), []) as server:
        address = f"{server}/w.safetensors#sha256={digest}"
        spec = load().resolve("backbone", f'tiny(weights="{address}")')
    assert address in spec.text, "records name the address, not the file in the cache"
    assert spec.identity == load().resolve("backbone", f'tiny(weights="{weights}")').identity
    network = build_backbone(spec, 1)
    network.initialise()
    with torch.inference_mode():
        expected = network.eval()(images).numpy()  # whose mean is 0, and std 1
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    code, error = reidbench_main("export", str(plan.run_folder), str(folder))
    assert (code, "is not empty" in error) == (2, True)


class Random(nn.Module):
    """Gives other embeddings at every call."""

    preprocess = reidbench.Preprocess(4, 4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) + torch.rand(1)


def test_networks_that_differ_or_fail_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    with pytest.raises(reidbench.OptionError, match="embeddings differ"):
        to_onnx(Random())  # type: ignore[arg-type]
    monkeypatch.setattr(Random, "forward", lambda self, images: images.numpy())
    with pytest.raises(reidbench.OptionError, match="cannot be exported"):
        to_onnx(Random())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(reidbench.OptionError, match=r"reidbench\[onnx\]"):
        to_onnx(Random())  # type: ignore[arg-type]


def test_texts_of_a_record_are_code_in_its_card() -> None:
    hostile = "`\n\n# x\n<script> [a](https://evil)"
    record = make_record(hostile, scores={"map_market": 0.5, "queries": 3, "gallery": 9}, deviations=[hostile])
    card = environment().get_template("model_card.md.j2").render(record=record, scores=shown_scores(), digest="0")
    lines = [line for line in card.splitlines() if "script" in line]
    assert len(lines) == 3
    assert all(line.startswith(("    ", "# `' # x <script>")) for line in lines)
    assert "| mAP (market) | 50.00 | – |" in card
