"""A seed for every test, and the runs that the tests of the report sections share."""

import pytest
import torch

from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.jobs import job, plan_of, run


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def ran(tmp_path_factory, data_folder):
    """Two finished runs of the small dataset, of two losses and few steps, and their files."""
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
