"""The sentences of the section ``study_table`` that invented studies seldom need."""

from dataclasses import replace

import numpy as np
from reidbench_reports.study_wording import notes

from reidbench.studies.comparison import compare
from tests.support.studies import make_study

PIDS = np.repeat(np.arange(30), 2)


def values(count: int, seeds: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    level = random.uniform(0.3, 0.7, len(PIDS))
    return {f"loss {n}": level + 0.05 * random.standard_normal((seeds, len(PIDS))) for n in range(count)}


def test_many_pairs_are_counted_and_wild_seeds_named(tmp_path):
    study = make_study(tmp_path, {"loss 0": 0.0}, trials=0, seeds=1).study
    aps = values(8)
    aps["loss 3"] = aps["loss 3"] + np.linspace(-0.2, 0.2, 5)[:, None]
    aps["again"] = aps["loss 5"]
    text = " ".join(notes(compare(aps, PIDS), study))
    assert "loss 5 and again have equal scores in every seed" in text
    assert "of 36 pairs are told apart" in text
    assert "The seeds of loss 3 vary more" in text
    assert "With 5 seeds a gap of" in text


def test_verdicts_on_more_than_six_losses_are_counted(tmp_path):
    study = replace(make_study(tmp_path, {"loss 0": 0.0}, trials=0, seeds=1).study, against="loss 0")
    aps = {name: each - 0.3 * (name == "loss 7") for name, each in values(8).items()}
    lines = list(notes(compare(aps, PIDS, against="loss 0"), study))
    assert "The best of these 8 losses is among 7 (95 %): see the column may be best." in lines
    assert "Against loss 0 (named beforehand, Holm over 7): not told apart 6, worse 1." in lines


def test_too_few_seeds_and_losses_are_said_plainly(tmp_path):
    study = replace(make_study(tmp_path, {"loss 0": 0.0}, trials=0, seeds=1).study, against="loss 0")
    assert "these checkpoints only" in next(notes(compare(values(2, seeds=2), PIDS), study))
    assert "Fewer than two losses" in next(notes(compare(values(1), PIDS), study))
    assert "one identity" in next(notes(compare(values(3), np.zeros(60, dtype=np.int64)), study))
    unstable = compare(values(4), PIDS, against="loss 0", collapsed={"loss 0": 1})
    assert "No loss can be compared with loss 0, which was named beforehand." in list(notes(unstable, study))
    failed = compare(values(2), PIDS, against="loss 0", collapsed={"loss 0": 5, "loss 1": 5})
    assert any("compared with loss 0" in line for line in notes(failed, study))
