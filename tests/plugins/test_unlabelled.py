"""Images without identity: a folder joins a training set; losses, recipes and metrics that cannot use them."""

import os

import numpy as np
import pytest
from reidbench_datasets.market1501 import market1501

from reidbench import DataError, OptionError
from tests.plugins.test_market1501 import write_tree
from tests.support.images import noise_images
from tests.support.jobs import job, plan_of, run
from tests.support.trees import write_empty

PROTOCOL = "synthetic(identities=40{})"
SHUFFLED = "ide(steps=3, p=6, k=4)"
NAMES = ("1.png", "2.png", "3.png")


@pytest.fixture(scope="module")
def folder(data_folder):
    """The options that name a folder of noise below the data root."""
    name = f"noise{os.getpid()}"
    noise_images(data_folder / name, [1] * 9)
    return f', unlabelled="{name}"'


def test_a_folder_joins_the_training_set_but_no_other_part(folder):
    protocol = PROTOCOL.format(f"{folder}, unlabelled_images=7")
    asked = job(protocol=protocol, loss="classification(unlabelled=uniform)", recipe=SHUFFLED, metric="xqda")
    planned, record, _ = run(asked)
    split, plain = planned.split, plan_of(job())[0].split
    assert record.dataset.counts == {**plain.counts, "unlabelled": 7}
    assert record.status == "ok"  # the metric too was fitted on identities alone
    assert split.labelled.pids.tolist() == split.fit.pids.tolist() == plain.train.pids.tolist()
    assert [name.rpartition("/")[2][:4] for name in split.train.images[-7:]] == [f"{n:04}" for n in range(7)]
    assert not split.train.pids[-7:].any()
    assert split.train.digest != plain.train.digest


@pytest.mark.parametrize(
    ("loss", "recipe", "named"),
    [
        ("classification", SHUFFLED, "loss classification: .*without identity.* 9"),
        ("classification(unlabelled=extra) + batch_hard", SHUFFLED, "batch_hard: .*without identity"),
        ("classification(unlabelled=extra)", "quick(steps=3)", "recipe quick.*: .*without identity"),
    ],
)
def test_what_cannot_use_them_is_refused_in_the_plan(folder, loss, recipe, named):
    with pytest.raises(OptionError, match=named):
        plan_of(job(protocol=PROTOCOL.format(folder), loss=loss, recipe=recipe))


def test_the_digest_does_not_depend_on_the_name_of_the_tree(tmp_path):
    splits = []
    for spelling in (".", "Market-1501-v15.09.15"):
        root = tmp_path / f"root{len(splits)}"
        write_tree(root / spelling)
        write_empty(root / "made", {"one": NAMES[:2], ".": NAMES[2:]})
        splits.append(market1501(root, unlabelled="made"))
    assert splits[0].digest == splits[1].digest != market1501(tmp_path / "root0").digest
    assert [not split.contradictions for split in splits] == [True, True]
    held_out = market1501(root, holdout=0.5, unlabelled="made")
    assert not np.isin(0, held_out.gallery.pids)
    assert (held_out.labelled + held_out.gallery).name_digest == market1501(root).train.name_digest


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"unlabelled": "missing"}, DataError, "missing.*synthesize"),
        ({"unlabelled": "made", "unlabelled_images": 4}, DataError, "made: .* 4 .* 3"),
        ({"unlabelled": "../made"}, OptionError, r"unlabelled: .*\.\./made"),
        ({"unlabelled_images": 2}, OptionError, "unlabelled: "),
    ],
)
def test_a_folder_that_cannot_join(tmp_path, options, error, named):
    write_empty(write_tree(tmp_path) / "made", {".": NAMES})
    with pytest.raises(error, match=named):
        market1501(tmp_path, **options)
