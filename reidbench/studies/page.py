"""The comparison of a study's final runs, and the table and page that sections make of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reidbench.errors import DataError
from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import named_score
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.compare_runs import identities_of, same_matches
from reidbench.reports.html import to_html
from reidbench.reports.sections import default_parts, render
from reidbench.studies.comparison import Comparison, compare
from reidbench.studies.study import NONE, Final, Study, StudyResult
from reidbench.utils.arrays import FloatArray
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import Machine

PAGE = "study.html"


class StudyFiles(RunFiles):
    """The files of a study's final runs, with the study's ``result`` and its ``comparison``, for sections.

    ``records``: the records of the final runs, those at default options among them. Raises as ``compare_study``.
    """

    def __init__(self, result: StudyResult, machine: Machine) -> None:
        super().__init__(list(result.runs.items()), machine)
        self.result, self.comparison, self.records = result, compare_study(result), list(result.runs.values())


def compare_study(result: StudyResult) -> Comparison:
    """Return the comparison of a study's losses, from the rankings of its final runs and the score of its protocol.

    ``none`` is listed and not compared; so is a loss with a final run that failed, collapsed or learned nothing.
    Raises DataError where no run has scores, or rankings are missing, damaged, or of other queries than the first.
    """
    rankings = {folder: read_ranking(folder) for folder, record in result.runs.items() if record.scored}
    if not rankings:
        raise DataError(f"{result.folder}: no final run of this study has scores; its trainings failed")
    first = next(iter(rankings))
    for folder, ranking in rankings.items():
        if not same_matches(rankings[first], ranking):
            raise DataError(f"{folder}: has other queries or positives than {first}; only the same can be compared")
    pids = identities_of(rankings[first])

    def values(finals: Sequence[Final]) -> FloatArray:
        """Return the values [seeds, queries] of the score that the protocol ranks by."""
        scored = [(final.record.evaluation.primary, rankings[final.folder]) for final in finals if final.record.scored]
        return np.array([named_score(name).per_query(ranking) for name, ranking in scored]).reshape(-1, len(pids))

    # Where every search chose the options as given, both are the same runs, and nothing is gained or lost.
    changed = [each for each in result.losses if each.finals != each.defaults]
    trained = [each for each in changed if not any(final.flawed for final in each.defaults)]
    return compare(
        {each.loss: values(each.finals) for each in result.losses},
        pids,
        against=result.study.against,
        collapsed={each.loss: sum(final.flawed for final in each.finals) for each in result.losses},
        outside=(NONE,),
        defaults={each.loss: values(each.defaults) for each in trained},
    )


def write_page(files: StudyFiles, file: Path) -> None:
    """Write the page of a study; a section that fails is on it with its error."""
    study = files.result.study
    title = f"Study{f' {study.name}' * bool(study.name)}: {study.protocol}, {study.backbone}, {study.recipe}"
    about = f"Repeat it with: {study_command(study)}"
    page = render(
        default_parts("study_page_sections", files.records, files), lambda parts: to_html(parts, title, about)
    )
    write_atomic(file, page)


def study_command(study: Study) -> str:
    """Return the command line of a study."""
    flags = [("loss", loss) for loss in study.losses if loss != NONE] + [("metric", metric) for metric in study.metrics]
    names = ("protocol", "backbone", "recipe", "rerank", "trials", "seeds", "searches", "seed", "against")
    flags += [(name, str(getattr(study, name))) for name in names if getattr(study, name) is not None]
    return shlex.join(["reidbench", "study", *(part for name, value in flags for part in (f"--{name}", value))])
