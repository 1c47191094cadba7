"""Custom images, listed in a CSV file in our format or that of Open Metric Learning, with two protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from reidbench import (
    DataError,
    File,
    LabelOption,
    Protocol,
    Samples,
    Split,
    did_you_mean,
    hold_out,
    hookimpl,
)
from reidbench_datasets.csv_list_example import synthesize
from reidbench_datasets.dataset_trees import Views, check_holdout

if TYPE_CHECKING:
    from reidbench import ListColumns

PARTS = ("train", "query", "gallery")
OWN = (("path", "pid", "split"), ("camid", "tracklet"))
OML = (("label", "path", "split", "is_query", "is_gallery"), ("category", "sequence", "x_1", "x_2", "y_1", "y_2"))
BOXES = ("x_1", "x_2", "y_1", "y_2")
FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}

LIST = File("list.csv")
Name = Annotated[str, LabelOption]


@dataclass(frozen=True)
class Row:
    """One checked line of a list.

    ``parts``: the parts of the split that its image belongs to.
    ``image``: its path below the folder of the images.
    ``pid``: its identity.
    ``camera``: a key that the rows of one camera share.
    ``unit``: a key that the rows of one unit share, within a part.
    """

    parts: tuple[str, ...]
    image: str
    pid: int
    camera: object
    unit: object


def csv_list(root: Path, *, file: File = LIST, holdout: float = 0.0, holdout_seed: int = 0) -> Split:
    """A custom dataset, listed in a CSV file.

    Options:
        file: the list, with the columns path, pid, split and optionally camid and tracklet, or with those of OML.
        holdout: fraction of the training identities held out as query and gallery, instead of the list's test rows.
        holdout_seed: seed of the choice of held-out identities.

    Images are relative to the list's folder, or to the data root where the first image is there instead. ``split`` is
    train, query or gallery; ``pid`` a whole number, at least 1, in the gallery also 0 (distractor) and -1 (junk), in
    the training set also 0 (no identity).
    Without ``camid`` every image (or tracklet) has its own camera. Rows of one split with the same pid, camid and
    tracklet are one unit. In OML's list every label is an identity, a validation row is query, gallery or both, and the
    images of one sequence share a camera.
    Raises DataError with file, line and reason, up to ten mistakes at once; OptionError for a fraction outside 0 to 1.
    """
    check_holdout("csv_list", holdout)
    folder, rows = read_list(file, root)
    required = ("train",) if holdout else PARTS
    missing = [part for part in required if not any(part in row.parts for row in rows)]
    if missing:
        raise DataError(f"{file}: has no rows for {' and '.join(missing)}; add rows for {', '.join(required)}")
    cameras = _numbers(row.camera for row in rows)
    train, query, gallery = (_samples(folder, [row for row in rows if part in row.parts], cameras) for part in PARTS)
    return hold_out(train, holdout, holdout_seed) if holdout else Split(train, query, gallery)


def read_list(file: Path, data_root: Path) -> tuple[Path, list[Row]]:
    """Return the folder of a list's images and its checked rows; raises DataError with up to ten mistakes at once."""
    from reidbench import ListColumns, read_image_list  # noqa: PLC0415 - most runs read no list

    first_lines: dict[tuple[str, str], int] = {}
    labels: dict[str, int] = {}

    def choose(header: list[str]) -> ListColumns[Row]:
        read, (required, optional) = (_oml_row, OML) if "label" in header and "pid" not in header else (_own_row, OWN)

        def read_row(cells: Mapping[str, str], image: str, line: int) -> Row:
            row = read(cells, image, labels)
            for part in row.parts:
                if (first := first_lines.setdefault((part, image), line)) != line:
                    raise ValueError(f"repeats {image} for {part} from line {first}")
            return row

        return ListColumns(required, optional, read_row)

    return read_image_list(file, data_root, choose)


def _own_row(cells: Mapping[str, str], image: str, _labels: dict[str, int]) -> Row:
    from reidbench import whole_number  # noqa: PLC0415 - most runs read no list

    part = cells["split"]
    if part not in PARTS:
        near = did_you_mean(part, PARTS, repr) or "; test images are query or gallery"
        raise ValueError(f"split {part!r} is unknown, expected {', '.join(PARTS)}{near}")
    pid = whole_number(cells["pid"], "pid")
    least = {"train": 0, "query": 1, "gallery": -1}[part]
    if pid < least:
        raise ValueError(
            f"pid {pid} is not allowed in {part}; expected {least} or more"
            + (", since only a gallery may have distractors (0) and junk (-1)" if pid >= -1 else "")
        )
    tracklet = cells.get("tracklet", "")
    unit = (pid, "tracklet", tracklet) if tracklet else ("image", image)
    if "camid" not in cells:
        return Row((part,), image, pid, unit, unit)
    camera = whole_number(cells["camid"], "camid")
    if camera < 0:
        raise ValueError(f"camid {camera} is negative")
    return Row((part,), image, pid, camera, (camera, unit))


