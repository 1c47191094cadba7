"""The images that the tests of the loop train on."""

from __future__ import annotations

import pytest

from reidbench.data.samples import Samples
from tests.support.loop_training import four_identities


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return four_identities(tmp_path_factory.mktemp("images"))
