"""A study: its definition, its trials, its result, and their files; nothing is trained here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from reidbench.errors import DataError, describe_problem
from reidbench.ranking.scores import named_score
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.suite import Scale
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import parse_json, read_text

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"
STUDIES = "studies"  # subfolder of the results
STUDY_FILE, TRIALS_FILE = "study.json", "trials.jsonl"
TUNED, DEFAULT = TUNINGS = ("tuned", "default")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 seed" or "2 seeds"."""
    return f"{number} {noun}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Study:
    """The definition of a study.

    ``losses``: the text of each loss as given, each once; "none" among them.
    ``protocol``: the protocol whose test data judge.
    ``backbone``: the network of all.
    ``recipe``: the recipe of all, before the searched options are set.
    ``metrics``: the metrics that validation chooses from; ("auto",) for each loss's own.
    ``rerank``: the re-ranker, or "none".
    ``trials``: the number of trials of each search; 0 for the options as given.
    ``seeds``: the number of final seeds, which are 0, 1, ...
    ``searches``: the number of searches of each loss: ``seeds``, 1 for one that all seeds share, 0 without trials.
    ``seed``: the seed of the searches' points and of the trials' trainings.
    ``against``: the loss that the others are compared with, named before the results; None for none.
    ``hours``: the time that trials, seeds and steps are chosen to fit in; None where they are given.
    ``given``: which of "trials" and "seeds" were given, so that ``hours`` does not choose them.
    ``name``: the name of the study's file, or an empty text.
    ``scale``: the scale of the study's file, if one is named.
    """

    losses: tuple[str, ...]
    protocol: str
    backbone: str
    recipe: str
    metrics: tuple[str, ...]
    rerank: str
    trials: int
    seeds: int
    searches: int
    seed: int = 0
    against: str | None = None
    hours: float | None = None
    given: tuple[str, ...] = ()
    name: str = ""
    scale: Scale | None = None

    @property
    def digest(self) -> str:
        """The sha256 of the definition without its name, 64 hex digits."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def search_of(self, seed: int) -> int:
        """Return the search whose winner is trained with a final seed."""
        return seed if self.searches > 1 else 0


@dataclass(frozen=True)
class Trial:
    """One trial: one training on the search's own training identities, scored under each metric.

    ``loss``: the loss as given.
    ``search``: the number of the search, from 0.
    ``number``: the number of the trial in its search, from 1; the first is the options as given.
    ``loss_text``: the loss with this trial's options.
    ``recipe_text``: the recipe with this trial's options.
    ``seed``: the seed of the training.
    ``runs``: the id of the run under each metric, by the metric's text.
    ``scores``: the validation score under each metric, in the study's order: a fraction, or None if it failed.
    ``primary``: the name of that score.
    ``status``: "ok", or the worst verdict of its runs: "failed", "collapsed" or "no_gradient".
    ``error``: the reason of a status other than ok.
    ``seconds``: the duration of training, embedding and ranking.
    ``code``: the digest of the code that ran.
    """

    loss: str
    search: int
    number: int
    loss_text: str
    recipe_text: str
    seed: int
    runs: Mapping[str, str]
    scores: Mapping[str, float | None]
    primary: str
    status: str
    error: str
    seconds: float
    code: str

    @property
    def metric(self) -> str:
        """The metric with the best score, of equal ones the study's first; empty without scores."""
        return max(self.scores, key=self._value, default="")

    @property
    def options(self) -> tuple[str, str, str]:
        """The texts of loss, recipe and metric that a final run has if this trial is the best."""
        return self.loss_text, self.recipe_text, self.metric

    @property
    def score(self) -> float:
        """The best score under any metric; 0 where the training failed."""
        return self.scores.get(self.metric) or 0.0

    @property
    def rank_key(self) -> tuple[bool, float]:
        """A value that is greater for a better trial; one with a flaw is worse than any without."""
        return self.status == "ok", self._value(self.metric)

    def _value(self, metric: str) -> float:
        score = self.scores.get(metric)
        if score is None:
            return float("-inf")
        return score if named_score(self.primary).higher_is_better else -score


def best_trials(trials: Iterable[Trial]) -> dict[tuple[str, int], Trial]:
    """Return the best trial of each loss and search, the first of equal ones."""
    best: dict[tuple[str, int], Trial] = {}
    for trial in trials:
        key = (trial.loss, trial.search)
        best[key] = max(best.get(key, trial), trial, key=lambda each: each.rank_key)
    return best


