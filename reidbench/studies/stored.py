"""A study in a folder: its definition, ranges and final runs in one file, beside its trials."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reidbench.errors import DataError, describe_problem
from reidbench.runs.record import RECORD, read_record
from reidbench.studies.study import Final, LossResult, Study, StudyResult, Trial, best_trials
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import parse_json, read_text

STUDY_FILE, TRIALS_FILE = "study.json", "trials.jsonl"


@dataclass(frozen=True)
class StoredStudy:
    """The content of a study's file.

    ``study``: its definition.
    ``ranges``: what was searched for each loss, one a line; empty where nothing was.
    ``finals``: by loss and tuning the folders of its final runs, by seed, relative to the study's.
    """

    study: Study
    ranges: Mapping[str, str]
    finals: Mapping[str, Mapping[str, list[str]]]


def store_study(result: StudyResult, folder: Path, name: Callable[[Final], str]) -> None:
    """Write the file of a study to a folder, in which ``name`` is the folder of a final run."""
    finals = {
        each.loss: {tuning: [name(final) for final in finals] for tuning, finals in each.by_tuning.items()}
        for each in result.losses
    }
    ranges = {each.loss: each.ranges for each in result.losses}
    content = dataclasses.asdict(StoredStudy(result.study, ranges, finals))
    write_atomic(folder / STUDY_FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_study(folder: Path) -> StudyResult:
    """Return the result of a stored study without its notes; raises DataError."""
    file = folder / TRIALS_FILE
    stored: StoredStudy = parse_typed(read_text(folder / STUDY_FILE), folder / STUDY_FILE, StoredStudy)
    lines = read_text(file).splitlines() if stored.study.trials else []
    trials: list[Trial] = parse_typed(f"[{','.join(lines)}]", file, list[Trial])
    losses = []
    for loss in stored.study.losses:
        finals = {
            tuning: [Final(seed, folder / run, read_record(folder / run / RECORD)) for seed, run in enumerate(runs)]
            for tuning, runs in stored.finals.get(loss, {}).items()
        }
        own = [each for each in trials if each.loss == loss]
        defaults = finals.get("default", [])
        winners, ranges = [*best_trials(own).values()], stored.ranges.get(loss, "")
        losses.append(LossResult(loss, finals.get("tuned", defaults), defaults, own, winners, ranges))
    return StudyResult(stored.study, losses, folder)


def parse_typed(text: str, file: Path, kind: Any) -> Any:
    """Return the value of a type in JSON text from an untrusted file; raises DataError, naming every wrong field."""
    parse_json(text, str(file))  # refuses what pydantic reads: a key twice
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        problems = "; ".join(map(describe_problem, error.errors(include_url=False)))
        raise DataError(f"{file}: {problems}") from None
