"""Custom images, listed in a CSV file in our format or that of Open Metric Learning, with two protocols."""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from reidbench import DataError, File, Protocol, Samples, Split, hold_out, hookimpl
from reidbench_datasets.csv_list_example import synthesize
from reidbench_datasets.dataset_trees import Views, check_holdout

PARTS = ("train", "query", "gallery")
OWN = (("path", "pid", "split"), ("camid", "tracklet"))
OML = (("label", "path", "split", "is_query", "is_gallery"), ("category", "sequence", "x_1", "x_2", "y_1", "y_2"))
BOXES = ("x_1", "x_2", "y_1", "y_2")
FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}
SHOWN = 10

LIST = File("list.csv")


@dataclass(frozen=True)
class Row:
    """One checked line of a list.

    ``parts``: the parts of the split that its image belongs to.
    ``image``: its path below the list's folder.
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
    """A custom dataset, listed in a CSV file in a folder that contains its images.

    Options:
        file: the list, with the columns path, pid, split and optionally camid and tracklet, or with those of OML.
        holdout: fraction of the training identities held out as query and gallery, instead of the list's test rows.
        holdout_seed: seed of the choice of held-out identities.

    The data root is not used. ``split`` is train, query or gallery; ``pid`` a whole number, at least 1, in the gallery
    also 0 (distractor) and -1 (junk). Without ``camid`` every image (or tracklet) has its own camera. Rows of one split
    with the same pid, camid and tracklet are one unit. In OML's list every label is an identity, a validation row is
    query, gallery or both, and the images of one sequence share a camera.
    Raises DataError with file, line and reason, up to ten mistakes at once; OptionError for a fraction outside 0 to 1.
    """
    check_holdout("csv_list", holdout)
    folder = file.absolute().parent
    rows = read_list(file, folder)
    required = ("train",) if holdout else PARTS
    missing = [part for part in required if not any(part in row.parts for row in rows)]
    if missing:
        raise DataError(f"{file}: has no rows for {' and '.join(missing)}; add rows for {', '.join(required)}")
    cameras = _numbers(row.camera for row in rows)
    train, query, gallery = (_samples(folder, [row for row in rows if part in row.parts], cameras) for part in PARTS)
    return hold_out(train, holdout, holdout_seed) if holdout else Split(train, query, gallery)


def read_list(file: Path, folder: Path) -> list[Row]:
    """Return the checked rows of a list whose images lie below ``folder``; raises DataError with all mistakes."""
    lines = _lines(file)
    _, header = next(lines, (0, []))
    if not header:
        raise DataError(f"{file}: is empty, expected a header line with the columns {', '.join(OWN[0])}")
    read_row, columns = (_oml_row, OML) if "label" in header and "pid" not in header else (_own_row, OWN)
    _check_header(file, header, *columns)
    images = Images(folder)
    listed: dict[tuple[str, str], int] = {}
    labels: dict[str, int] = {}
    rows: list[Row] = []
    mistakes: list[str] = []
    for line, fields in lines:
        try:
            if len(fields) != len(header):
                raise ValueError(f"has {len(fields)} fields, the header has {len(header)}")
            cells = dict(zip(header, fields, strict=True))
            row = read_row(cells, images.name(cells["path"]), labels)
            for part in row.parts:
                if (first := listed.setdefault((part, row.image), line)) != line:
                    raise ValueError(f"repeats {row.image} for {part} from line {first}")
            rows.append(row)
        except ValueError as error:
            mistakes.append(f"line {line}: {error}")
            if len(mistakes) == SHOWN:
                mistakes.append(f"reading stopped after {SHOWN} mistakes")
                break
    if mistakes:
        raise DataError(f"{file}: invalid list:\n  " + "\n  ".join(mistakes))
    return rows


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every line that is not blank."""
    line = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            for fields in reader:
                line = reader.line_num
                if fields:
                    yield line, fields
    except csv.Error as error:
        raise DataError(f"{file}: line {line + 1}: not valid CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason}); save the list as UTF-8") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def _check_header(file: Path, header: list[str], required: Iterable[str], optional: Iterable[str]) -> None:
    columns = f"expected {', '.join(required)}, optionally {', '.join(optional)}; found {', '.join(map(repr, header))}"
    if missing := [name for name in required if name not in header]:
        raise DataError(f"{file}: line 1: lacks the column {' and '.join(missing)}: {columns}")
    if unknown := sorted(set(header) - {*required, *optional}):
        raise DataError(f"{file}: line 1: unknown column {', '.join(map(repr, unknown))}, remove it: {columns}")
    if len(set(header)) < len(header):
        raise DataError(f"{file}: line 1: repeats a column: {columns}")


