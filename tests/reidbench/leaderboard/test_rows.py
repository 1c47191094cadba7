"""The columns of a row and what they show."""

import itertools
import re
import statistics

from reidbench.leaderboard.rows import row_of
from tests.support.boards import add_all, rows_of, valid_record
from tests.support.paths import CHECKOUT
from tests.support.records import digest, make_item, replace_parts


def test_the_columns_are_the_documented_ones():
    rows = re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs" / "leaderboards.md").read_text(), re.MULTILINE)
    assert rows == list(row_of([valid_record()]))


def test_a_row_shows_the_combination_and_its_scores():
    seeds = [valid_record("batch_hard(margin=0.2, distance=cosine)", seed) for seed in range(3)]
    scores = {name: [seed.scores[name] for seed in seeds] for name in seeds[0].scores}
    expected = {name: f"{statistics.mean(values):.6f}" for name, values in scores.items()}
    expected = {name: text for name, text in expected.items() if name not in ("queries", "gallery", "unmatched")}
    expected |= {f"{name}_sd": f"{statistics.stdev(scores[name]):.6f}" for name in ("map_market", "r1")}
    cells = f"""
        schema=2|dataset=synthetic|protocol=synthetic@1|track=backbone=tiny recipe=quick metric=auto rerank=none
        loss=batch_hard|loss_params=margin=0.2, distance=cosine|backbone=tiny|weights=|head=|embedding_dim=128
        test_metric=euclidean|pool=mean|normalize=false|tta=full|rerank=none|metric_learner=|n_seeds=3|iterations=300
        params_m=1.234567|train_s=81.25|extract_s=3.50|gpu=cpu|reidbench=0.1.0|plugin_dist=reidbench
        plugin_version=0.1.0|commit=00e1234000000000000000000000000000000000|dirty=false
        data_fingerprint={digest("data")[:16]}|config_hash={seeds[0].group}|verified=self-reported|faithful=false
        trained_on=synthetic|source=reidbench|date=2026-11-22|study=|tuning=|notes=
    """
    pairs = [cell.strip().partition("=") for line in cells.strip().splitlines() for cell in line.split("|")]
    row = row_of(seeds)
    assert row == expected | {name: text for name, _, text in pairs}


def test_sums_learned_metrics_weights_and_heads():
    options = "synthetic(difficulty=2)"
    items = {
        "protocol": make_item(options, "synthetic(identities=500, difficulty=2)", options),
        "backbone": make_item("deep", "deep(weights=none, head=fc1024, height=256)", "deep(height=256)"),
        "metric": make_item("xqda", "xqda(lam=0.001)", "xqda"),
        "rerank": make_item("k_reciprocal", "k_reciprocal(k1=20, k2=6, lam=0.3)", "k_reciprocal"),
    }
    record = valid_record("batch_hard(margin=0.2) + 0.5*classification(smoothing=0)", items=items)
    learned = {"learned": True, "normalize": True, "metric_is_auto": False}
    row = row_of([replace_parts(record, evaluation=learned, deviations=["recipe quick(steps=300)", "own crop"])])
    network = "backbone=deep(height=256) recipe=quick metric=xqda rerank=k_reciprocal"
    assert row["track"] == f"protocol=synthetic(difficulty=2) {network}"
    assert (row["loss"], row["loss_params"]) == ("batch_hard + 0.5*classification", "margin=0.2 + smoothing=0")
    assert (row["backbone"], row["weights"], row["head"]) == ("deep", "none", "fc1024")
    assert (row["test_metric"], row["metric_learner"], row["normalize"]) == ("xqda", "xqda", "true")
    assert row["rerank"] == "k_reciprocal(k1=20, k2=6, lam=0.3)"
    assert row["notes"] == "recipe quick(steps=300); own crop"
    assert (row["map_market_sd"], row["r1_sd"], row["n_seeds"]) == ("", "", "1")


def test_differing_seeds_are_joined_and_the_last_dates_the_row():
    days = ["2026-11-21T10:00:00+00:00", "2026-11-23T00:10:00+02:00", "2026-11-20T10:00:00+00:00"]
    seeds = [
        valid_record("a", seed, finished=day, commit=f"{seed}" * 40, faithful=not deviations, deviations=deviations)
        for seed, (day, deviations) in enumerate(zip(days, [["p=3", "seed 0"], [], ["p=3", "seed 2"]], strict=True))
    ]
    row = row_of(seeds[::-1])
    assert (row["date"], row["commit"], row["faithful"]) == ("2026-11-22", "1" * 40, "false")
    assert row["notes"] == "p=3; seed 0; seed 2"


def test_the_untrained_network_has_no_loss_options():
    row = row_of([valid_record("none")])
    assert (row["loss"], row["loss_params"], row["plugin_dist"], row["train_s"]) == ("none", "", "", "0.00")


def test_rows_are_sorted_by_track_loss_options_and_hash(tmp_path):
    records = [
        valid_record(loss, items={"backbone": make_item(net)}, dataset={"digest": digest(data)})
        for loss, net, data in itertools.product(("a(x=2)", "a(x=1)", "b", "a"), ("wide", "tiny"), ("one", "two"))
    ]
    add_all(tmp_path / "boards", records)
    rows = rows_of(tmp_path / "boards")
    keys = [(row["track"], row["loss"], row["loss_params"], row["config_hash"]) for row in rows]
    assert keys == sorted(keys)
    assert len(rows) == 16
