"""Define a study by a file or by choices of items, and by its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reidbench.errors import OptionError, describe_problem
from reidbench.plugins.catalogue import command_defaults
from reidbench.plugins.options import did_you_mean
from reidbench.runs.plan import Choices, read_request
from reidbench.runs.suite import MOST_JOBS, find_suite, load_suite
from reidbench.studies.study import NONE, Study
from reidbench.utils.machine import AUTO
from reidbench.utils.random_streams import MOST_SEED

TRIALS = 5
SEEDS = 5  # "Take S = 5; 3 is the least": of the seed and of the search together
CHOSEN = ("trials", "seeds")  # by --hours, where they are not given


class _Numbers(BaseModel):
    """The numbers of a study, as in the table ``[study]`` of its file; described at ``Study``."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    trials: Annotated[int, Field(ge=0)] = TRIALS
    seeds: Annotated[int, Field(ge=1)] = SEEDS
    searches: int | None = None
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    against: str | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


def define_study(what: str | None, choices: Choices, numbers: Mapping[str, Any], scale: str | None = None) -> Study:
    """Return the study in a suite's file, or of the combinations of ``choices``.

    ``choices`` maps keys of a job to lists; other keys have the command line's defaults. ``numbers`` are those of a
    table ``[study]`` and replace the file's. Raises OptionError, and DataError where the file cannot be read.
    """
    defaults = command_defaults()
    if what is None:
        choices = choices or {"loss": defaults["loss"]}
    elif what.endswith(".json"):
        raise OptionError(f"{what}: is a record, and a study needs losses; name a suite with a table [study]")
    request = read_request(what, choices, scale)
    suite = load_suite(find_suite(what)) if what else None
    numbers = {**(suite.study if suite else {}), **numbers}
    checked = _check(numbers)
    texts = {key: list(dict.fromkeys(asdict(job)[key] for job in request.jobs)) for key in asdict(request.jobs[0])}
    mistakes = [
        f"{kind}: a study compares losses under one {kind}, got {len(texts[kind])}: {', '.join(texts[kind])}"
        for kind in ("protocol", "backbone", "recipe", "rerank")
        if len(texts[kind]) > 1
    ]
    if texts["seed"] != list(defaults["seed"]):
        mistakes.append("seed: a study trains with the seeds 0, 1, ...; give their number: seeds, in the table [study]")
    losses = [text.strip() for text in texts["loss"]]
    losses += [] if NONE in losses else [NONE]
    trained = [loss for loss in losses if loss != NONE]
    if not trained:
        mistakes.append("loss: a study needs a loss besides none, which is always in it")
    metrics = texts["metric"]
    if checked.trials and metrics == [AUTO]:
        metrics = list(defaults["study_metrics"])
    if not checked.trials and len(metrics) > 1:
        mistakes.append(f"metric: without trials nothing chooses between {', '.join(metrics)}; name one")
    if checked.against is not None and checked.against not in trained:
        mistakes.append(
            f"against {checked.against!r}: is none of the trained losses{did_you_mean(checked.against, trained)}; they "
            f"are {', '.join(trained)}"
        )
    if checked.searches not in (None, 1, checked.seeds):
        mistakes.append(
            f"searches: expected {checked.seeds}, one for each seed, or 1 for all of them, got {checked.searches}"
        )
    runs = len(losses) * checked.seeds * (checked.trials * len(metrics) + 2)
    if runs > MOST_JOBS:
        mistakes.append(f"the study has more than {MOST_JOBS:,} runs; choose fewer trials or seeds")
    if mistakes:
        raise OptionError("\n".join(mistakes))
    return Study(
        losses=tuple(losses),
        protocol=texts["protocol"][0],
        backbone=texts["backbone"][0],
        recipe=texts["recipe"][0],
        metrics=tuple(metrics),
        rerank=texts["rerank"][0],
        trials=checked.trials,
        seeds=checked.seeds,
        searches=(checked.searches or checked.seeds) if checked.trials else 0,
        seed=checked.seed,
        against=checked.against,
        hours=checked.hours,
        given=tuple(name for name in CHOSEN if name in numbers),
        name=suite.name if suite else "",
        scale=request.scale,
    )


def _check(numbers: Mapping[str, Any]) -> _Numbers:
    try:
        return _Numbers.model_validate(dict(numbers))
    except ValidationError as error:
        raise OptionError("\n".join(f"study: {describe_problem(each)}" for each in error.errors())) from None
