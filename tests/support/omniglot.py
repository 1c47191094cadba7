"""Omniglot's two small training sets as a list for ``csv_list``: real drawings that every clone has."""

import csv
import zipfile
from pathlib import Path

from tests.support.paths import DATA

# Alphabets of the second set that the first one lacks; they become query and gallery.
TEST_ALPHABETS = ("Japanese_(katakana)", "Sanskrit", "Tagalog")


def write_omniglot(folder: Path) -> Path:
    """Unpack the drawings into ``folder`` and return their list: identity = character, camera = drawer."""
    rows: list[tuple[str, int, int, str]] = []
    pids: dict[str, int] = {}
    for number in (1, 2):
        with zipfile.ZipFile(DATA / "omniglot" / f"images_background_small{number}.zip") as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
                _, alphabet, character, file = name.split("/")
                if number == 2 and alphabet not in TEST_ALPHABETS:
                    continue
                archive.extract(name, folder)
                pid = pids.setdefault(f"{alphabet}/{character}", len(pids) + 1)
                drawer = int(Path(file).stem.split("_")[1])
                part = "train" if number == 1 else "query" if drawer <= 2 else "gallery"
                rows.append((name, pid, drawer, part))
    with (folder / "list.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "pid", "camid", "split"), *rows])
    return folder / "list.csv"
