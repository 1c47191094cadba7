"""The record of a run: typed throughout, stored as JSON with a schema number."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, WrapValidator

from reidbench.errors import DataError, OptionError, describe_problem
from reidbench.plugins.interfaces import Preprocess
from reidbench.ranking.scores import headline
from reidbench.runs.job import EvaluationRecord, Job
from reidbench.runs.provenance import run_ids
from reidbench.training.recipe import Recipe
from reidbench.utils.atomic import check_seal, sealed_json
from reidbench.utils.machine import Environment
from reidbench.utils.untrusted_files import parse_json, read_text

if TYPE_CHECKING:
    from pydantic import ValidatorFunctionWrapHandler

SCHEMA: Literal[2] = 2
RECORD = "record.json"

ITEMS = ("protocol", "dataset", "loss", "backbone", "recipe", "metric", "rerank")

Status = Literal["ok", "failed", "interrupted", "collapsed", "no_gradient"]
FLAWS = ("collapsed", "no_gradient")  # verdicts that become the status: such a run is scored, no leaderboard accepts it


def _validate_unconverted(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Return a valid number as it is: an integer is not turned into a float, so that it is written back unchanged."""
    validate(value)
    return value


def _require_all_kinds(items: dict[str, ItemRecord]) -> dict[str, ItemRecord]:
    if missing := [kind for kind in ITEMS if kind not in items]:
        raise ValueError(f"lacks {', '.join(missing)}")
    return items


Number = Annotated[float, WrapValidator(_validate_unconverted)]


@dataclass(frozen=True)
class ItemRecord:
    """One plugin item of a run.

    ``given``: the text of the request.
    ``spec``: the text with every option resolved.
    ``short``: the text with only the options that differ from their defaults.
    ``origins``: for each option where its value came from: "given", "protocol" or "default".
    ``plugin``: the module that provides it.
    ``distribution``: the distribution that the module belongs to.
    ``version``: the version of the distribution.
    ``identity``: the text in ids where it is not ``spec``: files by sha256, newer options only where not the default.
    ``label``: the name for people that enters no id, of own data; empty for other items.
    ``references``: what the lines ``Reference: URL`` of its docstring name: papers, code. A link only if http or https.
    """

    given: str
    spec: str
    short: str
    origins: dict[str, str]
    plugin: str
    distribution: str
    version: str
    identity: str = ""
    references: list[str] = field(default_factory=list)
    label: str = ""


@dataclass(frozen=True)
class DatasetRecord:
    """The data of a run.

    ``digest``: sha256 over names and sizes of all lists, 64 hex digits.
    ``train_digest``: the same of the training list alone.
    ``counts``: numbers of images, units, identities and cameras by name.
    ``content``: sha256 over the content of the images of each part, by its name.
    ``wrong_counts``: one sentence for each count that differs from the published one.
    ``contradictions``: numbers of images and identities that its parts should not share, by kind.
    """

    digest: str
    train_digest: str
    counts: dict[str, int]
    content: dict[str, str]
    wrong_counts: list[str] = field(default_factory=list)
    contradictions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PreprocessRecord(Preprocess):
    """The input of a network.

    ``interpolation``: how images are resized.
    """

    interpolation: str = "bilinear"


@dataclass(frozen=True)
class NetworkRecord:
    """The network of a run.

    ``embedding_dim``: the number of dimensions of an embedding.
    ``parameters``: the number of parameters.
    ``pretrained``: whether it starts from pretrained weights.
    ``preprocess``: its input.
    """

    embedding_dim: int
    parameters: int
    pretrained: bool
    preprocess: PreprocessRecord


@dataclass(frozen=True)
class TrainingEnvironment(Environment):
    """The environment of a training: of its last part, if it was resumed, with all devices in ``device_name``.

    ``earlier_parts``: the environments of the parts before it was resumed.
    """

    earlier_parts: list[Environment] = field(default_factory=list)


@dataclass(frozen=True)
class MonitorRecord:
    """The monitor's observations of a training.

    ``verdict``: "healthy", "packed", "collapsed" or "no_gradient"; empty where nothing was trained.
    ``packed_steps``: the number of steps in which all embeddings of the batch were equal.
    """

    verdict: str = ""
    packed_steps: int = 0


@dataclass(frozen=True)
class CameraMatrix:
    """Scores per pair of cameras: a row is the query's camera, a column the gallery's; empty where nothing was scored.

    ``cameras``: the numbers of the cameras [c], rising.
    ``queries``: the number of queries with a positive in the gallery camera [c][c].
    ``map_market``: mean average precision [c][c]; None where there are no queries.
    ``r1``: rank-1 [c][c]; None where there are no queries.
    """

    cameras: list[int] = field(default_factory=list)
    queries: list[list[int]] = field(default_factory=list)
    map_market: list[list[Number | None]] = field(default_factory=list)
    r1: list[list[Number | None]] = field(default_factory=list)


