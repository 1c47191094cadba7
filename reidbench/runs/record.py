"""The record of a run: plain JSON with a schema number, from which the run can be made again."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from reidbench.errors import DataError
from reidbench.runs.ids import Identity, identity
from reidbench.runs.job import Job

SCHEMA = 1
RECORD = "record.json"

ITEMS = ("protocol", "dataset", "loss", "backbone", "recipe", "metric", "rerank")
# What is read from the parts of a record that its own type leaves open.
NEEDED: Mapping[str, Mapping[str, type]] = {
    "evaluation": {
        "version": int,
        "views": str,
        "pool": str,
        "primary": str,
        "normalize": bool,
        "learned": bool,
        "metric_is_auto": bool,
    },
    "dataset": {"digest": str, "train_digest": str, "counts": dict},
    "recipe": {"steps": int},
    "network": {"embedding_dim": int, "parameters": int},
    "environment": {"reidbench": str, "device_name": str},
}

Status = Literal["ok", "failed", "interrupted", "collapsed"]


@dataclass(frozen=True)
class ItemRecord:
    """One item of a run: the text that was given, the text with every option resolved, and who provides it.

    ``short`` is the text with only the options that differ from their defaults. ``origins`` says for each
    option where its value came from: "given", "protocol" or "default". ``identity`` is what enters ids, where that is
    not ``spec``: files by their sha256.
    """

    given: str
    spec: str
    short: str
    origins: dict[str, str]
    plugin: str
    distribution: str
    version: str
    identity: str = ""


@dataclass(frozen=True)
class RunRecord:
    """Everything about one run.

    ``id`` names the run, ``train_id`` its training, ``group`` the combination without the seed (the leaderboard's
    ``config_hash``), each 64 hex digits over resolved options; ``code`` is the digest over ``code_files`` (name to
    sha256). ``items`` has the kinds of ``ITEMS``. ``training`` is the training's folder in the results
    folder, where it was made. ``evaluation`` has version, views, pool, exclude, primary, normalize
    and metric_is_auto as resolved. ``recipe`` and ``network`` are what was built. ``scores`` are fractions and counts,
    ``intervals`` the 95 % interval [low, high] of some of them, and ``cameras`` the matrix of ``CameraScores.as_dict``;
    ``seconds`` per phase (``rounds``: the part of ``train`` in which batches were drawn, mining included).
    ``environment`` is where the network was trained (an untrained one: where it was scored), ``scored_in`` where it was
    scored. ``observed`` is what the monitor saw of the training. ``error`` is the reason of a status other than ok.
    """

    status: Status
    id: str
    train_id: str
    group: str
    code: str
    code_files: dict[str, str]
    job: Job
    items: dict[str, ItemRecord]
    training: str
    evaluation: dict[str, Any]
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    network: dict[str, Any]
    standin: bool
    faithful: bool
    deviations: list[str]
    scores: dict[str, float]
    seconds: dict[str, float]
    peak_memory_mib: int
    environment: dict[str, Any]
    scored_in: dict[str, Any]
    observed: dict[str, Any]
    commit: str
    dirty: bool
    started: str
    finished: str
    error: str = ""
    intervals: dict[str, list[float]] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    schema: int = field(default=SCHEMA)

    @property
    def scored(self) -> bool:
        """Whether the run came to its scores; a collapsed one did, and no leaderboard takes it."""
        return self.status in ("ok", "collapsed")

    @property
    def track(self) -> str:
        """What rows are ranked within: all of a combination but the loss and the seed, as one line.

        Of options only those that differ from their defaults; ``metric=auto`` where the metric is the loss's own.
        """
        kinds = ("backbone", "recipe", "metric", "rerank")
        texts = {kind: self.items[kind].short for kind in kinds}
        if self.evaluation["metric_is_auto"]:
            texts["metric"] = "auto"
        protocol = self.items["protocol"].short
        text = " ".join(f"{kind}={texts[kind]}" for kind in kinds)
        return f"protocol={protocol} {text}" if "(" in protocol else text

    def identity(self) -> Identity:
        """Return the ids that follow from what the record says was run; of a record that ``lacks`` nothing."""
        return identity(
            {kind: item.identity or item.spec for kind, item in self.items.items()},
            seed=self.job.seed,
            train_digest=self.dataset["train_digest"],
            digest=self.dataset["digest"],
            version=self.evaluation["version"],
            views=self.evaluation["views"],
            pool=self.evaluation["pool"],
        )

    def lacks(self) -> Iterator[str]:
        """Yield what a record that was not written by this program lacks, each as one clause."""
        yield from (f"items.{kind} is missing" for kind in ITEMS if kind not in self.items)
        for part, needed in NEEDED.items():
            values: Mapping[str, Any] = getattr(self, part)
            for name, form in needed.items():
                if type(values.get(name)) is not form:
                    yield f"{part}.{name} must be {form.__name__}, got {values.get(name)!r:.80}"

    def to_json(self) -> str:
        """Return the record as JSON text with sorted keys and a final newline."""
        return (
            json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        )

    @classmethod
    def from_json(cls, text: str, source: str) -> RunRecord:
        """Return the record in ``text``; ``source`` names it in errors.

        Raises DataError where the text is no JSON, has another schema number, or lacks or mistypes a field.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits too
            raise DataError(f"{source}: is not JSON ({error}); expected the record.json of a run") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise DataError(f"{source}: expected a run record with schema {SCHEMA}, got {found!r}")
        record = _decode(cls, data, source, "")
        assert isinstance(record, cls)
        return record


def read_record(file: Path) -> RunRecord:
    """Return the record in ``file``; raises DataError where it cannot be read or is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    return RunRecord.from_json(text, str(file))


def _decode(kind: Any, value: Any, source: str, where: str) -> Any:
    """Return ``value`` as ``kind``, checked all the way down; a record may come from a stranger."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise DataError(f"{source}: {where or 'the record'} must be an object, got {type(value).__name__}")
        hints = get_type_hints(kind)
        required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
        missing, unknown = sorted(required - set(value)), sorted(set(value) - set(hints))
        if missing or unknown:
            said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(
                unknown
            )
            raise DataError(f"{source}: {where or 'the record'} {' and '.join(said)}")
        return kind(
            **{name: _decode(hints[name], item, source, f"{where}.{name}".strip(".")) for name, item in value.items()}
        )
    if origin is Literal:
        fits = isinstance(value, str) and value in get_args(kind)
    elif origin is dict:
        if isinstance(value, dict):
            return {key: _decode(get_args(kind)[1], item, source, f"{where}.{key}") for key, item in value.items()}
        fits = False
    elif origin is list:
        if isinstance(value, list):
            return [_decode(get_args(kind)[0], item, source, f"{where}[{i}]") for i, item in enumerate(value)]
        fits = False
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = kind is Any or isinstance(value, kind)
    if not fits:
        expected = " or ".join(map(repr, get_args(kind))) if origin is Literal else getattr(kind, "__name__", str(kind))
        raise DataError(f"{source}: {where} must be {expected}, got {value!r:.80}")
    return value
