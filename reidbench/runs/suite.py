"""Suites: TOML files whose lists multiply into jobs, and other scales of them on synthetic data."""

from __future__ import annotations

import importlib.util
import itertools
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from reidbench.errors import DataError, OptionError, contract_error, describe_problem, did_you_mean, plugin_call, quoted
from reidbench.plugins.catalogue import ResolvedSpec, command_defaults, load
from reidbench.plugins.spec import is_name
from reidbench.runs.job import Job
from reidbench.runs.record import RECORD
from reidbench.utils.machine import user_path
from reidbench.utils.progress import progress
from reidbench.utils.random_streams import MOST_SEED
from reidbench.utils.untrusted_files import read_text

KEYS = tuple(part.name for part in fields(Job))
MOST_JOBS = 100_000  # of one suite
SUITE_BYTES = 2**20
_INSTALLED = "reidbench_leaderboards"


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _require(test: Callable[[str], object], problem: str) -> AfterValidator:
    def check(text: str) -> str:
        if not test(text):
            raise ValueError(problem)
        return text

    return AfterValidator(check)


# The content of a TOML file: the keys of a job with their values, tables of jobs, and scales.
_Text = Annotated[str, _require(str.strip, "is blank")]
_Folder = Annotated[str, _require(is_name, "cannot name a folder")]
_Texts = Annotated[list[_Text], BeforeValidator(_as_list), Field(min_length=1)]
_Seeds = Annotated[list[Annotated[int, Field(ge=0, le=MOST_SEED)]], BeforeValidator(_as_list), Field(min_length=1)]
_CONFIG = ConfigDict(extra="forbid", strict=True)
_VALUES: dict[str, Any] = {key: (_Seeds if key == "seed" else _Texts, None) for key in KEYS}
_REPLACED: dict[str, Any] = {key: (dict[_Text, _Text], {}) for key in KEYS if key != "seed"}
_Choices: Any = create_model("_Choices", __config__=_CONFIG, **_VALUES)
_ScaleTable: Any = create_model("_ScaleTable", __config__=_CONFIG, data=(dict[_Folder, _Text], {}), **_REPLACED)
_Jobs = Annotated[list[_Choices], Field(min_length=1)]
_Parts: dict[str, Any] = {"job": (_Jobs, None), "scale": (dict[str, _ScaleTable], {}), "study": (dict[str, Any], {})}
_Parts |= {"suites": (_Texts, []), "data": (dict[_Folder, _Text], {})}
_SuiteTable: Any = create_model("_SuiteTable", __base__=_Choices, **_Parts)


@dataclass(frozen=True)
class Scale:
    """Another size of a suite.

    ``name``: its name.
    ``jobs``: the job at this size for each job of the suite.
    ``data``: the synthesizer that writes each folder of its data.
    """

    name: str
    jobs: Mapping[Job, Job]
    data: Mapping[str, str]


@dataclass(frozen=True)
class Suite:
    """A named list of jobs.

    ``name``: the name of its file.
    ``jobs``: the jobs, each once.
    ``scales``: its other sizes by name.
    ``study``: the table ``[study]`` as it is, for a study of its losses.
    ``data``: the synthesizer that writes each folder of its data below the data root, where its scale has none.
    """

    name: str
    jobs: list[Job]
    scales: Mapping[str, Scale] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """Return a scale; raises OptionError with the nearest name where there is none."""
        if name not in self.scales:
            known = f"{did_you_mean(name, self.scales)}; it has {', '.join(self.scales) or 'no scales'}"
            raise OptionError(f"suite {self.name} has no scale {name!r}{known}")
        return self.scales[name]

    def every_scale(self) -> list[Job]:
        """Return the jobs at their own scale and at every other."""
        return [*self.jobs, *(small for scale in self.scales.values() for small in scale.jobs.values())]