@dataclass(frozen=True)
class Final:
    """One run on the test protocol.

    ``folder``: its folder, with the record and the rankings.
    ``record``: its record.
    """

    folder: Path
    record: RunRecord

    @property
    def flawed(self) -> bool:
        """Whether the run failed, collapsed or learned nothing."""
        return self.record.status != "ok"


@dataclass(frozen=True)
class LossResult:
    """The results of one loss in a study.

    ``loss``: the loss as given.
    ``by_tuning``: its runs in the order of their seeds: "tuned", where options were searched, and "default".
    ``trials``: the trials in the order of search and number; none for "none".
    ``ranges``: what was searched, one a line, such as "margin: 0.05 to 1 (log)"; empty where nothing was.
    ``notes``: sentences about what is not searched.
    """

    loss: str
    by_tuning: Mapping[str, Sequence[Final]]
    trials: Sequence[Trial] = ()
    ranges: str = ""
    notes: Sequence[str] = ()

    @property
    def defaults(self) -> Sequence[Final]:
        """The runs with the options as given."""
        return self.by_tuning.get(DEFAULT, ())

    @property
    def finals(self) -> Sequence[Final]:
        """The runs of the comparison: tuned, or with the options as given where nothing was tuned."""
        return self.by_tuning.get(TUNED, self.defaults)

    @property
    def winners(self) -> list[Trial]:
        """The best trial of each search."""
        return list(best_trials(self.trials).values())


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    ``study``: its definition, with the trials, seeds and steps that ``hours`` chose.
    ``losses``: the results of each loss, in the order of the definition.
    ``folder``: the study's folder in the results folder.
    ``notes``: sentences about the whole, such as what ``hours`` chose.
    """

    study: Study
    losses: Sequence[LossResult]
    folder: Path
    notes: Sequence[str] = ()

    @property
    def runs(self) -> dict[Path, RunRecord]:
        """The records of the final runs by folder, each once."""
        finals = [final for each in self.losses for runs in each.by_tuning.values() for final in runs]
        return {final.folder: final.record for final in finals}

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each final run: loss, tuning, seed, status, scores and ids."""
        import pandas as pd  # noqa: PLC0415 - takes a second to import

        by_tuning = [(each.loss, *item) for each in self.losses for item in each.by_tuning.items()]
        runs = [(loss, tuning, final.record) for loss, tuning, finals in by_tuning for final in finals]
        return pd.DataFrame(
            {"loss": loss, "tuning": tuning, "seed": record.job.seed, "status": record.status}
            | {f"{kind}_spec": record.items[kind].short for kind in ("loss", "recipe", "metric")}
            | {**record.scores, "id": record.id, "train_id": record.train_id}
            for loss, tuning, record in runs
        )

    def trials_frame(self) -> pd.DataFrame:
        """Return a table with a row for each trial."""
        import pandas as pd  # noqa: PLC0415

        return pd.DataFrame(
            {**dataclasses.asdict(trial), "metric": trial.metric, "score": trial.score}
            for each in self.losses
            for trial in each.trials
        )


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
    stored: StoredStudy = parse_typed(read_text(folder / STUDY_FILE), folder / STUDY_FILE, StoredStudy)
    file, metrics = folder / TRIALS_FILE, stored.study.metrics
    lines = read_text(file).splitlines() if stored.study.trials else []
    parsed: list[Trial] = parse_typed(f"[{','.join(lines)}]", file, list[Trial])
    # Keys have no order in JSON, but of equal scores the one under the study's first metric counts.
    ordered = [{key: each.scores[key] for key in metrics if key in each.scores} | {**each.scores} for each in parsed]
    trials = [dataclasses.replace(each, scores=scores) for each, scores in zip(parsed, ordered, strict=True)]
    results = []
    for loss in stored.study.losses:
        names = stored.finals.get(loss, {})
        by_tuning = {
            tuning: [Final(folder / name, read_record(folder / name / RECORD)) for name in names[tuning]]
            for tuning in TUNINGS
            if names.get(tuning)
        }
        own = [each for each in trials if each.loss == loss]
        results.append(LossResult(loss, by_tuning, own, stored.ranges.get(loss, "")))
    if not any(each.by_tuning for each in results):
        raise DataError(f"{folder / STUDY_FILE}: names no final run of {', '.join(stored.study.losses)}")
    return StudyResult(stored.study, results, folder)


def parse_typed(text: str, file: Path, kind: Any) -> Any:
    """Return the value of a type in JSON text from an untrusted file; raises DataError, naming every wrong field."""
    parse_json(text, str(file))  # refuses what pydantic reads: a key twice
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise DataError(f"{file}: {'; '.join(map(describe_problem, error.errors(include_url=False)))}") from None
