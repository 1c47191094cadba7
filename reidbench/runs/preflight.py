"""Checks of everything that can fail before the first step: of a request alone, then of its data, weights and disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from reidbench.data.positives_and_exclusions import NO_POSITIVE, TWO_PIDS
from reidbench.data.protocol import VALIDATION_SUFFIX
from reidbench.errors import DataError, OptionError, plugin_call
from reidbench.images.contents import read_contents
from reidbench.plugins.interfaces import Backbone, owner_of
from reidbench.runs.prepare import Prepared
from reidbench.runs.store import RunState
from reidbench.training.build import build_backbone
from reidbench.training.checkpoint import KEPT_CHECKPOINTS
from reidbench.training.precision import check_device
from reidbench.utils.machine import Machine
from reidbench.utils.random_streams import with_seed

STATES = 3  # numbers of each weight in a checkpoint: the weight and two means of the optimizer
LOG_BYTES = 400  # of one step in a log

Networks = dict[tuple[str, int], Backbone]


def check_request(run: Prepared, machine: Machine) -> None:
    """Raise OptionError where the device lacks the recipe's precision or the training set cannot fill a batch.

    Also where the network is to be scored during training on the identities of a test; DataError as ``check_data``.
    """
    check_device(run.recipe, machine.device)
    name = run.items["protocol"].plugin_items[0].name
    if machine.validate_every and not name.endswith(VALIDATION_SUFFIX):
        use = f"use one that holds out training identities, such as {name}{VALIDATION_SUFFIX}"
        raise OptionError(f"--validate-every: protocol {name} scores the identities of the test; {use}")
    check_data(run)
    if run.trains:
        check_batch(run)


def check_data(run: Prepared) -> None:
    """Raise DataError where no query has a positive, or one file has two identities."""
    where = f"dataset {run.items['dataset'].text} in {run.split.train.root}"
    if run.unmatched.total == len(run.split.query):
        raise DataError(f"{where}: queries without a positive: {run.unmatched}: {NO_POSITIVE}")
    if files := run.contradictions.get(TWO_PIDS):
        raise DataError(f"{where}: {len(files):,} files have two identities, such as {files[0]}; correct the lists")


def check_batch(run: Prepared) -> None:
    """Raise OptionError where the training set has fewer identities than P, or fewer units than a shuffled batch."""
    recipe, p, k = run.recipe, run.recipe.p, run.recipe.k
    identities, units = run.split.counts["train_identities"], len(run.split.train)
    if identities < 2:
        advice = "a loss needs two to tell apart; use data of more, or --loss none for the untrained network"
        raise OptionError(f"dataset {run.items['dataset'].short}: {identities} identities to train on, and {advice}")
    problem = ""
    if recipe.frames > 1 and len(run.split.train.images) == units:
        problem = f"frames={recipe.frames}, but every training unit is one image; use frames=1, or data with tracklets"
    elif recipe.batches == "pk" and p > identities:
        problem = f"p={p} identities a batch, and only {identities} to train on; lower it to p={identities} or less"
    elif recipe.batches == "shuffled" and p * k > units:
        problem = f"p * k = {p * k} a batch, but the dataset has {units} to train on; lower p or k"
    if problem:
        raise OptionError(f"recipe {run.items['recipe'].short}: {problem}")


def preflight(runs: Sequence[Prepared], states: Sequence[RunState], machine: Machine) -> Networks:
    """Raise DataError where an image header is damaged, a results folder lacks space or pretrained weights are missing.

    Images that were checked before and have the same file stats are not read.

    Return the networks that were built and initialised, by backbone and seed: one for each pretrained backbone that a
    run starts from.
    """
    pending = [(run, state) for run, state in zip(runs, states, strict=True) if state.status != "done"]
    _check_disk([run for run, _ in pending], machine)
    for run, _ in pending:
        read_contents(run.split.parts, machine)
    first = {run.items["backbone"].identity: run for run, state in reversed(pending) if state.status == "new"}
    pretrained = [(backbone, run) for backbone, run in first.items() if run.info.pretrained]
    return {(backbone, run.job.seed): initialised_backbone(run) for backbone, run in pretrained}


def initialised_backbone(run: Prepared) -> Backbone:
    """Return the network as its training begins; raises DataError where its pretrained weights are missing."""
    network = build_backbone(run.items["backbone"], run.job.seed)
    with plugin_call(owner_of(network), "initialise"):
        with_seed(network.initialise, run.job.seed, "initialise")
    return network


def _check_disk(runs: Sequence[Prepared], machine: Machine) -> None:
    folder = next(folder for folder in (machine.results, *machine.results.absolute().parents) if folder.exists())
    if not folder.is_dir():
        raise DataError(f"{machine.results}: {folder} is a file; name another folder with --results")
    needed, (size, _, free) = results_bytes(runs), shutil.disk_usage(folder)
    if size and needed > free:  # some file systems tell no sizes
        sizes = f"the results take about {in_gib(needed)}, and {in_gib(free)} are free"
        raise DataError(f"{machine.results}: {sizes}; free some space, or name another folder with --results")


def results_bytes(runs: Sequence[Prepared]) -> int:
    """Return about how many bytes the weights, logs, embeddings and checkpoints of runs take at most."""
    files = checkpoints = 0
    for run in {run.train_id: run for run in runs}.values():
        embedded = len(run.split.query.images) + len(run.split.gallery.images)
        trained = (4 * run.info.parameters + LOG_BYTES * run.recipe.steps) * run.trains
        files += trained + 4 * embedded * run.info.embedding_dim
        checkpoints = max(checkpoints, KEPT_CHECKPOINTS * STATES * 4 * run.info.parameters)
    return files + checkpoints


def in_gib(size: int) -> str:
    """Return a number of bytes in words: "3 MiB", "1.6 GiB"."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 / 10 else f"{size / 2**30:,.1f} GiB"
