"""Rankings read from a file: what no ranking can be is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from reidbench.errors import DataError
from reidbench.ranking.rankings import Ranking, read_ranking, save_ranking
from tests.support.rankings import ranking_of

RANKING = ranking_of([[0, 3], [2], [1, 5]], size=6)


def edited(name: str, index, value) -> Ranking:
    array = getattr(RANKING, name).copy()
    array[index] = value
    return replace(RANKING, **{name: array})


def test_a_possible_ranking_is_read_as_it_was_written(tmp_path):
    more = replace(
        RANKING,
        top=np.pad(RANKING.top, ((0, 0), (0, 4)), constant_values=-1),
        top_distances=np.pad(RANKING.top_distances, ((0, 0), (0, 4)), constant_values=np.inf),
    )
    for ranking in (RANKING, more):
        save_ranking(tmp_path, ranking)
        read = read_ranking(tmp_path)
        assert all((getattr(read, name) == array).all() for name, array in vars(ranking).items())
        assert read.gallery == 6


@pytest.mark.parametrize(
    ("ranking", "named"),
    [
        (replace(RANKING, top=RANKING.top[:, :0], top_distances=RANKING.top_distances[:, :0]), "closest items"),
        (edited("top", (0, 5), -1), "closest items"),
        (edited("top", (0, 5), -5), "closest items"),
        (replace(RANKING, top=RANKING.top - 100), "closest items"),
        (edited("top_distances", (1, 4), np.nan), "closest items .*order"),
        (edited("top_distances", (1, 5), np.inf), "closest items .*order"),
        (edited("top_distances", (1, 4), 0.5), "closest items .*order"),
        (edited("distances", 0, np.inf), "distances are not finite"),  # before: every order was within its tolerance
        (edited("units", 1, -1), "units and ranks"),
        (replace(RANKING, starts=np.zeros(0, dtype=np.int64)), "no query"),
        (edited("starts", slice(1, 3), [2**63 - 1, -(2**63)]), "starts does not rise"),
        (edited("ranked", 1, 2), "query 1 has a rank"),
    ],
)
def test_an_impossible_ranking_is_refused(tmp_path, ranking, named):
    save_ranking(tmp_path, ranking)
    with pytest.raises(DataError, match=rf"rankings\.npz: .*{named}"):
        read_ranking(tmp_path)
