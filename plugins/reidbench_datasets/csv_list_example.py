"""A small drawn tree with its list, so that a newcomer sees what csv_list reads."""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from reidbench import DataError, OptionError
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan

SPLITS = {TRAIN: "train", QUERY: "query", GALLERY: "gallery"}


def synthesize(directory: Path, *, identities: int = 40, cameras: int = 3, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Drawn people and a list.csv that names them, in the layout of the data set csv_list.

    Options:
        identities: how many people, 4 to 9999; seven in ten are for training.
        cameras: how many cameras, 2 to 9.
        seed: what everything is drawn from.

    Yields (images done, images in all). ``directory`` must not exist yet or be empty; it appears when it is whole.
    Raises OptionError for other numbers, DataError where the folder holds something or cannot be written.
    """
    if not 4 <= identities <= 9999 or not 2 <= cameras <= 9:
        raise OptionError(
            f"csv_list: expected 4 to 9999 identities and 2 to 9 cameras, "
            f"got identities={identities}, cameras={cameras}"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f"{directory}: holds something already; name a folder that is new or empty")
    return _write(directory.absolute(), Tree(identities, cameras, "normal", seed))


def _write(directory: Path, tree: Tree) -> Iterator[tuple[int, int]]:
    # The renderer brings a compiler: it is imported only where there is something to draw.
    from reidbench_datasets.synthetic.artist import Artist  # noqa: PLC0415

    shots = plan(tree)
    artist = Artist(tree)
    unfinished = directory.with_name(f".{directory.name}.{secrets.token_hex(6)}.tmp")
    try:
        for folder in SPLITS:
            (unfinished / folder).mkdir(parents=True)
        for done, shot in enumerate(shots):
            yield done, len(shots)
            (unfinished / shot.name).write_bytes(artist.jpeg(shot))
        (unfinished / "list.csv").write_text(_list(shots), encoding="utf-8", newline="")
        unfinished.rename(directory)
    except OSError as error:
        raise DataError(
            f"{directory}: its {len(shots)} images could not be drawn there: {error.strerror or error}; "
            "name another folder, or make room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    yield len(shots), len(shots)


def _list(shots: list[Shot]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "pid", "camid", "split"])
    writer.writerows([shot.name, shot.pid, shot.camera, SPLITS[shot.folder]] for shot in shots)
    return text.getvalue()
