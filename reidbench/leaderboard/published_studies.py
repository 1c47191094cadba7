"""The studies of a leaderboards folder: read, checked, added, and the rows that follow from their final runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.check_record import Problem, check_run, file_problem, follows
from reidbench.leaderboard.rows import Row, board_name
from reidbench.plugins.spec import is_name
from reidbench.ranking.rankings import RANKINGS, read_ranking
from reidbench.runs.record import RECORD, RunRecord
from reidbench.studies.define import define_study
from reidbench.studies.page import compare_study
from reidbench.studies.search import trial_seed
from reidbench.studies.study import STUDIES, STUDY_FILE, TRIALS_FILE, TUNINGS, StudyResult, read_study, store_study
from reidbench.utils.arrays import save_arrays
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO

TRIALS_NOTE = "trials of studies are self-reported: nothing that is stored shows whether their scores are true"


def study_board(result: StudyResult) -> str:
    """Return the name of the leaderboard of a study's rows."""
    return board_name(next(iter(result.runs.values())))


def study_rows(result: StudyResult) -> dict[str, tuple[Row, list[tuple[Path, RunRecord]]]]:
    """Return each row's cells that the study determines, and its runs, by ``config_hash``; none of flawed runs."""
    study, rows = result.study, {}
    searched = sorted((each.loss, each.ranges) for each in result.losses)
    ranges = hashlib.sha256(json.dumps(searched).encode()).hexdigest()[:16]
    for each in result.losses:
        for tuning, finals in each.by_tuning.items():
            if not finals or not each.defaults or any(final.flawed for final in finals):
                continue
            tuned, first = tuning == "tuned", each.defaults[0].record
            budget = f"trials={study.trials}, searches={study.searches}, ranges={ranges}" if tuned else "trials=0"
            rule = "|".join(study.metrics) if tuned or len(study.metrics) == 1 else AUTO
            items = first.items | {"metric": replace(first.items["metric"], short=rule)}
            track = replace(first, items=items, evaluation=replace(first.evaluation, metric_is_auto=False)).track
            track += f" study(seeds={study.seeds}, {budget})"
            cells = {"track": track, "study": study.name, "tuning": tuning}
            cells["config_hash"] = hashlib.sha256(json.dumps([each.loss, cells]).encode()).hexdigest()
            options, metrics = ([final.record.items[kind].short for final in finals] for kind in ("loss", "metric"))
            if tuned:
                cells |= {"loss": each.loss, "loss_params": "; ".join(dict.fromkeys(options))}
                cells |= {"test_metric": "; ".join(dict.fromkeys(metrics))}
            rows[cells["config_hash"]] = (cells, [(final.folder, final.record) for final in finals])
    return rows


