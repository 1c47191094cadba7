"""The protocols of Market-1501: single query, multi-query, with 500,000 distractors, and one for tuning."""

from __future__ import annotations

from typing import Literal

from reidbench import Protocol

# The sha256 of the sorted file names of the official tree, one a line.
TRAIN_NAMES = "98fca78ed7a1b36c34f3763b43b41bf8fd4124fe2c19b44ff48c8860e306a299"
QUERY_NAMES = "7d7433deabefac2a19b508089fc7893e76703fd3fb3395c2c2db3f3a2e8fc0ef"
GALLERY_NAMES = "6feef7b0b24679c2d9d111d76722def1b88a5742bc05db0cdfc7d1c2436c9cbd"

Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]
Pool = Literal["auto", "mean", "max"]


def market1501_protocol(*, views: Views = "five_crops_flip") -> Protocol:
    """Market-1501, single query, as its authors' script scores it: junk and the query's own camera leave the ranking.

    Options:
        views: the test-time views that are averaged.

    The default recipe and views are those of Hermans et al. 2017, sections 3.2 to 3.5 and table 4. A tree with other
    file names than the official ones is a stand-in.
    """
    return Protocol(
        dataset="market1501",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "query": QUERY_NAMES, "gallery": GALLERY_NAMES},
    )


def market1501_multiquery_protocol(*, views: Views = "five_crops_flip", pool: Pool = "auto") -> Protocol:
    """Market-1501, multi-query: each query is all hand-drawn images of its identity in its camera, pooled.

    Options:
        views: the test-time views that are averaged.
        pool: mean or max over a query's images, or auto: what the loss says.

    Gallery, rules and denominators are those of single query. What is pooled has no published list, so the real data
    are recognised by their training images and their gallery.
    """
    return Protocol(
        dataset="market1501(queries=multi)",
        version=1,
        recipe="hermans2017",
        views=views,
        pool=pool,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "gallery": GALLERY_NAMES},
    )


def market1501_500k_protocol(
    *, views: Views = "five_crops_flip", distractors: int = 500_000, distractors_seed: int = 0
) -> Protocol:
    """Market-1501, single query, with further distractors in the gallery: 19,732 images and up to 500,000 more.

    Options:
        views: the test-time views that are averaged.
        distractors: how many join the gallery; 0, 100000 … 500000 are the points of the paper's figure 2.
        distractors_seed: the seed of the order in which they join.

    The distractors' names are published nowhere, so the real data are recognised by their training images, their
    queries, and the images of the gallery that the distractors join.
    """
    return Protocol(
        dataset=f"market1501(distractors={distractors}, distractors_seed={distractors_seed})",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "query": QUERY_NAMES, "gallery": GALLERY_NAMES},
    )


def market1501_val_protocol(
    *, views: Views = "five_crops_flip", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """Market-1501's training images alone, a part of their identities held out, so that nobody tunes on the test.

    Options:
        views: the test-time views that are averaged.
        holdout: the fraction of the training identities that is held out.
        holdout_seed: the seed that draws them.

    What is trained on and what is searched are together the official training images, whoever is held out: by their
    names a stand-in is told from the real data.
    """
    return Protocol(
        dataset=f"market1501(holdout={holdout}, holdout_seed={holdout_seed})",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train+gallery": TRAIN_NAMES},
    )
