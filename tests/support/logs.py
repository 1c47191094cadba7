"""The log of a training, read and compared."""

import json

from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import read_arrays


def read_log(folder):
    return read_arrays(folder / LOG)


def outcome(results):
    """Return the weights, scores and status of the only run in a results folder."""
    (weights,), (file,) = results.rglob("weights.safetensors"), results.rglob("record.json")
    record = json.loads(file.read_text())
    return weights.read_bytes(), record["scores"], record["status"]


def assert_same_log(one, other):
    """Two trainings' logs are bit for bit alike, but for how fast they were."""
    logs = [read_log(folder) for folder in (one, other)]
    assert list(logs[0]) == list(logs[1])
    for name, values in logs[0].items():
        if name != "images_per_second":
            assert values.tobytes() == logs[1][name].tobytes(), name
