"""The ids of a run, from its resolved options and its data alone, so that anyone can compute them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Identity:
    """``id`` names a run, ``train_id`` its training, ``group`` the combination without the seed: 64 hex digits each."""

    id: str
    train_id: str
    group: str


def identity(
    items: Mapping[str, str], *, seed: int, train_digest: str, digest: str, version: int, views: str, pool: str
) -> Identity:
    """Return the ids of a run.

    ``items`` are the resolved specs of protocol, loss, backbone, recipe, metric and rerank, in which files are their
    sha256; ``train_digest`` is the training set's and ``digest`` the whole data set's; ``version`` and ``views`` are
    the protocol's, ``pool`` is resolved.
    """
    trained_with = {"data": train_digest} | {kind: items[kind] for kind in ("loss", "backbone", "recipe")}
    scored_with = {
        "data": digest,
        "protocol": [items["protocol"], version],
        "views": views,
        "pool": pool,
        "metric": items["metric"],
        "rerank": items["rerank"],
    }
    train_id = _hash(trained_with, seed)
    return Identity(_hash(scored_with, train_id), train_id, _hash(trained_with, scored_with))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
