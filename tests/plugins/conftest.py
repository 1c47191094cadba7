"""Runs that the tests of the report sections share: two losses, trained for a few steps on few people."""

import pytest

from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.jobs import job, plan_of, run


@pytest.fixture(scope="session")
def ran(tmp_path_factory, data_folder):
    """Two finished runs of the small data set, and what lies beside them."""
    folder = tmp_path_factory.mktemp("ran")
    settings = {"data": data_folder, "results": folder / "results", "cache": folder / "cache"}
    pairs = []
    for loss in ("batch_hard", "classification"):
        asked = job(loss=loss)
        _, record, _ = run(asked, **settings)
        pairs.append((plan_of(asked, **settings)[0].run_folder, record))
    chosen = local_machine(
        data=data_folder, results=folder / "results", cache=folder / "cache", device="cpu", threads=1
    )
    return [record for _, record in pairs], RunFiles(pairs, chosen)
