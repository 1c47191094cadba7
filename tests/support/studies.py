"""Invented results of studies, with rankings on disk, for the tests of tables and pages."""

from dataclasses import replace

import numpy as np

from reidbench.ranking.rankings import Ranking, save_ranking
from reidbench.ranking.scores import average_precision
from reidbench.studies.study import NONE, Final, LossResult, Study, StudyResult, Trial
from tests.support.rankings import ranking_of
from tests.support.records import digest, make_record, put

IDENTITIES, QUERIES, POSITIVES, GALLERY = 30, 3, 4, 200
LOSSES = {"batch_hard": 0.0, "lifted_generalized": 0.5, "my_loss": 0.45, NONE: -1.5}
OPTIONS = {"margin": (0.1, 1.0)}


def invented_ranking(quality: float, seed: int) -> Ranking:
    """Return a ranking of 30 identities with three queries each; 0.1 more quality is some two points of mAP."""
    random, steps = np.random.default_rng(seed), []
    for hard in np.random.default_rng(0).uniform(0.5, 4, IDENTITIES).repeat(QUERIES):
        gaps = 1 + random.exponential(hard * np.exp(-quality), POSITIVES).astype(int)
        steps.append(np.minimum(np.cumsum(gaps) - 1, GALLERY - POSITIVES + np.arange(POSITIVES)))
    units = np.array([query // QUERIES * POSITIVES + np.arange(POSITIVES) for query in range(len(steps))])
    ranking = ranking_of(steps, GALLERY)
    top = ranking.top + IDENTITIES * POSITIVES  # units of others
    for own, ranks, row in zip(units, steps, top, strict=True):
        row[ranks[ranks < len(row)]] = own[ranks < len(row)]
    return replace(ranking, units=units.ravel(), top=top)


def make_study(folder, losses=LOSSES, *, trials=4, seeds=3, searches=3, against=None, statuses=None, standin=False):
    """Return a study of losses by quality; ``statuses`` are those of final seeds that did not end well."""
    study = Study(
        losses=tuple(losses), protocol="synthetic(identities=60)", backbone="tiny", recipe="quick(steps=200)",
        metrics=("euclidean", "cosine"), rerank="none", trials=trials, seeds=seeds, searches=searches if trials else 0,
        against=against,
    )  # fmt: skip

    tuned = "tuned" if trials else "default"

    def final(loss: str, place: int, seed: int, tuning: str) -> Final:
        random = np.random.default_rng([place, seed, tuning == "tuned"])
        quality = losses[loss] + 0.03 * random.standard_normal() + 0.1 * (tuning == "tuned")
        status = (statuses or {}).get((loss, seed), "ok") if tuning == tuned else "ok"
        ranking = invented_ranking(quality - 3 * (status == "collapsed"), place * 100 + seed * 2 + (tuning == "tuned"))
        score = float(average_precision(ranking, "market").mean())
        values = {"status": status, "error": "" if status == "ok" else f"the training {status}"}
        values["standin"] = standin
        record = make_record(loss, seed, scores={"map_market": score}, peak_memory_mib=600 + 50 * place, **values)
        record = replace(record, seconds=record.seconds | {"train": 0.0 if loss == NONE else 60.0 + 15 * place})
        if status == "failed":
            record = replace(record, scores={})
        own, _ = put(folder / "runs" / f"{place}-{tuning}-{seed}", record, rankings=None)
        if status != "failed":
            save_ranking(own, ranking)
        return Final(own, record)

    def trial(loss: str, place: int, search: int, number: int) -> Trial:
        random = np.random.default_rng([place, search, number])
        rate, margin = 0.001 * 10 ** random.uniform(-1, 1), random.uniform(*OPTIONS["margin"])
        lost = 0.08 * np.log10(rate / 0.0007) ** 2 + 0.05 * abs(margin - 0.5) + 0.01 * abs(random.standard_normal())
        score = max(0.42 + 0.06 * losses[loss] - lost, 0.05)
        given = number == 1
        return Trial(
            loss=loss, search=search, number=number,
            loss_text=loss if given else f"{loss.partition('(')[0]}(margin={margin:.3g})",
            recipe_text=study.recipe if given else f"quick(steps=200, learning_rate={rate:.3g})",
            seed=10_000 + search, runs={metric: digest(loss, search, number, metric) for metric in study.metrics},
            scores={"euclidean": score, "cosine": score - 0.01}, primary="map_market", status="ok", error="",
            seconds=55.0 + 15 * place, code=digest("code"),
        )  # fmt: skip

    results = []
    for place, loss in enumerate(losses):
        if loss == NONE:
            finals = [final(loss, place, 0, tuned)]
            results.append(LossResult(loss, {tuned: finals, "default": finals}))
            continue
        made = [
            trial(loss, place, search, number) for search in range(study.searches) for number in range(1, trials + 1)
        ]
        finals = [final(loss, place, seed, tuned) for seed in range(seeds)]
        defaults = [final(loss, place, seed, "default") for seed in range(seeds)] if trials else finals
        results.append(LossResult(loss, {tuned: finals, "default": defaults}, made))
    return StudyResult(study, results, folder)
