"""Export the network of a run as a folder to publish: weights, preprocessing, record, model card, perhaps ONNX."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms import Normalize

from reidbench.errors import OptionError
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import WEIGHTS, Normalisation
from reidbench.ranking.scores import shown_scores
from reidbench.reports.html import environment
from reidbench.runs.export import load_network
from reidbench.runs.record import RECORD
from reidbench.training.checkpoint import save_tensors
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import file_digest

TOLERANCE = 1e-4  # of the largest value of an embedding


def export_network(run: Path, folder: Path, *, onnx: bool = False) -> None:
    """Write the network of a run into an empty or new folder.

    ``weights.safetensors`` is the file that ``weights=`` takes. With ``onnx`` there is ``model.onnx`` too. Raises
    errors as ``load_network``, and OptionError for a folder that holds files, where ONNX is not installed, and where
    the network cannot be exported to it or gives other embeddings.
    """
    network, record = load_network(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder}: is not empty; name a new folder")
    model = to_onnx(network.eval()) if onnx else None
    how = network.preprocess
    save_tensors(folder / WEIGHTS, network.state_dict(), **Normalisation(how.mean, how.std).as_metadata())
    if model:
        write_atomic(folder / "model.onnx", model)
    scored = {key: getattr(record.evaluation, key) for key in ("views", "pool", "normalize")}
    described = asdict(record.network.preprocess) | {"channels": "RGB", "range": [0, 1]} | scored
    write_atomic(folder / "preprocessing.json", f"{json.dumps(described, indent=1)}\n")
    write_atomic(folder / RECORD, record.to_json())
    card = environment().get_template("model_card.md.j2")
    scores = shown_scores(record.scores, record.evaluation.primary)
    text = card.render(record=record, scores=scores, digest=file_digest(folder / WEIGHTS))
    write_atomic(folder / "README.md", text)


def to_onnx(network: Backbone) -> bytes:
    """Return a network in evaluation mode as an ONNX file, whose embeddings were compared with torch's.

    Raises OptionError where the packages are missing, the export fails, or embeddings differ by more than 1e-4 of the
    largest value.
    """
    try:
        import onnx  # noqa: F401, PLC0415 - optional
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise OptionError(f"--onnx: {error}; install it with: pip install 'reidbench[onnx]'") from None
    how, axes = network.preprocess, {0: "batch"}
    file: Any = io.BytesIO()  # which the annotation of export leaves out
    model = nn.Sequential(Normalize(how.mean, how.std), network).eval()
    images = torch.rand(3, 3, how.height, how.width, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(action="ignore"), torch.inference_mode():
            torch.onnx.export(
                model,
                (images[:2],),
                file,
                dynamo=False,  # which needs another package, and accepts fewer networks
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_axes={"images": axes, "embeddings": axes},
            )
            data: bytes = file.getvalue()
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            (embeddings,), expected = session.run(None, {"images": images.numpy()}), model(images).numpy()
    except Exception as error:  # both libraries raise errors of their own
        raise OptionError(f"--onnx: this network cannot be exported: {error}") from None
    difference = float(abs(embeddings - expected).max() / abs(expected).max())
    if not difference <= TOLERANCE:
        raise OptionError(f"--onnx: embeddings differ by {difference:.1e} of the largest value, more than {TOLERANCE}")
    return data
