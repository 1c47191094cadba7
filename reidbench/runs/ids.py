"""The ids of a run, which follow from its resolved options and its data alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunIds:
    """The ids of a run, 64 hex digits each.

    ``id``: the run's.
    ``train_id``: the training's, which runs with other protocols, metrics and re-rankers share.
    ``group``: the run's without the seed.
    """

    id: str
    train_id: str
    group: str


def run_ids(
    items: Mapping[str, str], *, seed: int, train_digest: str, digest: str, version: int, views: str, pool: str
) -> RunIds:
    """Return the ids of a run.

    ``items``: the resolved specs of protocol, loss, backbone, recipe, metric and rerank, with the sha256 of each file.
    ``train_digest``, ``digest``: the digests of the training set and of the whole dataset.
    ``version``, ``views``: the protocol's.
    ``pool``: how the embeddings of a unit are pooled, resolved.
    """
    training = {"data": train_digest} | {kind: items[kind] for kind in ("loss", "backbone", "recipe")}
    scoring = {
        "data": digest,
        "protocol": [items["protocol"], version],
        "views": views,
        "pool": pool,
        "metric": items["metric"],
        "rerank": items["rerank"],
    }
    train_id = _hash(training, seed)
    return RunIds(_hash(scoring, train_id), train_id, _hash(training, scoring))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
