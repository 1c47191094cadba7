"""The protocols of MARS: its authors' own, torchreid's gallery, and one for choosing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reidbench import Protocol

# The digests (see Tracklets) of the official track tables: training, queries, test, and test without queries and junk.
TRAIN_DIGEST = "a205ae632798236648661275fcdcf0de928a6b5047a53a26c5eeba941ecbed2a"
QUERY_DIGEST = "b01d9c0b77ca9a4137d800e1e22f3a3b17fd601de20baeeaabe492e14110bf5c"
TEST_DIGEST = "681ec1ff6f06b724bfaccac2412b985382dcee5ab69ef2852658a6b9b1598450"
TORCHREID_DIGEST = "416550b717ff6828cfd5827d5b8061d8840d0e608b76fc61a3eba55876fb33fb"

Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]
Frames = Literal["per_identity", "per_tracklet"]


def _protocol(views: Views, frames: Frames, names: Mapping[str, str], **options: Any) -> Protocol:
    asked = ", ".join(f"{name}={value}" for name, value in {"frames": frames, **options}.items())
    # A recipe's K units of a person are K frames, whatever the tracklet (Hermans et al. 2017, section 3.5).
    other = "trained on one frame of each of K tracklets, not on K frames of a person"
    return Protocol(
        dataset=f"mars({asked})",
        version=1,
        recipe="hermans2017",
        views=views,
        # The rule same_camera takes the query's own tracklet, which lies in the gallery, out of its ranking.
        exclude=("junk", "same_camera"),
        names=dict(names),
        deviations=() if frames == "per_identity" else (other,),
    )


def mars_protocol(*, views: Views = "five_crops_flip", frames: Frames = "per_identity") -> Protocol:
    """MARS as its authors' script scores it: 1,980 queries against all 12,180 test tracklets, the queries among them.

    Options:
        views: the test-time views that are averaged.
        frames: per_identity trains on K frames of a person, per_tracklet on one of each of K tracklets: not faithful.

    All frames of a tracklet are embedded and pooled. Recipe, views and frames are those of Hermans et al. 2017.
    """
    names = {"train": TRAIN_DIGEST, "query": QUERY_DIGEST, "gallery": TEST_DIGEST}
    return _protocol(views, frames, names)


def mars_torchreid_gallery_protocol(*, views: Views = "five_crops_flip", frames: Frames = "per_identity") -> Protocol:
    """MARS with the gallery of torchreid: without the queries and without junk, which leaves 140 queries unmatched.

    Options:
        views: the test-time views that are averaged.
        frames: per_identity trains on K frames of a person, per_tracklet on one of each of K tracklets: not faithful.

    The unmatched queries stay in the denominator with AP 0 and a miss; torchreid leaves them out.
    """
    names = {"train": TRAIN_DIGEST, "query": QUERY_DIGEST, "gallery": TORCHREID_DIGEST}
    return _protocol(views, frames, names, gallery="torchreid")


def mars_val_protocol(
    *,
    views: Views = "original",
    frames: Frames = "per_identity",
    holdout: int = 150,
    holdout_seed: int = 0,
) -> Protocol:
    """The setting of table 1 of Hermans et al. 2017: 150 of MARS's 625 training identities are held out.

    Options:
        views: the test-time views that are averaged.
        frames: per_identity trains on K frames of a person, per_tracklet on one of each of K tracklets: not faithful.
        holdout: how many of the training identities are held out.
        holdout_seed: the seed that draws them, and the query tracklets.

    One query tracklet for each held-out identity and camera; the gallery is all their tracklets, the queries among
    them. The view is the whole image. That training neither crops nor flips there (section 3.4), and the network's
    input of 128 x 64, are for the suite to say: recipe "hermans2017(crop=false, flip=false)".
    """
    return _protocol(views, frames, {"train+gallery": TRAIN_DIGEST}, holdout=holdout, holdout_seed=holdout_seed)
