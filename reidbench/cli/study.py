"""``reidbench study``: compare losses under one tuning budget, over several seeds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reidbench.cli import run as run_verb
from reidbench.cli.flags import option, path_argument, path_option
from reidbench.cli.output import print_report

if TYPE_CHECKING:
    from reidbench.studies.study import StudyResult

_WHAT = "A suite with a table [study], or the folder of a finished study, to print its table."
_TRIALS = "Trials of each search; 0: the options as given.  [default: 5]"


def _with_options_of_run(function: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with its own parameters and those of ``run`` that it lacks, which it gets as ``options``."""
    own, others = (inspect.signature(each, eval_str=True).parameters for each in (function, run_verb.run))
    parameters = [each for each in {**own, **others, **own}.values() if each.kind is not each.VAR_KEYWORD]
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


@_with_options_of_run
def study(
    what: Annotated[Path | None, path_argument(_WHAT, "[STUDY]")] = None,
    against: Annotated[str | None, option("The loss that the others are compared with.")] = None,
    trials: Annotated[int | None, option(_TRIALS, "NUMBER")] = None,
    seeds: Annotated[int | None, option("Final seeds.  [default: 5]", "NUMBER")] = None,
    searches: Annotated[int | None, option("Searches of each loss: one for each seed, or 1 for all.", "NUMBER")] = None,
    hours: Annotated[float | None, option("Choose trials, seeds and steps that fit.", "HOURS")] = None,
    seed: Annotated[int | None, option("Seed of the searches.  [default: 0]", "NUMBER")] = None,
    html: Annotated[Path | None, path_option("Write the page here, not to the study's folder.", "FILE")] = None,
    **options: Any,
) -> None:
    """Tell which loss is better, and by how much: each gets the same number of trials, and is trained with new seeds.

    For each seed a search chooses options on held-out training identities; its winner is trained anew and scored once
    on the test. The same command again resumes, or prints the table.
    """
    from rich.console import Console

    from reidbench.cli.plan_output import prepare, print_line, print_plan, print_tasks
    from reidbench.errors import OptionError, describe_error
    from reidbench.plugins.catalogue import load
    from reidbench.reports.sections import default_parts
    from reidbench.runs.execute import build_executor
    from reidbench.runs.plan import KINDS
    from reidbench.studies.define import define_study
    from reidbench.studies.hours import plan_study
    from reidbench.studies.page import PAGE, StudyFiles, write_page
    from reidbench.studies.run_study import run_study

    machine, console = prepare(options)
    numbers = {"trials": trials, "seeds": seeds, "searches": searches, "seed": seed, "against": against, "hours": hours}
    values = {kind: options[kind] for kind in KINDS} | numbers
    page = html
    if what and what.is_dir():
        files = StudyFiles(_read_finished(what), machine)
        if options["scale"] or any(value not in (None, []) for value in values.values()):
            raise OptionError(f"{what}: is a finished study and takes no further options; run its suite to change it")
    else:
        definition = define_study(str(what) if what else None, values, options["scale"])
        executor, dry_run = build_executor(options["executor"]), options["dry_run"]
        trainings = plan_study(definition, machine, load(), executor, measure=not dry_run)
        out, most = (Console(highlight=False), None) if dry_run else (console, 0)
        for line in [*trainings.describe(), *trainings.notes]:
            print_line(out, line)
        print_plan(out, trainings.expected, most, verbose=options["verbose"], where=options["executor"] or "")
        if dry_run:
            print_tasks(out, trainings.expected, executor)
            return
        files = StudyFiles(run_study(trainings, executor), trainings.machine)
        page = html or files.result.folder / PAGE
    print_report(default_parts("study_sections", files.records, files))
    page_failed = False
    try:
        if page:
            write_page(files, page)
            print_line(console, f"page: {page}")
    except Exception as error:  # the table is printed, and nothing of the study is lost
        print_line(console, f"the page was not written: {describe_error(error)}")
        page_failed = html is not None
    if page_failed or any(record.status != "ok" for record in files.records):
        raise typer.Exit(1)


def _read_finished(folder: Path) -> StudyResult:
    """Return the study of a folder; raises DataError where it is none, and where files of a published one disagree."""
    from reidbench.errors import DataError
    from reidbench.leaderboard.published_studies import study_problems
    from reidbench.studies.study import STUDY_FILE, read_study

    if not (folder / STUDY_FILE).is_file():
        raise DataError(f"{folder}: has no {STUDY_FILE}; expected a finished study, or the file or name of a suite")
    result = read_study(folder.resolve())
    # Only a published study holds its runs.
    if any(run.parent == result.folder for run in result.runs) and (problems := [*map(str, study_problems(result))]):
        raise DataError("\n".join([f"{folder}: its files contradict one another:", *problems[:5]]))
    return result
