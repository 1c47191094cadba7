"""A small rendered tree with its list, as an example of what csv_list reads."""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from reidbench import DataError, OptionError
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan
from reidbench_datasets.synthetic.writer import write_entries

SPLITS = {TRAIN: "train", QUERY: "query", GALLERY: "gallery"}


def synthesize(directory: Path, *, identities: int = 40, cameras: int = 3, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Rendered people and a list.csv that names them, in the layout of the dataset csv_list.

    Options:
        identities: number of identities, 4 to 9999; seven in ten are for training.
        cameras: number of cameras, 2 to 9.
        seed: seed of people, names and images.

    Yields (images done, images in all). ``directory`` must be new or empty; it appears when it is complete.
    Raises OptionError for values out of range, DataError where the folder is not empty or cannot be written.
    """
    if not 4 <= identities <= 9999 or not 2 <= cameras <= 9:
        raise OptionError(
            f"csv_list: expected 4 to 9999 identities and 2 to 9 cameras, "
            f"got identities={identities}, cameras={cameras}"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f"{directory}: is not empty; name a new or empty folder")
    return _write(directory.absolute(), Tree(identities, cameras, "normal", seed))


def _write(directory: Path, tree: Tree) -> Iterator[tuple[int, int]]:
    shots = plan(tree)
    unfinished = directory.with_name(f".{directory.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield 0, len(shots)
        entries = [*((shot.name, shot) for shot in shots), ("list.csv", lambda: _list(shots))]
        for done in write_entries(unfinished, tree, entries):
            if done < len(shots):  # the last one counts when the folder is complete
                yield done, len(shots)
        unfinished.rename(directory)
    except OSError as error:
        raise DataError(
            f"{directory}: cannot write its {len(shots)} images there: {error.strerror or error}; name another folder, "
            "or free space"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    yield len(shots), len(shots)


def _list(shots: list[Shot]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "pid", "camid", "split"])
    writer.writerows([shot.name, shot.pid, shot.camera, SPLITS[shot.folder]] for shot in shots)
    return text.getvalue().encode()
