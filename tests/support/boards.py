"""Valid records with the rankings that their scores follow from, for the tests of leaderboards."""

import csv
import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reidbench.leaderboard.board import add
from reidbench.leaderboard.rows import row_of
from reidbench.leaderboard.site_entries import Entry
from reidbench.plugins.catalogue import build
from reidbench.ranking.camera_matrix import camera_scores
from reidbench.ranking.rankings import Ranking, save_ranking
from reidbench.ranking.scores import intervals, score
from reidbench.runs.provenance import code_digest
from reidbench.runs.record import CameraMatrix, RunRecord
from tests.support.rankings import rank
from tests.support.records import make_item, make_record
from tests.support.records import put as put_record

FIXED = ("id", "train_id", "group", "code", "scores", "intervals", "cameras")
QUERY = np.repeat(np.arange(1, 7), 2), np.tile([1, 2], 6)
GALLERY = np.repeat(np.arange(-1, 7), 5), np.tile([1, 2, 3, 1, 2], 8)


@functools.cache
def ranking_for(job):
    """Return a ranking of a small gallery as a function of the job."""
    generator = np.random.default_rng(list(repr(job).encode()))
    (query_pids, query_cams), (pids, cams) = QUERY, GALLERY
    people = generator.normal(size=(8, 16))
    query = torch.from_numpy(people[query_pids] + generator.normal(size=(len(query_pids), 16)))
    gallery = torch.from_numpy(people[pids] + generator.normal(size=(len(pids), 16)))
    return rank(query, gallery, query_pids, query_cams, pids, cams, build("metric", "euclidean"))


def derived_fields(ranking, query_pids, query_cams, cams, own=None):
    """Return the fields of a record that follow from a ranking: scores, intervals and the matrix of cameras."""
    own = np.full(len(ranking), -1) if own is None else own
    return {
        "scores": score(ranking, len(cams)).as_dict(),
        "intervals": intervals(ranking, query_pids),
        "cameras": CameraMatrix(**camera_scores(ranking, query_cams, cams, own).as_dict()),
    }


@functools.cache
def derived_for(job):
    """Return the fields that follow from the ranking for a job."""
    return derived_fields(ranking_for(job), *QUERY, GALLERY[1])


def valid_record(
    loss: str = "batch_hard", seed: int = 0, *, scores: dict[str, float] | None = None, **changes
) -> RunRecord:
    """Return a record that leaderboards accept; ``scores`` and ``changes`` as in ``make_record``.

    Ids, code digest, scores, intervals and camera matrix are derived, except those that ``changes`` names.
    """
    record = make_record(loss, seed, **{name: value for name, value in changes.items() if name not in FIXED})
    follow = {**derived_for(record.job), "code": code_digest(record.code_files)}
    follow["scores"] = follow["scores"] | (scores or {})
    follow |= record.ids()
    return replace(record, **follow | {name: value for name, value in changes.items() if name in FIXED})


def put(folder: Path, record: RunRecord, ranking: Ranking | None = None) -> tuple[Path, RunRecord]:
    """Write a run folder as the store does, and return it with its record."""
    put_record(folder, record, rankings=None)
    save_ranking(folder, ranking or ranking_for(record.job))
    return folder, record


def add_all(folder, records, **options):
    """Add records from run folders beside the leaderboard's."""
    folders = (folder.parent / "runs" / f"{number}-{record.job.loss[:40]}" for number, record in enumerate(records))
    return add([put(*run) for run in zip(folders, records, strict=True)], folder, **options)


def made_up_entries(rows, seeds=1, identities=30, loss="loss"):
    """Return entries of a site without files; the n-th loss has a lower score than those before it."""
    random, values, records = np.random.default_rng(0), {}, {}
    hard = random.uniform(0, 0.5, 3 * identities)
    for number, seed in itertools.product(range(rows), range(seeds)):
        noise = random.normal(0, 0.05, 3 * identities) + random.normal(0, 0.01)
        each = np.clip(0.95 - 0.8 * number / rows - hard + noise, 0, 1)
        options = "(margin=soft, distance=euclidean, average=all, singletons=count)"
        items = {"loss": make_item("", f"loss_{number}{options}", f"{loss}_{number}")}
        items["loss"].references.extend(["https://arxiv.org/abs/1703.07737", "javascript:alert(1)"])
        items["backbone"] = make_item("tiny" if number % 3 else "resnet50(head=fc1024, last_stride=1)")
        scores, seconds = {"map_market": each.mean()}, {"train": 60.0 + 9 * number, "embed": 3.5}
        record = make_record(str(number), seed, scores=scores, items=items, seconds=seconds)
        interval = {"map_market": [each.mean() - 0.03, each.mean() + 0.03]}
        records.setdefault(record.group, []).append(replace(record, intervals=interval))
        values.setdefault(record.group, []).append(each)
    pids, folder = np.repeat(np.arange(identities), 3), Path("leaderboards/records/synthetic")
    return [
        Entry(row_of(each), each, None, folder / each[0].id[:12], "one", pids, np.stack(values[key]))
        for key, each in records.items()
    ]


def rows_of(folder: Path, name: str = "synthetic") -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below ``folder`` but the lock, which stays, empty."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def edit_record(boards, change):
    """Edit the JSON of the first stored record; return its file."""
    file = sorted(boards.glob("records/*/*/record.json"))[0]
    data = json.loads(file.read_text())
    del data["checksum"]
    change(data)
    file.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return file
