"""Real drawings: bring your own data, train for a minute, and recognise characters never seen."""

import pytest

from tests.support.jobs import job, run
from tests.support.omniglot import write_omniglot


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return write_omniglot(tmp_path_factory.mktemp("omniglot"))


def test_a_small_network_learns_real_drawings(drawings):
    asked = {
        "protocol": f'csv_list(file="{drawings}", views=original)',
        "backbone": "tiny(height=32, width=32)",
        "recipe": "quick(steps=200, p=16, k=4, flip=false)",
    }
    _, untrained, _ = run(job(**asked, loss="none"))
    plan, trained, _ = run(job(**asked))
    assert untrained.status == trained.status == "ok"
    assert plan.split.counts["train_identities"] == 136
    assert trained.scores["map_step"] >= 3 * untrained.scores["map_step"]
