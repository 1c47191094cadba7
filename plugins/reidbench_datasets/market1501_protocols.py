"""The protocols of Market-1501: single query, multi-query, 500,000 distractors, and held-out training identities."""

from __future__ import annotations

from typing import Literal

from reidbench import Protocol
from reidbench_datasets.dataset_trees import Unlabelled, UnlabelledImages, Views, dataset_spec

# The sha256 of the sorted file names of the official tree, one a line.
TRAIN_NAMES = "98fca78ed7a1b36c34f3763b43b41bf8fd4124fe2c19b44ff48c8860e306a299"
QUERY_NAMES = "7d7433deabefac2a19b508089fc7893e76703fd3fb3395c2c2db3f3a2e8fc0ef"
GALLERY_NAMES = "6feef7b0b24679c2d9d111d76722def1b88a5742bc05db0cdfc7d1c2436c9cbd"

# The paper's views, its networks, and their smaller inputs. Multi-query pooling is the loss's own (section 3.5).
PAPER, PAPER_VIEWS = "Hermans et al. (2017)", "five_crops_flip"
PAPER_BACKBONES = ("resnet50", "lunet")
TABLE_3 = ("resnet50(height=128, width=64)", "resnet50(height=64, width=32)", "lunet(height=64, width=32)")

Pool = Literal["auto", "mean", "max"]


def market1501_protocol(
    *,
    views: Views = "five_crops_flip",
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Protocol:
    """Market-1501, single query, scored as by its authors' script: junk and the query's own camera are excluded.

    Options:
        views: test-time views that are averaged.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    The default recipe and views are those of Hermans et al. 2017, sections 3.2 to 3.5 and table 4. A tree whose file
    names are not the official ones is a stand-in.
    """
    return Protocol(
        dataset=dataset_spec("market1501", "", unlabelled, unlabelled_images),
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "query": QUERY_NAMES, "gallery": GALLERY_NAMES},
        faithful_to="" if unlabelled else PAPER,  # Table 4 has all these views
        faithful_backbones=PAPER_BACKBONES + (TABLE_3 if views == PAPER_VIEWS else ()),
    )


def market1501_multiquery_protocol(
    *,
    views: Views = "five_crops_flip",
    pool: Pool = "auto",
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Protocol:
    """Market-1501, multi-query: each query is all hand-drawn images of its identity in its camera, pooled.

    Options:
        views: test-time views that are averaged.
        pool: mean or max over a query's images, or auto: the loss's default.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    Gallery, rules and denominators are those of single query. There is no published list of the pooled images, so the
    real data are identified by their training images and gallery.
    """
    return Protocol(
        dataset=dataset_spec("market1501", "queries=multi", unlabelled, unlabelled_images),
        version=1,
        recipe="hermans2017",
        views=views,
        pool=pool,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "gallery": GALLERY_NAMES},
        faithful_to=PAPER if (views, pool, unlabelled) == (PAPER_VIEWS, "auto", None) else "",
        faithful_backbones=PAPER_BACKBONES,
    )


def market1501_500k_protocol(
    *, views: Views = "five_crops_flip", distractors: int = 500_000, distractors_seed: int = 0
) -> Protocol:
    """Market-1501, single query, with further distractors in the gallery: 19,732 images and up to 500,000 more.

    Options:
        views: test-time views that are averaged.
        distractors: number of distractors; 0, 100000 … 500000 are the points of the paper's figure 2.
        distractors_seed: seed of their order.

    The distractors' names are not published, so the real data are identified by their training images, queries and
    original gallery.
    """
    return Protocol(
        dataset=f"market1501(distractors={distractors}, distractors_seed={distractors_seed})",
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train": TRAIN_NAMES, "query": QUERY_NAMES, "gallery": GALLERY_NAMES},
        faithful_to=PAPER if views == PAPER_VIEWS else "",
        faithful_backbones=PAPER_BACKBONES,
    )


def market1501_val_protocol(
    *,
    views: Views = "five_crops_flip",
    holdout: float = 0.2,
    holdout_seed: int = 0,
    unlabelled: Unlabelled = None,
    unlabelled_images: UnlabelledImages = None,
) -> Protocol:
    """Market-1501's training images with a part of their identities held out, for tuning without the test data.

    Options:
        views: test-time views that are averaged.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
        unlabelled: folder below the data root whose images join the training set without identity.
        unlabelled_images: number of them, the first by name; none for all.

    Training set and gallery are together the official training images, whichever identities are held out; their names
    tell the real data from a stand-in.
    """
    return Protocol(
        dataset=dataset_spec(
            "market1501", f"holdout={holdout}, holdout_seed={holdout_seed}", unlabelled, unlabelled_images
        ),
        version=1,
        recipe="hermans2017",
        views=views,
        exclude=("junk", "same_camera"),
        names={"train+gallery": TRAIN_NAMES},
    )
