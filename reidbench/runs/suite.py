"""Suites: TOML files whose lists multiply into jobs, and other scales of them on synthetic data."""

from __future__ import annotations

import importlib.util
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.plugins.options import did_you_mean
from reidbench.plugins.spec import is_name
from reidbench.runs.job import Job
from reidbench.utils.progress import progress
from reidbench.utils.random_streams import MOST_SEED, SEEDS

KEYS = tuple(part.name for part in fields(Job))
NAME = "name"
_TABLES = "job"
_SCALES = "scale"
_DATA = "data"
_INSTALLED = "reidbench_leaderboards"


@dataclass(frozen=True)
class Scale:
    """Another size of a suite.

    ``name``: its name.
    ``replaced``: for each key of a job, the new text of each text.
    ``data``: the synthesizer that writes each folder of its data.
    """

    name: str
    replaced: Mapping[str, Mapping[str, str]]
    data: Mapping[str, str]

    def of(self, job: Job) -> Job:
        """Return the job at this scale; a text without a replacement is unchanged."""
        texts: dict[str, Any] = {key: self.replaced.get(key, {}).get(text, text) for key, text in asdict(job).items()}
        return Job(**texts)


@dataclass(frozen=True)
class Suite:
    """A named list of jobs.

    ``name``: the name of its file.
    ``jobs``: the jobs, each once.
    ``names``: the names of the jobs that are systems.
    ``scales``: its other sizes by name.
    """

    name: str
    jobs: list[Job]
    names: Mapping[Job, str] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """Return a scale; raises OptionError with the nearest name where there is none."""
        if name not in self.scales:
            known = ", ".join(self.scales) or "none"
            raise OptionError(
                f"suite {self.name} has no scale {name!r}{did_you_mean(name, self.scales)}; it has {known}"
            )
        return self.scales[name]

    def every_scale(self) -> list[Job]:
        """Return the jobs at their own scale and at every other."""
        return [*self.jobs, *(scale.of(job) for scale in self.scales.values() for job in self.jobs)]


def expand(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of a suite's table: every combination of its values once, the seed varying fastest.

    The keys are those of a job, each with a text (``seed``: a whole number) or a list of such. Each ``[[job]]`` table
    multiplies separately, with the other keys as its defaults, and may have a ``name``. ``defaults`` are the command
    line's for the same keys. Raises OptionError with all mistakes at once.
    """
    common = {key: value for key, value in table.items() if key != _TABLES}
    inner = table.get(_TABLES, [{}])
    problems = list(_problems(common, "", tables=True))
    if not isinstance(inner, list) or not all(isinstance(job, Mapping) for job in inner):
        raise OptionError("\n".join([*problems, "job: expected [[job]] tables, each with keys of its own"]))
    if not inner:
        problems.append("job: the list of [[job]] tables is empty")
    for number, job in enumerate(inner, start=1):
        problems += _problems(_unnamed(job), f"[[job]] {number}: ", tables=False)
        name = job.get(NAME, "a name")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            problems.append(f"[[job]] {number}: name: expected a text, got {name!r:.80}")
    if problems:
        raise OptionError("\n".join(problems))
    return list(_named_jobs(table, defaults))


def _named_jobs(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[Job, str]:
    """Return the jobs of a valid table, each once, with the name in its own table or an empty text."""
    common = {key: value for key, value in table.items() if key != _TABLES}
    named: dict[Job, str] = {}
    for own in table.get(_TABLES, [{}]):
        for job in _multiply({**defaults, **common, **_unnamed(own)}):
            named[job] = named.get(job, "") or str(own.get(NAME, ""))
    return named


def _unnamed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != NAME}


def load_suite(path: Path) -> Suite:
    """Return the suite in a TOML file, named after the file; missing keys have the command line's defaults.

    Raises DataError where the file cannot be read, OptionError, with the file, where its content is not valid.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; name a suite or its TOML file") from None
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: is not TOML: byte {error.start} is no UTF-8 text") from None
    except ValueError as error:  # a number of thousands of digits too
        raise OptionError(f"{path}: is not TOML: {error}") from None
    try:
        sizes = table.pop(_SCALES, {})
        jobs = expand(table, command_defaults())
        scales = _scales(sizes, jobs)
    except OptionError as error:
        raise OptionError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    names = {job: name for job, name in _named_jobs(table, command_defaults()).items() if name}
    return Suite(path.stem, jobs, names, scales)


def find_suite(name: str) -> Path:
    """Return the TOML file of a suite, given by its path or by its name among the leaderboards ("paper/table1").

    Raises OptionError with the nearest names where there is none.
    """
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    folder = leaderboards_folder()
    suites = {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.toml"))}
    if name in suites:
        return suites[name]
    known = ", ".join(suites) or "none"
    raise OptionError(
        f"there is no suite {name!r}{did_you_mean(name, suites)}; known: {known}, or the path of a TOML file"
    )


def leaderboards_folder() -> Path:
    """Return the folder of leaderboards and suites: the checkout's where this package is in one, else the wheel's.

    Raises DataError where there is neither.
    """
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "leaderboards").is_dir():
        return checkout / "leaderboards"
    spec = importlib.util.find_spec(_INSTALLED)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"this installation of reidbench lacks its leaderboards ({_INSTALLED}); install it again")
    return Path(next(iter(spec.submodule_search_locations)))


