"""The section ``controls``: who is compared with whom, and that every system of the paper comes with its control."""

from dataclasses import replace

import numpy as np
from reidbench_reports.published import published_numbers, stand_ins

from reidbench import Job, leaderboards_folder, load_suite
from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.parts import build_part, printed
from tests.support.rankings import ranking_of, with_rankings
from tests.support.records import replace_parts, run_of


def ranking(*ranks):
    """Return a ranking of the same positives at other ranks, without distances and nearest items."""
    other = ranking_of(ranks)
    nothing = {"top": other.top[:, :0], "top_distances": other.top_distances[:, :0]}
    return replace(other, units=np.arange(len(other.units)), distances=np.zeros(len(other.units)), **nothing)


GOOD, BAD = ranking([0, 1], [2], [0], [1]), ranking([4, 5], [6], [7], [5])


def test_systems_have_the_difference_to_their_control(tmp_path):
    suites = [load_suite(leaderboards_folder() / "systems" / f"{name}.toml") for name in ("trinet", "lomo_nullspace")]
    runs = []
    for suite in suites:
        for job in map(suite.scale("tiny").jobs.get, suite.jobs):
            control = job.loss == "none" and (job.backbone == "tiny" or job.metric == "euclidean")
            network = {"parameters": 0 if job.backbone.startswith("lomo") else 5}
            runs.append((run_of(job, network=network), BAD if control else GOOD))
    other = Job("synthetic", "batch_hard", "lunet", "quick", "auto", "none", 0)
    runs += [(run_of(other), GOOD), (run_of(replace(other, loss="none")), GOOD)]
    part = build_part("controls", [run for run, _ in runs], with_rankings(tmp_path, runs))
    (table,) = part.tables
    rows = list(zip(*(printed(table, heading) for heading in ("system", "data", "queries")), strict=True))
    assert rows == [
        ("TriNet", "Market-1501 SQ, tiny", "4"),
        ("LOMO + Null Space [36]", "Market-1501 SQ, tiny", "4"),
        ("LOMO + Null Space [36]", "Market-1501 MQ, tiny", "4"),
        ("batch_hard, lunet", "synthetic", "4"),
    ]
    gaps = [float(gap) for gap in printed(table, "Δ")]
    assert all(gap > 20 for gap in gaps[:3])
    assert gaps[3] == 0
    assert all(float(text.split(" to ")[0]) > 0 for text in printed(table, "95 % CI")[:3])
    assert not build_part("controls", [run_of(other)], RunFiles([], local_machine())).tables[0].rows


def test_every_system_that_runs_has_a_control(tmp_path):
    small = {small: job for small, (job, _) in stand_ins(2).items()}
    runs = []
    for job in small:
        pool = "mean" if job.loss == "none" and "pool=" not in job.protocol else "max"  # as losses choose it
        run = run_of(job, network={"parameters": int("lomo" not in job.backbone)})
        runs.append((replace_parts(run, evaluation={"pool": pool}), GOOD))
    (table,) = build_part("controls", [run for run, _ in runs], with_rankings(tmp_path, runs)).tables
    systems = {number.row for number in published_numbers(2) if number.job and "Re-ra" not in number.row}
    assert systems <= set(printed(table, "system"))
