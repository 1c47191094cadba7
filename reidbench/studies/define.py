"""Define a study by a file or by choices of items, and by its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reidbench.errors import OptionError, describe_problem, did_you_mean
from reidbench.plugins.catalogue import command_defaults
from reidbench.runs.plan import KINDS, read_request
from reidbench.runs.suite import find_suite, load_suite
from reidbench.studies.study import NONE, Study
from reidbench.utils.machine import AUTO
from reidbench.utils.random_streams import MOST_SEED

MOST = 100  # trials of a search, and final seeds
SHARED = ("protocol", "backbone", "recipe", "rerank")  # items that all losses of a study share


class _Numbers(BaseModel):
    """The numbers of a study, as in the table ``[study]`` of its file; described at ``Study``."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    trials: Annotated[int, Field(ge=0, le=MOST)] = 5
    seeds: Annotated[int, Field(ge=1, le=MOST)] = 5
    searches: int | None = None
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    against: str | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


def define_study(what: str | None, values: Mapping[str, Any], scale: str | None = None) -> Study:
    """Return the study in a suite's file, or of the combinations of items.

    ``values`` hold lists of items by kind, and keys of a table ``[study]``, which replace the file's; None and what is
    left out have the file's value or the command line's. Raises OptionError, and DataError for an unreadable file.
    """
    defaults = command_defaults()
    choices = {kind: values[kind] for kind in KINDS if values.get(kind)}
    if what and what.endswith(".json"):
        raise OptionError(f"{what}: is no study; name a suite with a table [study]")
    request = read_request(what, choices if what or choices else {"loss": defaults["loss"]}, scale)
    suite = load_suite(find_suite(what)) if what else None
    own = {key: value for key, value in values.items() if key not in KINDS and value is not None}
    numbers = {**(suite.study if suite else {}), **own}
    try:
        checked = _Numbers.model_validate(numbers)
    except ValidationError as error:
        raise OptionError("\n".join(f"study: {describe_problem(each)}" for each in error.errors())) from None
    texts = {key: list(dict.fromkeys(asdict(job)[key] for job in request.jobs)) for key in asdict(request.jobs[0])}
    trained = [loss for text in texts["loss"] if (loss := text.strip()) != NONE]
    metrics = defaults["study_metrics"] if checked.trials and texts["metric"] == [AUTO] else texts["metric"]
    against, seeds = checked.against, checked.seeds
    expected = ", ".join(trained) + did_you_mean(str(against), trained)
    problems = {
        f"{kind}: the losses of a study share one, got {', '.join(texts[kind])}": len(texts[kind]) > 1
        for kind in SHARED
    } | {
        "seed: the finals of a study have the seeds 0, 1, ...; set their number, seeds": texts["seed"] != [0],
        "loss: name one besides none, which is always in a study": not trained,
        f"metric: without trials nothing chooses one of {', '.join(metrics)}": not checked.trials and len(metrics) > 1,
        f"against {against!r}: expected one of {expected}": against not in (None, *trained),
        "data: a study writes none; write it before, with reidbench data synthesize": bool(request.data),
        f"searches: expected {seeds}, one for each seed, or 1, got {checked.searches}": (
            checked.searches not in (None, 1, seeds if checked.trials else 0)
        ),
    }
    if any(problems.values()):
        raise OptionError("\n".join(text for text, is_wrong in problems.items() if is_wrong))
    return Study(
        losses=(*trained, NONE),
        metrics=tuple(metrics),
        given=tuple(name for name in ("trials", "seeds") if name in numbers),
        name=suite.name if suite else "",
        scale=request.scale and replace(request.scale, jobs={}),  # the items are at this scale already
        **{kind: texts[kind][0] for kind in SHARED},
        **checked.model_dump() | {"searches": (checked.searches or seeds) if checked.trials else 0},
    )