def _problems(table: Mapping[str, Any], where: str, *, tables: bool) -> Iterator[str]:
    for key, value in table.items():
        if key not in KEYS:
            known = ", ".join(KEYS) + (" and [[job]] tables" if tables else "")
            yield f"{where}unknown key {key!r}{did_you_mean(key, KEYS)}; known: {known}"
            continue
        expected = SEEDS if key == "seed" else "a text"
        values = value if isinstance(value, list) else [value]
        if not values:
            yield f"{where}{key}: the list is empty, so there would be no job; expected {expected}, or a list of such"
        yield from (
            f"{where}{key}: expected {expected}, or a list of such, got {item!r:.80}"
            for item in values
            if not _fits(key, item)
        )


def _fits(key: str, value: object) -> bool:
    if key == "seed":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_SEED
    return isinstance(value, str) and bool(value.strip())


def _scales(tables: object, jobs: Sequence[Job]) -> dict[str, Scale]:
    """Return the scales of a suite; raises OptionError with all mistakes at once."""
    if not isinstance(tables, Mapping):
        raise OptionError(f"{_SCALES}: expected tables [{_SCALES}.NAME], got {tables!r:.80}")
    problems: list[str] = []
    for name, table in tables.items():
        problems += (
            f"{_SCALES}.{name}{problem}"
            for problem in (_scale_problems(table, jobs) if isinstance(table, Mapping) else [": expected a table"])
        )
    if problems:
        raise OptionError("\n".join(problems))
    return {
        name: Scale(name, {key: texts for key, texts in table.items() if key != _DATA}, table.get(_DATA, {}))
        for name, table in tables.items()
    }


def _scale_problems(table: Mapping[str, Any], jobs: Sequence[Job]) -> Iterator[str]:
    known = [*(key for key in KEYS if key != "seed"), _DATA]
    for key, texts in table.items():
        if key not in known:
            yield f": unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}"
        elif not isinstance(texts, Mapping) or not all(isinstance(text, str) and text for text in texts.values()):
            yield f".{key}: expected a table of texts"
        elif key == _DATA:
            yield from (f".{key}: {name!r} cannot name a folder" for name in texts if not is_name(name))
        else:
            used = {getattr(job, key) for job in jobs}
            yield from (f".{key}: no job of the suite has {text!r}" for text in texts if text not in used)


def _multiply(choices: Mapping[str, Any]) -> Iterator[Job]:
    lists = [value if isinstance(value, list) else [value] for value in (choices[key] for key in KEYS)]
    for combination in itertools.product(*lists):
        choice: dict[str, Any] = dict(zip(KEYS, combination, strict=True))
        yield Job(**choice)


def synthesize(spec: str, directory: Path) -> tuple[int, int]:
    """Write a synthetic dataset with a synthesizer (a spec) and return the number of images written, and in total.

    The same call resumes where it stopped. Raises OptionError, and DataError where the folder cannot be used.
    """
    steps = iter(load().resolve("synthesizer", spec).build(directory))
    done, total = next(steps, (0, 0))
    with progress("drawing images", total, done) as update:
        for done, _ in steps:
            update(done, "")
    return done, total
