"""The images that the tests of the loop train on."""

import pytest

from tests.support.loop_training import four_identities


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return four_identities(tmp_path_factory.mktemp("images"))
