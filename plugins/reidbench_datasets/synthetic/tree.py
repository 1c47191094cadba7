"""The dataset's folder: rendered once, by one process, under a temporary name until it is complete."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from reidbench import DataError, lock, track
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Tree, plan
from reidbench_datasets.synthetic.writer import write_entries

KILOBYTES = 4  # of an average image on a disk


def ensure_rendered(tree: Tree, parent: Path) -> Path:
    """Return the tree's folder below ``parent``, rendered first where it does not exist.

    One process renders at a time, into a temporary folder that is renamed when it is complete; what a killed process
    has left is deleted. Raises DataError where the folder cannot be written to or lacks an image.
    """
    folder = parent / tree.folder
    shots = plan(tree)
    if not folder.is_dir():
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with lock(parent / f".{tree.folder}.lock", f"rendering {tree.folder}", wait=math.inf):
                if not folder.is_dir():
                    unfinished = parent / f".{tree.folder}.unfinished"
                    shutil.rmtree(unfinished, ignore_errors=True)
                    try:
                        written = write_entries(unfinished, tree, [(shot.name, shot) for shot in shots])
                        for _ in track(written, len(shots), "rendering"):
                            pass
                        unfinished.rename(folder)
                    finally:
                        shutil.rmtree(unfinished, ignore_errors=True)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot write its {len(shots)} images (about {len(shots) * KILOBYTES // 1000 + 1} MB): "
                f"{error.strerror or error}; free space, make it writable, or name another data root"
            ) from None
    present = {f"{part}/{path.name}" for part in (TRAIN, QUERY, GALLERY) for path in (folder / part).glob("*")}
    missing = [shot.name for shot in shots if shot.name not in present]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(shots)} images are missing, the first is {missing[0]}; delete the "
            "folder to render it again"
        )
    return folder