def _own_row(cells: Mapping[str, str], image: str, _labels: dict[str, int]) -> Row:
    part = cells["split"]
    if part not in PARTS:
        raise ValueError(f"split {part!r} is unknown, expected {', '.join(PARTS)}")
    pid = _whole(cells["pid"], "pid")
    least = -1 if part == "gallery" else 1
    if pid < least:
        raise ValueError(
            f"pid {pid} is not allowed in {part}; expected {least} or more"
            + (", since only a gallery may have distractors (0) and junk (-1)" if pid >= -1 else "")
        )
    tracklet = cells.get("tracklet", "")
    unit = (pid, "tracklet", tracklet) if tracklet else ("image", image)
    if "camid" not in cells:
        return Row((part,), image, pid, unit, unit)
    camera = _whole(cells["camid"], "camid")
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
        raise ValueError(f"split {cells['split']!r} is unknown, expected train, validation")
    if cells["split"] == "train" and parts:
        raise ValueError("is a training row, so neither is_query nor is_gallery may be set")
    if cells["split"] == "validation" and not parts:
        raise ValueError("is a validation row, but neither is_query nor is_gallery is set")
    pid = labels.setdefault(cells["label"], len(labels) + 1)
    camera = ("sequence", cells["sequence"]) if cells.get("sequence") else ("image", image)
    return Row(parts or ("train",), image, pid, camera, ("image", image))


def _whole(text: str, column: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{column} {text!r} is not a whole number of at most 18 digits")
    return int(text)


class Images:
    """Checks image paths below a list's folder, which links may not leave, with one call to the disk for a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = folder.resolve()
        self.real_parents: dict[PurePosixPath, Path] = {}

    def name(self, text: str) -> str:
        """Return the normalised path; raises ValueError where it is no file below the folder."""
        name = PurePosixPath(text)
        if not text or "\0" in text or name.is_absolute() or ".." in name.parts:
            raise ValueError(f"path {text!r} must be relative to the list's folder, without ..")
        if name.parent not in self.real_parents:
            self.real_parents[name.parent] = (self.real / name.parent).resolve()
        file = self.real_parents[name.parent] / name.name
        try:
            if stat.S_ISLNK(file.lstat().st_mode):
                file = file.resolve()
            if not stat.S_ISREG(file.lstat().st_mode):
                raise ValueError(f"path {text!r} is not a file")
        except OSError as error:
            raise ValueError(f"path {text!r} cannot be read below {self.folder}: {error.strerror}") from None
        if not file.is_relative_to(self.real):
            raise ValueError(
                f"path {text!r} is a link to {file}, outside {self.folder}; copy the image below the list's folder"
            )
        return str(name)


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


def csv_list_protocol(*, file: File = LIST, views: Views = "center_flip") -> Protocol:
    """Custom images, scored as Market-1501: junk and the query's own camera are excluded.

    Options:
        file: the list, as for the dataset csv_list.
        views: test-time views that are averaged.

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
) -> Protocol:
    """Custom training images with a part of their identities held out, for tuning without the test rows.

    Options:
        file: the list, as for the dataset csv_list; its test rows are not used.
        views: test-time views that are averaged.
        holdout: fraction of the training identities that is held out.
        holdout_seed: seed of their choice.
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