def study_problems(result: StudyResult, *, allow_dirty: bool = True) -> Iterator[Problem]:
    """Yield what is wrong; reads all rankings. Raises ReidbenchError where definition or rankings are unusable."""
    study, folder = result.study, result.folder
    toml = folder.with_name(f"{folder.name}.toml")
    # By the hours of a study, if it has any.
    chosen = {name: getattr(study, name) for name in ("trials", "seeds", "searches", "recipe") if study.hours}
    if not toml.is_file():
        yield file_problem(toml, "is missing")
    elif replace(define_study(str(toml), {}), **chosen) != study:
        yield file_problem(toml, f"defines another study than {folder / STUDY_FILE}")
    primary, metrics = next(iter(result.runs.values())).evaluation.primary, {*study.metrics}
    places = itertools.product(range(study.searches), range(1, study.trials + 1))
    expected = [(*place, trial_seed(study.seed, place[0]), primary, metrics, metrics) for place in places]
    given = (study.recipe, study.metrics[0] if len(study.metrics) == 1 else AUTO)
    for each in result.losses:
        trials = [(one.search, one.number, one.seed, one.primary, {*one.scores}, {*one.runs}) for one in each.trials]
        if trials != expected * (each.loss != "none"):
            numbers = f"expected trials 1 to {study.trials} in searches 0 to {study.searches - 1} of {each.loss}"
            text = f"{numbers}, with the seeds of the searches and {primary} under {' and '.join(study.metrics)}"
            yield file_problem(folder / TRIALS_FILE, text)
            continue
        for tuning in TUNINGS if each.trials else TUNINGS[1:]:
            finals = each.by_tuning.get(tuning, ())
            if len(finals) != study.seeds:
                text = f"has {len(finals)} final runs of {each.loss}, {tuning}, expected {study.seeds}"
                yield file_problem(folder / STUDY_FILE, text)
            for seed, final in enumerate(finals[: study.seeds]):
                best = each.winners[study.search_of(seed)].options if tuning == "tuned" else None
                texts = dict(zip(("loss", "recipe", "metric"), best or (each.loss, *given), strict=True))
                texts |= {kind: getattr(study, kind) for kind in ("protocol", "backbone", "rerank")}
                for kind, text in texts.items():
                    if not follows(kind, final.record.items[kind], text):
                        file = TRIALS_FILE if best else STUDY_FILE
                        clause = f"is not {text}, as it is by {file} for {each.loss}, {tuning}"
                        yield Problem(final.folder / RECORD, f"items.{kind}.spec", clause)
                if final.record.job.seed != seed:
                    yield Problem(final.folder / RECORD, "job.seed", f"is not {seed}")
    for path in sorted({*folder.glob("*/")} ^ result.runs.keys()):
        yield file_problem(path, f"is not both a folder here and a run in {STUDY_FILE}")
    for path, record in result.runs.items():
        if (path.name, study_board(result)) != (record.id[:12], board_name(record)):
            yield Problem(path / RECORD, "id", f"begins with {record.id[:12]}: the run is misplaced")
        yield from check_run(path, record, allow_dirty=allow_dirty) if record.status == "ok" else ()
    compare_study(result)


def load_studies(folder: Path, *, files: bool = False, dirty: bool = True) -> tuple[list[StudyResult], list[Problem]]:
    """Return the readable studies of a leaderboards folder, and the problems of all; rankings only with ``files``.

    ``dirty`` allows runs with uncommitted changes.
    """
    studies: list[StudyResult] = []
    problems: list[Problem] = []
    for place in sorted(folder.glob(f"{STUDIES}/*/")):
        try:
            studies.append(read_study(place))
            problems += study_problems(studies[-1], allow_dirty=dirty) if files else []
        except ReidbenchError as error:
            problems.append(file_problem(place / STUDY_FILE, str(error)))
    return studies, problems


def add_study(source: Path, folder: Path, *, allow_dirty: bool = False) -> None:
    """Copy a study from the results to a leaderboards folder, beside its definition; of rankings only the ranks.

    Raises DataError with every reason, and writes nothing, where it is refused.
    """
    result = read_study(source)
    name = result.study.name
    target, toml = folder / STUDIES / name, folder / STUDIES / f"{name}.toml"
    if not is_name(name) or not toml.is_file() or target.exists():
        raise DataError(f"{source}: expected the study of a file {toml}, and no folder {target}; delete an earlier one")
    with tempfile.TemporaryDirectory(dir=folder) as temp:
        home = Path(temp) / STUDIES / name
        write_atomic(home.with_name(toml.name), toml.read_bytes())
        for path, record in result.runs.items():
            write_atomic(home / record.id[:12] / RECORD, record.to_json())
            if record.scored:
                ranks = {**vars(read_ranking(path))}
                ranks |= {key: ranks[key][:, :0] for key in ("top", "top_distances")}
                ranks["distances"] = np.zeros_like(ranks["distances"])
                save_arrays(home / record.id[:12] / RANKINGS, ranks, deflated=True)
        if result.study.trials:
            write_atomic(home / TRIALS_FILE, (source / TRIALS_FILE).read_bytes())
        store_study(result, home, lambda final: final.record.id[:12])
        if problems := load_studies(Path(temp), files=True, dirty=allow_dirty)[1]:
            raise DataError("\n".join(["nothing was added:", *map(str, problems)]).replace(temp, str(folder)))
        home.rename(target)
