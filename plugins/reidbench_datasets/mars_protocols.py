"""The protocols of MARS: its authors' own, torchreid's gallery, and held-out training identities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from reidbench import File, LaterOption, Protocol
from reidbench_datasets.dataset_trees import Views

# The digests (see Tracklets) of the official track tables: training, queries, test, and test without queries and junk.
TRAIN_DIGEST = "a205ae632798236648661275fcdcf0de928a6b5047a53a26c5eeba941ecbed2a"
QUERY_DIGEST = "b01d9c0b77ca9a4137d800e1e22f3a3b17fd601de20baeeaabe492e14110bf5c"
TEST_DIGEST = "681ec1ff6f06b724bfaccac2412b985382dcee5ab69ef2852658a6b9b1598450"
TORCHREID_DIGEST = "416550b717ff6828cfd5827d5b8061d8840d0e608b76fc61a3eba55876fb33fb"

Frames = Literal["per_identity", "per_tracklet"]
Pool = Annotated[Literal["auto", "mean", "max"], LaterOption]

PAPER = "Hermans et al. (2017)"


def _protocol(
    views: Views, frames: Frames, names: Mapping[str, str], paper: Mapping[str, Any], **options: Any
) -> Protocol:
    dataset_options = ", ".join(f"{name}={value}" for name, value in {"frames": frames, **options}.items())
    return Protocol(
        dataset=f"mars({dataset_options})",
        version=1,
        recipe="hermans2017",
        views=views,
        # The rule same_camera excludes the query's own tracklet, which is in the gallery.
        exclude=("junk", "same_camera"),
        names=dict(names),
        **paper,
    )


def mars_protocol(
    *,
    views: Views = "five_crops_flip",
    frames: Frames = "per_identity",
    pool: Pool = "auto",
    key_frames: Annotated[int, LaterOption] = 0,
    cycles: Annotated[File | None, LaterOption] = None,
) -> Protocol:
    """MARS, scored as by its authors' script: 1,980 queries, a gallery of all 12,180 test tracklets with the queries.

    Options:
        views: test-time views that are averaged.
        frames: per_identity samples K frames of an identity, per_tracklet one, or more, of each of K.
        pool: mean or max over a tracklet's frames, or auto: the loss's default.
        key_frames: number of evenly spaced frames that a tracklet is reduced to in every part; 0 for all its frames.
        cycles: list of key frames of a walking cycle, which replace them; see the synthesizer mars_cycles.

    All these frames of a tracklet are embedded and pooled. Recipe and views are those of Hermans et al. 2017, which
    does not give the training unit: frames or tracklets.
    """
    names = {"train": TRAIN_DIGEST, "query": QUERY_DIGEST, "gallery": TEST_DIGEST}
    paper = {"faithful_to": PAPER, "faithful_backbones": ("resnet50", "lunet")}
    papers = (views, pool, key_frames) == ("five_crops_flip", "auto", 0)
    options: dict[str, Any] = {"key_frames": key_frames} if key_frames else {}
    if cycles:
        options["cycles"] = json.dumps(str(cycles))
    return replace(_protocol(views, frames, names, paper if papers else {}, **options), pool=pool)


def mars_torchreid_gallery_protocol(*, views: Views = "five_crops_flip", frames: Frames = "per_identity") -> Protocol:
    """MARS with torchreid's gallery: without the queries and without junk, which leaves 140 queries without a positive.

    Options:
        views: test-time views that are averaged.
        frames: per_identity samples K frames of an identity, per_tracklet one, or more, of each of K.

    Those queries stay in the denominator with AP 0 and a miss; torchreid drops them.
    """
    names = {"train": TRAIN_DIGEST, "query": QUERY_DIGEST, "gallery": TORCHREID_DIGEST}
    return _protocol(views, frames, names, {}, gallery="torchreid")


def mars_val_protocol(
    *,
    views: Views = "original",
    frames: Frames = "per_identity",
    holdout: int = 150,
    holdout_seed: int = 0,
) -> Protocol:
    """The setting of table 1 of Hermans et al. 2017: 150 of MARS's 625 training identities are held out.

    Options:
        views: test-time views that are averaged.
        frames: per_identity samples K frames of an identity, per_tracklet one, or more, of each of K.
        holdout: number of training identities that are held out.
        holdout_seed: seed of their choice and of the query tracklets.

    There is one query tracklet for each held-out identity and camera; the gallery is all their tracklets, with the
    queries. The view is the whole image. Training without crop and flip (section 3.4) and the input of 128 x 64 are set
    in the suite: recipe "hermans2017(crop=false, flip=false)".
    """
    paper = {
        "faithful_to": PAPER,
        "faithful_options": {"crop": False, "flip": False},
        "faithful_backbones": ("lunet",),
    }
    is_papers = (views, holdout) == ("original", 150)
    names = {"train+gallery": TRAIN_DIGEST}
    return _protocol(views, frames, names, paper if is_papers else {}, holdout=holdout, holdout_seed=holdout_seed)
