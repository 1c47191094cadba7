"""Omniglot: characters of many alphabets, each drawn by 20 people, with test alphabets that the training set lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from reidbench import DataError, Protocol, Samples, Split, hookimpl
from reidbench_datasets.class_sets import class_protocol, class_split
from reidbench_datasets.dataset_trees import Views, find_tree

Sets = Literal["full", "small"]

# The authors' archives: training and test alphabets. Those of the small sets overlap, so that some are not tested.
SETS = {
    "full": ("images_background", "images_evaluation"),
    "small": ("images_background_small1", "images_background_small2"),
}
SPELLINGS = (".", "omniglot", "omniglot-py", "omniglot/python", "omniglot-master/python")
ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    "images_background_small1": "e704a628b5459e08445c13499850abc4",
    "images_background_small2": "b75a71a51d3b13f821f212756fe481fd",
}
PUBLISHED = {
    "full": {"train": 19280, "train_identities": 964, "query": 13180, "query_identities": 659, "gallery": 13180},
    "small": {"train": 2720, "train_identities": 136, "query": 2120, "query_identities": 106, "gallery": 2120},
}

# Set, alphabet, character, number of the character and of the person who drew it.
NAME = re.compile(r"([^/]+/([^/]+)/[^/]+)/[0-9]{4}_([0-9]{2})\.png")


def omniglot(root: Path, *, sets: Sets = "full", holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, each drawn by 20 people.

    Options:
        sets: full, 30 alphabets for training and 20 for the test; or small, 5 and 3.
        holdout: fraction of the training characters held out as query and gallery, instead of the test characters.
        holdout_seed: seed of the choice of held-out characters.

    An identity is a character of an alphabet, a camera one of the 20 people of that alphabet. Test alphabets are those
    of the second archive that the first lacks. Raises DataError where the unpacked archives are missing or hold no
    drawing, OptionError for a fraction outside 0 to 1.

    Owner: https://github.com/brendenlake/omniglot
    Terms: MIT licence
    """
    archives = "\n  ".join(f"{ADDRESS}/{name}.zip (md5 {MD5[name]})" for name in SETS[sets])
    tree = find_tree("omniglot", root, SPELLINGS, SETS[sets], advice=f"unpack into it\n  {archives}")
    train, others = (_drawings(tree, folder) for folder in SETS[sets])
    training_alphabets = {match[2] for match in train}
    test = [match for match in others if match[2] not in training_alphabets]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(match[1] for match in [*train, *test]), 1)}
    parts = [
        Samples.of_images(tree, (m[0] for m in part), (numbers[m[1]] for m in part), (int(m[3]) for m in part))
        for part in (train, test)
    ]
    return class_split("omniglot", (parts[0], parts[1], parts[1]), PUBLISHED[sets], holdout, holdout_seed)


def _drawings(tree: Path, folder: str) -> list[re.Match[str]]:
    """Return the names of the drawings of one archive, sorted, as matches of ``NAME``."""
    files = (tree / folder).glob("*/*/*.png")
    names = sorted(file.relative_to(tree).as_posix() for file in files)
    matches = [match for name in names if (match := NAME.fullmatch(name))]
    if not matches:
        raise DataError(f"{tree / folder}: holds no ALPHABET/characterNN/NNNN_NN.png; unpack {folder}.zip again")
    return matches


def omniglot_protocol(*, views: Views = "center", sets: Sets = "full") -> Protocol:
    """Omniglot's test characters, each drawing a query in a gallery of all others, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
        sets: full, or small for the archives of 5 alphabets each.

    Characters are never mirrored, and networks start from random weights.
    """
    return _protocol(views, {"sets": sets})


def omniglot_val_protocol(
    *, views: Views = "center", sets: Sets = "full", holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """Omniglot's training characters with a part of them held out, for tuning without the test characters.

    Options:
        views: test-time views that are averaged.
        sets: full, or small for the archives of 5 alphabets each.
        holdout: fraction of the training characters that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol(views, {"sets": sets, "holdout": holdout, "holdout_seed": holdout_seed})


def _protocol(views: Views, options: Mapping[str, Any]) -> Protocol:
    defaults = {"height": 64, "width": 64, "flip": False, "weights": None}
    return class_protocol("omniglot", views, options, recipe="quick", defaults=defaults)


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Split]]:
    return {"omniglot": omniglot}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Protocol]]:
    return {"omniglot": omniglot_protocol, "omniglot_val": omniglot_val_protocol}
