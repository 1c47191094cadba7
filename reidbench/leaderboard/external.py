"""Rows made by other programs: what ``reidbench evaluate`` wrote, with rankings and a CSV of their own."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from reidbench.data.protocol import RANK_SCORES
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.check_record import Problem, csv_problems, file_problem
from reidbench.leaderboard.rows import Row, changing, unsafe_cells, write_rows
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.ranking.scores import headline_scores, score
from reidbench.studies.study import parse_typed
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import file_digest, open_regular, read_text

EXTERNAL, ENTRY, CSV = "external", "external.json", "rows.csv"
_LINK = "https?://[!-~]{1,500}"  # a browser follows it: nothing but http and https


@dataclass(frozen=True)
class EvaluationFiles:
    """How a scores file was made.

    Fields:
        protocol: spec of the protocol; empty where the rules are Market-1501's by default.
        version: version of the protocol.
        metric: spec of the metric, with all options; empty for distances.
        rerank: spec of the re-ranker, with all options, or "none".
        inputs: sha256 of the files of query, gallery, train and distances; without a gallery of shards.
        rankings: sha256 of the rankings, in the file NAME.rankings.npz beside NAME.json.
        scores: names of the scores; by default those of files that do not name them.
    """

    protocol: str
    version: int
    metric: str
    rerank: str
    inputs: dict[str, str]
    rankings: str
    scores: tuple[str, ...] = ("map_market", "map_step", *RANK_SCORES, "minp")


@dataclass(frozen=True)
class External:
    """A row made by another program; its scores follow from the rankings beside it.

    ``method``: the name of the method, in ASCII.
    ``code``: the address of its code.
    ``weights``: the address of its weights, or an empty text.
    ``gallery``: the number of gallery units.
    ``evaluation``: how ``reidbench evaluate`` scored it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    method: Annotated[str, Field(pattern="^[0-9A-Za-z][ -~]{0,99}$")]
    code: Annotated[str, Field(pattern=f"^{_LINK}$")]
    weights: Annotated[str, Field(pattern=f"^({_LINK})?$")]
    gallery: Annotated[int, Field(ge=1)]
    evaluation: EvaluationFiles

    def scores(self, ranking: Ranking) -> dict[str, float]:
        """Return its scores, as they follow from its rankings, and counts."""
        scores = score(ranking, self.gallery, self.evaluation.scores)
        newer = scores.values.keys() - self.evaluation.scores
        return {name: value for name, value in scores.as_dict().items() if name not in newer}

    def row(self, key: str, ranking: Ranking) -> Row:
        """Return its row."""
        how = self.evaluation
        numbers = {name: f"{value:.6f}" for name, value in self.scores(ranking).items() if isinstance(value, float)}
        names = {"track": "training not controlled", "protocol": f"{how.protocol}@{how.version}", "method": self.method}
        links = {"code": self.code, "weights": self.weights, "id": key}
        return {**names, **numbers, "metric": how.metric, "rerank": how.rerank, **links}


def read_external(folder: Path) -> tuple[External, Ranking]:
    """Return a stored row and its rankings; raises ReidbenchError where anything is not as it was added."""
    file, rankings = folder / ENTRY, folder / RANKINGS
    text = read_text(file)
    entry: External = parse_typed(text, file, External)
    if folder.name != hashlib.sha256(text.encode()).hexdigest()[:12]:
        raise DataError(f"{file}: is not what was added as {folder.name}; delete the folder and add again")
    if file_digest(rankings) != entry.evaluation.rankings:
        raise DataError(f"{rankings}: has another sha256 than {ENTRY} says; delete the folder and add again")
    ranking = read_ranking(folder)
    if ranking.gallery > entry.gallery:
        raise DataError(f"{file}: gallery is {entry.gallery}, but the rankings need {ranking.gallery} units or more")
    for column, problem in unsafe_cells(entry.row(folder.name, ranking)):
        raise DataError(f"{file}: {column} {problem}")
    return entry, ranking


def load_external(folder: Path) -> tuple[dict[Path, tuple[External, Ranking]], list[Problem]]:
    """Return the valid rows of a leaderboards folder by their folders, and everything that is wrong with any."""
    entries: dict[Path, tuple[External, Ranking]] = {}
    problems: list[Problem] = []
    for file in sorted(folder.glob(f"{EXTERNAL}/*/{ENTRY}")):
        try:
            entries[file.parent] = read_external(file.parent)
        except ReidbenchError as error:
            problems.append(file_problem(file, str(error)))
    return entries, [*problems, *csv_problems(folder / EXTERNAL / CSV, external_rows(entries))]


def external_rows(entries: Mapping[Path, tuple[External, Ranking]]) -> list[Row]:
    """Return the rows by protocol, the highest mAP, or Recall@1, first."""
    rows = [entry.row(place.name, ranking) for place, (entry, ranking) in entries.items()]
    return sorted(rows, key=lambda row: (row["protocol"], -float(row[headline_scores(row, "")[0]]), row["id"]))


def write_external(folder: Path) -> list[Path]:
    """Derive the CSV of the rows made by other programs where it is not up to date; return the files written."""
    file, (entries, problems) = folder / EXTERNAL / CSV, load_external(folder)
    outdated = any(problem.file == file for problem in problems)
    if outdated:
        write_atomic(file, write_rows(external_rows(entries)))
    return [file] * outdated


def add_external(file: Path, folder: Path, method: str, code: str, weights: str = "") -> list[Path]:
    """Add a scores file of ``reidbench evaluate`` with the rankings beside it, and derive the CSV.

    ``method`` is the name of the method, ``code`` and ``weights`` are addresses. Returns the files that were written.
    Raises ReidbenchError, and writes nothing, where the scores do not follow from the rankings, or a value is refused.
    """
    content: dict[str, Any] = parse_typed(read_text(file), file, dict[str, Any])
    given = {"method": method, "code": code, "weights": weights, "gallery": content.get("gallery")}
    text = json.dumps(given | {"evaluation": content.get("evaluation")}, indent=1, sort_keys=True) + "\n"
    entry: External = parse_typed(text, file, External)
    if not entry.evaluation.protocol:
        raise DataError(f"{file}: names no protocol; evaluate again with --protocol")
    home = folder / EXTERNAL / hashlib.sha256(text.encode()).hexdigest()[:12]
    with changing(folder), tempfile.TemporaryDirectory(dir=folder) as temp:
        place = Path(temp) / home.name
        write_atomic(place / ENTRY, text)
        with open_regular(file.with_suffix(f".{RANKINGS}")) as opened:
            write_atomic(place / RANKINGS, opened.read())
        _, ranking = read_external(place)
        for name, value in entry.scores(ranking).items():
            if content.get(name, value) != value:
                raise DataError(f"{file}: {name} is {content[name]!r:.80}, but the rankings give {value!r}")
        home.parent.mkdir(exist_ok=True)
        return [*([] if home.exists() else [place.rename(home) / ENTRY]), *write_external(folder)]
