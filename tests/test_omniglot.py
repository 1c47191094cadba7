"""Real drawings: bring your own data, train for a minute, and recognise characters never seen."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest

from tests.support.jobs import job, run
from tests.support.paths import SHARED

OMNIGLOT = SHARED / "data" / "omniglot"
UNSEEN = ("Japanese_(katakana)", "Sanskrit", "Tagalog")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Identity = character, camera = drawer; train on one archive, test on alphabets that only the other has."""
    if not OMNIGLOT.is_dir():
        pytest.skip(f"{OMNIGLOT} is absent: the real drawings lie beside the checkout, not in it")
    folder = tmp_path_factory.mktemp("omniglot")
    rows: list[tuple[str, int, int, str]] = []
    pids: dict[str, int] = {}
    for archive in ("images_background_small1.zip", "images_background_small2.zip"):
        with zipfile.ZipFile(OMNIGLOT / archive) as opened:
            for name in sorted(name for name in opened.namelist() if name.endswith(".png")):
                _, alphabet, character, file = name.split("/")
                train = archive.endswith("1.zip")
                if not train and alphabet not in UNSEEN:
                    continue
                opened.extract(name, folder)
                pid = pids.setdefault(f"{alphabet}/{character}", len(pids) + 1)
                drawer = int(Path(file).stem.split("_")[1])
                rows.append((name, pid, drawer, "train" if train else "query" if drawer <= 2 else "gallery"))
    with (folder / "list.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "pid", "camid", "split"), *rows])
    return folder / "list.csv"


def test_a_small_network_learns_real_drawings(drawings: Path) -> None:
    asked = {
        "protocol": f'csv_list(file="{drawings}", views=original)',
        "backbone": "tiny(height=32, width=32)",
        "recipe": "quick(steps=200, p=16, k=4, flip=false)",
    }
    _, untrained, _ = run(job(**asked, loss="none"))
    plan, trained, _ = run(job(**asked))
    assert untrained.status == trained.status == "ok"
    assert plan.split.counts["train_identities"] == 136
    assert trained.scores["map_step"] >= 3 * untrained.scores["map_step"]