def _oml_row(cells: Mapping[str, str], image: str, labels: dict[str, int]) -> Row:
    if any(cells.get(name) for name in BOXES):
        raise ValueError(f"has a box ({', '.join(BOXES)}), which is not supported; crop the images first")
    if not cells["label"]:
        raise ValueError("has no label")
    flags = {part: FLAGS.get(cells[f"is_{part}"].lower()) for part in ("query", "gallery")}
    for part, flag in flags.items():
        if flag is None:
            raise ValueError(f"is_{part} {cells[f'is_{part}']!r} is unknown, expected 1, 0, True, False or nothing")
    parts = tuple(part for part, flag in flags.items() if flag)
    if cells["split"] not in ("train", "validation"):
        near = did_you_mean(cells["split"], ("train", "validation"), repr)
        raise ValueError(f"split {cells['split']!r} is unknown, expected train, validation{near}")
    if cells["split"] == "train" and parts:
        raise ValueError("is a training row, so neither is_query nor is_gallery may be set")
    if cells["split"] == "validation" and not parts:
        raise ValueError("is a validation row, but neither is_query nor is_gallery is set")
    pid = labels.setdefault(cells["label"], len(labels) + 1)
    camera = ("sequence", cells["sequence"]) if cells.get("sequence") else ("image", image)
    return Row(parts or ("train",), image, pid, camera, ("image", image))


def _numbers(cameras: Iterable[object]) -> dict[object, int]:
    """Return a number for each camera: the list's own where it has one."""
    numbers: dict[object, int] = {}
    for camera in cameras:
        numbers.setdefault(camera, camera if isinstance(camera, int) else len(numbers))
    return numbers


def _samples(folder: Path, rows: list[Row], cameras: Mapping[object, int]) -> Samples:
    units: dict[object, list[Row]] = {}
    for row in rows:
        units.setdefault((row.pid, row.unit), []).append(row)
    groups = list(units.values())
    return Samples(
        root=folder,
        images=np.array([row.image for group in groups for row in group], dtype=np.str_),
        pids=np.array([group[0].pid for group in groups], dtype=np.int64),
        cams=np.array([cameras[group[0].camera] for group in groups], dtype=np.int64),
        starts=np.cumsum([0, *map(len, groups)], dtype=np.int64),
    )


def csv_list_protocol(*, file: File = LIST, views: Views = "center_flip", name: Name = "") -> Protocol:
    """Custom images, scored as Market-1501: junk and the query's own camera are excluded.

    Options:
        file: the list, as for the dataset csv_list.
        views: test-time views that are averaged.
        name: name of the data in tables, folders and leaderboards; by default that of the list's folder.

    Networks are trained from scratch by default, since pretrained weights would hide the effect of the loss; set the
    backbone's option weights to change that.
    """
    return _protocol(views, file=str(file))


def csv_list_val_protocol(
    *,
    file: File = LIST,
    views: Views = "center_flip",
    holdout: float = 0.2,
    holdout_seed: int = 0,
    name: Name = "",
) -> Protocol:
    """Custom training images with a part of their identities held out, for tuning without the test rows.

    Options:
        file: the list, as for the dataset csv_list; its test rows are not used.
        views: test-time views that are averaged.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
        name: name of the data, as for the protocol csv_list.
    """
    return _protocol(views, file=str(file), holdout=holdout, holdout_seed=holdout_seed)


def _protocol(views: Views, **options: str | float) -> Protocol:
    return Protocol(
        dataset=f"csv_list({', '.join(f'{name}={json.dumps(value)}' for name, value in options.items())})",
        version=1,
        recipe="quick",
        views=views,
        exclude=("junk", "same_camera"),
        defaults={"weights": None},
    )


@hookimpl
def register_datasets() -> Mapping[str, Callable[..., Any]]:
    return {"csv_list": csv_list}


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Any]]:
    return {"csv_list": csv_list_protocol, "csv_list_val": csv_list_val_protocol}


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"csv_list": synthesize}