@dataclass(frozen=True)
class RunRecord:
    """Everything about one run.

    ``schema``: the number of this format.
    ``status``: "ok", "failed", "interrupted", or one of ``FLAWS`` (scored, but no leaderboard accepts it).
    ``id``: the run's id, 64 hex digits over resolved options.
    ``train_id``: the id of its training.
    ``group``: the id of the combination without the seed; the leaderboard's ``config_hash``.
    ``code``: the digest over ``code_files``.
    ``code_files``: sha256 of each source file by its name.
    ``job``: the request.
    ``items``: the items by kind, as listed in ``ITEMS``.
    ``training``: the training's folder, relative to the results folder.
    ``evaluation``: the protocol, pooling and metric as resolved.
    ``dataset``: digests and counts of the data.
    ``recipe``: the recipe as built.
    ``network``: the network as built.
    ``standin``: whether the data are a synthetic stand-in.
    ``faithful``: whether the run follows its paper in all that the paper says.
    ``deviations``: one sentence for each difference from the paper.
    ``scores``: fractions and counts by name.
    ``seconds``: duration of each phase; ``rounds`` is the part of ``train`` in which batches were sampled and mined.
    ``peak_memory_mib``: the peak memory of the process in MiB.
    ``environment``: where the network was trained; for an untrained one, where it was scored.
    ``scored_in``: where it was scored.
    ``observed``: the monitor's observations of the training.
    ``commit``: the commit of the checkout, 40 hex digits; empty outside of one.
    ``dirty``: whether the checkout had uncommitted changes.
    ``started``: ISO 8601 with the offset from UTC.
    ``finished``: ISO 8601 with the offset from UTC.
    ``error``: the reason of a status other than ok.
    ``intervals``: the 95 % interval [low, high] of each score that has one.
    ``cameras``: scores per pair of cameras.
    ``weights``: sha256 of the weights file of the training, 64 hex digits; empty for an untrained network.
    ``checksum``: in a file the sha256 of its text without this value; empty in memory.
    """

    # Inherited by the parts: no conversion between types, no unknown field, no nan.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    schema: Literal[2]
    status: Status
    id: str
    train_id: str
    group: str
    code: str
    code_files: dict[str, str]
    job: Job
    items: Annotated[dict[str, ItemRecord], AfterValidator(_require_all_kinds)]
    training: str
    evaluation: EvaluationRecord
    dataset: DatasetRecord
    recipe: Recipe
    network: NetworkRecord
    standin: bool
    faithful: bool
    deviations: list[str]
    scores: dict[str, Number]
    seconds: dict[str, Number]
    peak_memory_mib: int
    environment: TrainingEnvironment
    scored_in: Environment
    observed: MonitorRecord
    commit: str
    dirty: bool
    started: str
    finished: str
    error: str = ""
    intervals: dict[str, list[Number]] = field(default_factory=dict)
    cameras: CameraMatrix = field(default_factory=CameraMatrix)
    weights: str = ""
    checksum: str = ""

    @property
    def scored(self) -> bool:
        """Return whether the run has scores."""
        return self.status in ("ok", *FLAWS)

    @property
    def result(self) -> str:
        """Return how the run ended, in one line: its first scores, or the reason."""
        scores = headline(self.scores, self.evaluation.primary)
        return f"done: {scores}" if self.status == "ok" else f"{self.status}: {self.error}"

    @property
    def track(self) -> str:
        """Return all of the combination except the loss, as one line; rows of one track are ranked.

        Only options that differ from their defaults are named; ``metric=auto`` where the metric is the loss's own.
        """
        kinds = ("backbone", "recipe", "metric", "rerank")
        texts = {kind: self.items[kind].short for kind in kinds}
        if self.evaluation.metric_is_auto:
            texts["metric"] = "auto"
        protocol = self.items["protocol"].short
        text = " ".join(f"{kind}={texts[kind]}" for kind in kinds)
        return f"protocol={protocol} {text}" if "(" in protocol else text

    def resolved_job(self, seed: int | None = None) -> Job:
        """Return the request with every option of every item spelt out, with another ``seed`` if one is given."""
        specs = {part.name: self.items[part.name].spec for part in dataclasses.fields(Job) if part.name != "seed"}
        return Job(**specs, seed=self.job.seed if seed is None else seed)

    def ids(self) -> dict[str, str]:
        """Return the ids that follow from the recorded options, data and seed."""
        identities = {kind: item.identity or item.spec for kind, item in self.items.items()}
        return run_ids(identities, self.job.seed, self.dataset.train_digest, self.dataset.digest, self.evaluation)

    def to_json(self) -> str:
        """Return the record as JSON text with sorted keys and a final newline."""
        return sealed_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str) -> RunRecord:
        """Return the record in ``text``; ``source`` names it in errors.

        Raises DataError, naming every wrong field, where the text is no JSON (as ``parse_json``), has another schema
        number, or lacks or mistypes a field.
        """
        try:
            record = dataclasses.replace(_adapter().validate_json(text), checksum="")
        except ValidationError as error:
            problems = error.errors(include_url=False)
            problems = [problem for problem in problems if problem["loc"] == ("schema",)] or problems
            raise DataError(f"{source}: is no run record: {'; '.join(map(describe_problem, problems))}") from None
        except OptionError as error:
            raise DataError(f"{source}: is no run record: recipe: {error}") from None
        parse_json(text, f"{source}: is no run record")  # after it, whose errors name the field: pydantic reads more
        return record


@cache
def _adapter() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)


def read_record(file: Path) -> RunRecord:
    """Return the record in ``file``; raises DataError where it cannot be read or is none."""
    text = read_text(file)
    record = RunRecord.from_json(text, str(file))
    if '"checksum":' in text:
        check_seal(text, str(file))
    return record