def expand(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of a suite's table: every combination of its values once, the seed varying fastest.

    The keys are those of a job, each with a text (``seed``: a whole number) or a list of such. Each ``[[job]]`` table
    multiplies separately, with the other keys as its defaults. ``defaults`` are the command line's for the same keys.
    Raises OptionError with all mistakes at once.
    """
    return _jobs_of(_read_table(table), defaults)


def _read_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a suite's table with every value of a job as a list; raises OptionError with all mistakes at once."""
    try:
        values: dict[str, Any] = _SuiteTable.model_validate(table).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise OptionError("\n".join(map(_describe, error.errors(include_url=False)))) from None
    return values


def _describe(problem: ErrorDetails) -> str:
    name = str(problem["loc"][-1])
    near = did_you_mean(name, _SuiteTable.model_fields) if problem["type"] == "extra_forbidden" else ""
    return describe_problem(problem) + near


def _jobs_of(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of a valid table, each once."""
    jobs: dict[Job, None] = {}
    combinations = 0
    for own in table.get("job", [{}]):
        choices = {**defaults, **table, **own}
        lists = [_as_list(choices[key]) for key in KEYS]
        combinations += math.prod(map(len, lists))
        if combinations > MOST_JOBS:
            lengths = " x ".join(f"{len(values):,} {key}" for key, values in zip(KEYS, lists, strict=True))
            raise OptionError(f"the lists multiply to more than {MOST_JOBS:,} jobs ({lengths}); split the suite")
        jobs |= dict.fromkeys(Job(**dict(zip(KEYS, each, strict=True))) for each in itertools.product(*lists))
    return list(jobs)


def load_suite(path: Path, within: tuple[Path, ...] = ()) -> Suite:
    """Return the suite in a TOML file, named after the file; missing keys have the command line's defaults.

    A folder is one suite of those in its files, as a file whose only key is ``suites``, a list of names, is of those.
    ``within`` are the suites that this one is a part of. Raises DataError where the file cannot be read, OptionError,
    with the file, where its content is not valid.
    """
    path = user_path(path)
    if path in within:
        raise OptionError(f"{path}: suites: it is a part of itself")
    if path.is_dir():
        if not any(path.glob("*.toml")):
            raise DataError(f"{path}: is a folder without suites")
        return _combine(path, [load_suite(file, (*within, path)) for file in sorted(path.glob("*.toml"))])
    try:
        table = _read_table(tomllib.loads(read_text(path, SUITE_BYTES)))
        if "suites" in table and len(table) > 1:
            raise OptionError("suites: expected the only key, with the names of other suites")
        jobs = _jobs_of(table, command_defaults())
        scales = _scales(table.get("scale", {}), jobs)
    except OptionError as error:
        raise OptionError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nested too deeply
        raise OptionError(f"{path}: is not TOML: {error}") from None
    if "suites" in table:
        return _combine(path, [load_suite(find_suite(name), (*within, path)) for name in table["suites"]])
    return Suite(path.stem, jobs, scales, table.get("study", {}), table.get("data", {}))


def _combine(path: Path, suites: Sequence[Suite]) -> Suite:
    """Return several suites as one; raises OptionError where they differ in a scale or in data."""

    def union(what: str, parts: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
        merged = {key: value for part in parts for key, value in part.items()}
        if wrong := [suite for suite, part in zip(suites, parts, strict=True) if not merged.items() >= part.items()]:
            raise OptionError(f"{path}: {what} of suite {wrong[0].name} contradicts that of another suite")
        return merged

    jobs = list(dict.fromkeys(job for suite in suites for job in suite.jobs))
    whole = Suite(path.stem, jobs, data=union("data", [suite.data for suite in suites]))
    scales: dict[str, Scale] = {}
    for name in dict.fromkeys(name for suite in suites for name in suite.scales):
        parts, what = [suite.scale(name) for suite in suites], f"scale {name}"
        small, data = union(what, [each.jobs for each in parts]), union(what, [each.data for each in parts])
        scales[name] = Scale(name, small, data)
    return replace(whole, scales=scales)


def find_suite(name: str) -> Path:
    """Return the TOML file of a suite, given by its path or by its name among the leaderboards ("paper/table1").

    A system needs no folder ("trinet" is "systems/trinet"); the name of a folder of suites ("systems") is the folder.
    Raises OptionError with the nearest names where there is none.
    """
    path = Path(name)
    if path.suffix == ".toml" and path.exists():
        return path
    folder = leaderboards_folder()
    suites = {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.toml"))}
    suites |= {name.rpartition("/")[0]: file.parent for name, file in suites.items() if "/" in name}
    for known_as in (name, f"systems/{name}"):
        if known_as in suites:
            return suites[known_as]
    if (path / RECORD).exists():
        raise OptionError(f"{name}: is a run's folder; to reproduce the run: reidbench run {path / RECORD}")
    by_last = {each.rpartition("/")[2]: each for each in suites}
    near = did_you_mean(path.name, by_last, lambda each: quoted(by_last[each]))
    raise OptionError(f"there is no suite {name!r}{near}; list them: reidbench suites")


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


def _scales(tables: Mapping[str, dict[str, dict[str, str]]], jobs: Iterable[Job]) -> dict[str, Scale]:
    """Return the scales of a suite; raises OptionError where a text to be replaced is in no job."""
    texts = {job: asdict(job) for job in jobs}
    scales, unused = {}, []
    for name, table in tables.items():
        data = table.pop("data", {})
        for key, others in table.items():
            missing = others.keys() - {each[key] for each in texts.values()}
            unused += [f"scale.{name}.{key}: no job of the suite has {text!r}" for text in others if text in missing]
        small = {
            job: Job(**{key: table.get(key, {}).get(text, text) for key, text in own.items()})
            for job, own in texts.items()
        }
        scales[name] = Scale(name, small, data)
    if unused:
        raise OptionError("\n".join(unused))
    return scales


def trains(spec: str, directory: Path) -> bool:
    """Return whether a synthesizer (a spec) would train a generator to write into ``directory``; raises OptionError."""
    return bool(getattr(load().resolve("synthesizer", spec).build(directory), "trains", False))


def synthesize(spec: str, directory: Path) -> tuple[int, int]:
    """Write a synthetic dataset with a synthesizer (a spec) and return the number of images written, and in total.

    The same call resumes where it stopped. Raises OptionError, and DataError where the folder cannot be used.
    """
    steps = synthesizer_steps(load().resolve("synthesizer", spec), directory)
    done, total = next(steps, (0, 0))
    with progress(f"writing {directory.name}", total, done) as update:
        for done, _ in steps:
            update(done, "")
    return done, total


def synthesizer_steps(spec: ResolvedSpec, directory: Path) -> Iterator[tuple[int, int]]:
    """Yield (images done, images in all) as a synthesizer does; raises PluginError for anything else."""
    steps = spec.build(directory)
    if not isinstance(steps, Iterable):
        raise contract_error(spec.owner, "what its factory returns", "an iterator of (done, total) images", steps)
    with plugin_call(spec.owner, "failed"):
        for step in steps:
            numbers = isinstance(step, tuple) and len(step) == 2 and all(type(number) is int for number in step)
            if not numbers or not 0 <= step[0] <= step[1]:
                raise contract_error(spec.owner, "each step", "a tuple (done, total) of images", step)
            yield step
