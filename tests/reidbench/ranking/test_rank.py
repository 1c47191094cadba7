"""Ranks against the official scripts' numbers and a stable sort per query, on inputs that mislead float32."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reidbench
from reidbench import Metric
from reidbench.data.positives_and_exclusions import Positives
from reidbench.data.protocol import EXCLUSION_RULES
from reidbench.errors import DataError, OptionError
from reidbench.ranking import rank as module
from reidbench.ranking.rank import nearest, unit_rows
from reidbench.ranking.rankings import Ranking, Rankings
from reidbench.ranking.scores import average_precision, first_match, inverse_negative_penalty, score
from tests.support.oracles import oracle
from tests.support.rankings import rank, rank_both, rank_distances

Ids = tuple[np.ndarray, ...]  # pids and cams of queries and gallery
Rules = tuple[str, ...]


def euclidean(**options: bool) -> Metric:
    text = ", ".join(f"{name}={str(value).lower()}" for name, value in options.items())
    return reidbench.build("metric", f"euclidean({text})")


class Manhattan(Metric):
    """A metric that has no factors."""

    def distances(self, a, b):
        return torch.cdist(a, b, p=1)


class Inverted(Metric):
    """Inner products: factors whose shift matters, with distances below 0."""

    def factors(self, embeddings):
        return -embeddings, embeddings

    def distances(self, a, b):
        return -(a[:, None] * b[None]).sum(dim=2)


def squares(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return squared distances from differences in float64, row by row."""
    rows = [((gallery.astype(np.float64) - row.astype(np.float64)) ** 2).sum(axis=1) for row in query]
    return np.array(rows).reshape(len(query), len(gallery))


def sorted_reference(values: np.ndarray, ids: Ids, exclude: Rules, own: np.ndarray | None) -> list[tuple]:
    """Return (units, ranks, excluded positives, their ranks, order) of each query, from a stable sort."""
    query_pids, query_cams, gallery_pids, gallery_cams = ids
    found = []
    for query, row in enumerate(values):
        same = gallery_pids == query_pids[query]
        hidden = same & (gallery_cams == query_cams[query]) if "same_camera" in exclude else np.zeros_like(same)
        if "self" in exclude and own[query] >= 0:
            hidden[own[query]] = True
        junk = gallery_pids == -1 if "junk" in exclude else np.zeros_like(same)
        everything = np.argsort(row, kind="stable")
        order = everything[~(hidden | junk)[everything]]
        places = np.flatnonzero(same[order])
        seen, hidden_units, hidden_ranks = 0, [], []
        for unit in everything:
            if hidden[unit]:
                hidden_units.append(unit)
                hidden_ranks.append(seen)
            elif not junk[unit]:
                seen += 1
        found.append((order[places], places, hidden_units, hidden_ranks, order))
    return found


def assert_is_reference(
    rankings: Rankings, values: np.ndarray, ids: Ids, exclude: Rules, top: int, own: np.ndarray | None = None
) -> None:
    with_junk = tuple(rule for rule in exclude if rule != "junk")
    assert_ranking_is_reference(rankings.ranking, sorted_reference(values, ids, exclude, own), top)
    assert_ranking_is_reference(rankings.with_junk, sorted_reference(values, ids, with_junk, own), 0)


def assert_ranking_is_reference(ranking: Ranking, expected: list[tuple], top: int) -> None:
    for query, (units, ranks, hidden, hidden_ranks, order) in enumerate(expected):
        own = slice(ranking.starts[query], ranking.starts[query + 1])
        other = slice(ranking.same_camera_starts[query], ranking.same_camera_starts[query + 1])
        assert ranking.ranks[own].tolist() == ranks.tolist()
        assert ranking.units[own].tolist() == units.tolist()
        assert ranking.same_camera_ranks[other].tolist() == hidden_ranks
        assert sorted(ranking.same_camera_units[other]) == sorted(hidden)
        assert ranking.ranked[query] == len(order)
        assert ranking.top[query].tolist() == (order[:top].tolist() + [-1] * top)[:top]


def assert_same(one: Ranking, other: Ranking) -> None:
    for name in Ranking.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def sample_units(seed, queries, gallery, dim, pids=12):
    """Return float32 embeddings and (query pids, query cams, gallery pids, gallery cams), with junk and distractors."""
    generator = np.random.default_rng(seed)
    query_ids = generator.integers(1, pids, queries), generator.integers(1, 4, queries)
    gallery_ids = generator.integers(-1, pids, gallery), generator.integers(1, 4, gallery)
    query, others = (generator.normal(size=(count, dim)).astype(np.float32) for count in (queries, gallery))
    return query, others, (*query_ids, *gallery_ids)


# --- the official scripts ---------------------------------------------------------------------------------------------


def assert_official(ranking, data, prefix, mean):
    scores = score(ranking, 0)
    np.testing.assert_allclose(average_precision(ranking, "market"), np.nan_to_num(data[f"{prefix}_ap"]), atol=1e-9)
    assert scores.map_market == pytest.approx(float(data[mean]), abs=1e-9)
    np.testing.assert_allclose(list(scores.cmc.values()), data[f"{prefix}_rank1_5_10_20"], atol=1e-9)
    np.testing.assert_array_equal(first_match(ranking) + 1, data[f"{prefix}_first_rank"])
    return scores


@pytest.mark.parametrize("way", ["embeddings", "distances"])
def test_market_single_query_is_the_official_result(way):
    data = oracle("market_sq_dev")
    ids = (data["q_pid"], data["q_cam"], data["g_pid"], data["g_cam"])
    if way == "embeddings":
        ranking = rank(data["qf"], data["gf"], *ids, euclidean())
    else:
        ranking = rank_distances(np.array_split(data["dist"], 7), *ids)
    scores = assert_official(ranking, data, "official", "official_mAP")
    matched = ~np.isnan(data["rect_ap"])
    assert scores.unmatched == (~matched).sum() == 2
    np.testing.assert_allclose(average_precision(ranking, "step")[matched], data["rect_ap"][matched], atol=1e-6)
    np.testing.assert_allclose(inverse_negative_penalty(ranking)[matched], data["rect_inp"][matched], atol=1e-6)
    market = average_precision(ranking, "market")
    np.testing.assert_allclose(market[matched], data["triplet_reid_ap"][matched], atol=1e-9)


def test_market_ties_stand_in_gallery_order():
    data = oracle("market_sq_ties_dev")
    ranking = rank_distances([data["dist"]], data["q_pid"], data["q_cam"], data["g_pid"], data["g_cam"])
    assert_official(ranking, data, "official", "official_mAP")


@pytest.mark.parametrize("name", ["mars_dev", "mars_nomatch_dev"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_mars_is_the_official_result(name, pool):
    data = oracle(name)
    queries = data["query_idx"] - 1
    pids, cams = data["track_info"][:, 2], data["track_info"][:, 3]
    gallery = data[f"pooled_{pool}"]
    ranking = rank(gallery[queries], gallery, pids[queries], cams[queries], pids, cams, euclidean())
    assert_official(ranking, data, pool, f"{pool}_mAP_nan0")


# --- a stable sort per query ------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    data=st.data(),
    queries=st.integers(0, 5),
    gallery=st.integers(0, 24),
    dim=st.integers(1, 3),
    chunk=st.sampled_from([1, 2, 5, 100]),
    exclude=st.lists(st.sampled_from(EXCLUSION_RULES), unique=True).map(tuple),
)
def test_few_values_with_many_ties(data, queries, gallery, dim, chunk, exclude):
    def draw(shape, low, high):
        return data.draw(hnp.arrays(np.int64, shape, elements=st.integers(low, high)))

    top = data.draw(st.integers(0, 6))
    metric = data.draw(st.sampled_from([euclidean(), Manhattan(), Inverted()]))
    query, others = (draw((count, dim), -2, 2).astype(np.float32) for count in (queries, gallery))
    ids = (draw(queries, 1, 3), draw(queries, 1, 2), draw(gallery, -1, 3), draw(gallery, 1, 2))
    values = metric.distances(torch.from_numpy(query).double(), torch.from_numpy(others).double()).numpy()
    own = [data.draw(st.sampled_from([-1, *np.flatnonzero(ids[2] == pid).tolist()])) for pid in ids[0]]
    own = np.array(own, dtype=np.int64)
    rankings = rank_both(query, others, *ids, metric, exclude=exclude, own=own, top=top, chunk=chunk)
    assert_is_reference(rankings, values, ids, exclude, top, own)
    blocks = (values[row : row + 1] for row in range(queries))
    given_distances = module.rank_distances(blocks, Positives.find(*ids, exclude, own), top=top)
    assert_is_reference(given_distances, values, ids, exclude, top, own)


DISTORTIONS = {
    "as they are": lambda x: x,
    "shifted": lambda x: x + np.float32(1000),
    "tiny": lambda x: x * np.float32(1e-20),
    "huge": lambda x: x * np.float32(1e18),
    "tiny in float64": lambda x: x.astype(np.float64) * 2.0**-500,
    "huge in float64": lambda x: x.astype(np.float64) * 2.0**480,
    "one far item": lambda x: np.concatenate([x[:20], x[20:21] * np.float32(2.0**60), x[21:]]),  # beyond the queries
    "one feature rules": lambda x: x * np.array([2.0**20] + [1.0] * (x.shape[1] - 1), dtype=np.float32),
    "one feature is constant": lambda x: np.concatenate([x[:, 1:], np.full_like(x[:, :1], 777)], axis=1),
    "signs": np.sign,
    "rounded": lambda x: np.round(x * 2),
}


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("chunk", [16_384, 1_300])
def test_inputs_that_mislead_float32(distortion, chunk):
    query, others, ids = sample_units(seed=1, queries=9, gallery=2_600, dim=12)
    others[1_500:2_300] = others[300:1_100]  # duplicates, far apart and in other chunks
    query, others = DISTORTIONS[distortion](query), DISTORTIONS[distortion](others)
    # The values must be exact up to rounding that keeps their order: from differences, and scaled where they overflow.
    scale = 2.0 ** -np.round(np.log2(np.abs(query).max()))
    values = squares(query * scale, others * scale) if "float64" in distortion else squares(query, others)
    rankings = rank_both(query, others, *ids, euclidean(), chunk=chunk)
    assert_is_reference(rankings, values, ids, ("junk", "same_camera"), 10)


def test_all_equal_embeddings_score_as_the_gallery_order():
    _, _, ids = sample_units(seed=2, queries=30, gallery=1_500, dim=3)
    for value in (0.0, 0.1, 1e10, 3e30, 3e38):
        query, others = np.full((30, 40), value, dtype=np.float32), np.full((1_500, 40), value, dtype=np.float32)
        rankings = rank_both(query, others, *ids, euclidean())
        assert_is_reference(rankings, np.zeros((30, 1_500)), ids, ("junk", "same_camera"), 10)
        assert score(rankings.ranking, 1_500).cmc[1] < 0.5


def test_chunks_blocks_and_storage_do_not_change_a_rank():
    query, others, ids = sample_units(seed=3, queries=300, gallery=1_400, dim=33, pids=60)
    others[700:] = np.round(others[700:])  # some exact ties
    others[100:200] = others[1_000:1_100]
    whole = rank(query, others, *ids, euclidean())
    for chunk in (7, 256, 1_023):
        assert_same(whole, rank(query, others, *ids, euclidean(), chunk=chunk))
    assert_same(whole, rank(torch.from_numpy(query), np.asfortranarray(others), *ids, euclidean()))
    for row in (0, 131, 299):
        one = slice(row, row + 1)
        alone = rank(query[one], others, ids[0][one], ids[1][one], ids[2], ids[3], euclidean(), chunk=1)
        own = slice(whole.starts[row], whole.starts[row + 1])
        np.testing.assert_array_equal(alone.ranks, whole.ranks[own])
        np.testing.assert_array_equal(alone.distances, whole.distances[own])
        np.testing.assert_array_equal(alone.top[0], whole.top[row])
    order = np.random.default_rng(0).permutation(300)
    turned = rank(query[order], others, ids[0][order], ids[1][order], ids[2], ids[3], euclidean())
    for place, row in enumerate(order):
        one, other = slice(*turned.starts[place : place + 2]), slice(*whole.starts[row : row + 2])
        np.testing.assert_array_equal(turned.ranks[one], whole.ranks[other])


def test_distances_are_in_rank_order():
    query, others, ids = sample_units(seed=6, queries=15, gallery=400, dim=8)
    ranking = rank(query, others, *ids, euclidean(), top=4)
    expected = np.sqrt(squares(query, others))
    for row in range(15):
        own = slice(ranking.starts[row], ranking.starts[row + 1])
        other = slice(ranking.same_camera_starts[row], ranking.same_camera_starts[row + 1])
        np.testing.assert_allclose(ranking.distances[own], expected[row, ranking.units[own]], rtol=1e-12)
        np.testing.assert_allclose(ranking.top_distances[row], expected[row, ranking.top[row]], rtol=1e-12)
        assert (np.diff(ranking.distances[own]) >= 0).all()
        assert (np.diff(expected[row, ranking.same_camera_units[other]]) >= 0).all()


# --- small and empty --------------------------------------------------------------------------------------------------


def test_one_item_no_query_no_gallery_no_positive():
    def integers(*values):
        return np.array(values, dtype=np.int64)

    one = np.ones((1, 3), dtype=np.float32)
    none, nothing = np.zeros((0, 3), dtype=np.float32), integers()
    found = rank(one, one, integers(4), integers(1), integers(4), integers(2), euclidean(), top=3)
    assert found.ranks.tolist() == [0]
    assert found.distances.tolist() == [0.0]
    assert found.top.tolist() == [[0, -1, -1]]
    assert found.top_distances.tolist() == [[0.0, np.inf, np.inf]]
    hidden = rank(one, one, integers(4), integers(1), integers(4), integers(1), euclidean(), top=1)
    assert hidden.ranks.tolist() == []
    assert hidden.same_camera_ranks.tolist() == [0]
    assert hidden.ranked.tolist() == [0]
    assert hidden.top.tolist() == [[-1]]
    junk = rank(one, one, integers(4), integers(1), integers(-1), integers(2), euclidean(), top=1)
    assert junk.ranked.tolist() == [0]
    assert junk.top.tolist() == [[-1]]
    assert len(rank(none, one, nothing, nothing, integers(4), integers(2), euclidean())) == 0
    empty = rank(one, none, integers(4), integers(1), nothing, nothing, euclidean())
    assert score(empty, 0).unmatched == 1


# --- nearest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [euclidean(), Manhattan(), Inverted()], ids=lambda metric: type(metric).__name__)
def test_nearest_is_the_head_of_a_stable_sort(metric, monkeypatch):
    query, others, _ = sample_units(seed=9, queries=11, gallery=1_700, dim=5)
    query, others = np.round(query * 2), np.round(others * 2)
    values = metric.distances(torch.from_numpy(query).double(), torch.from_numpy(others).double()).numpy()
    for chunk in (300, 16_384):
        monkeypatch.setattr(module, "CHUNK", chunk)
        columns, farthest = nearest(query, others, metric, 21)
        np.testing.assert_array_equal(columns, np.argsort(values, axis=1, kind="stable")[:, :21])
        factors = [metric.factors(torch.from_numpy(x).double()) for x in (query, others)]
        expected = values if factors[0] is None else (factors[0][0] @ factors[1][1].T).numpy()
        np.testing.assert_array_equal(farthest, expected.max(axis=1))
    assert nearest(query, others[:3], metric, 21)[0].shape == (11, 3)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_is_named(value):
    query, others, ids = sample_units(seed=10, queries=3, gallery=2_000, dim=4)
    others[1_234, 2] = value
    with pytest.raises(DataError, match=r"gallery embeddings: row 1234 .* at 2"):
        rank(query, others, *ids, euclidean())
    distances = squares(query, query)
    distances[2, 1] = value
    with pytest.raises(DataError, match=r"query 2 .* at 1"):
        rank_distances([distances[:1], distances[1:]], *ids[:2], ids[0], ids[1])


def test_wrong_inputs_are_errors_that_say_what_was_expected():
    query, others, ids = sample_units(seed=11, queries=3, gallery=5, dim=4)
    metric = euclidean()
    with pytest.raises(OptionError, match="'same_camra'; known are junk, same_camera, self"):
        rank(query, others, *ids, metric, exclude=("same_camra",))
    with pytest.raises(DataError, match="query embeddings have 3 dimensions, gallery embeddings 4"):
        rank(query[:, :3], others, *ids, metric)
    with pytest.raises(DataError, match="gallery: 4 embeddings for 5 pids"):
        rank(query, others[:4], *ids, metric)
    with pytest.raises(DataError, match="float16"):
        rank(query.astype(np.float16), others, *ids, metric)
    with pytest.raises(DataError, match="query row 1 has pid 0"):
        rank(query, others, np.array([1, 0, 2]), ids[1], ids[2], ids[3], metric)
    with pytest.raises(DataError, match="too large"):
        rank(query * np.float64(1e200), others * np.float64(1e200), *ids, metric)


@pytest.mark.parametrize("scale", [1e-140, 1e-40, 1.0, 1e38, 1e140])
def test_rows_of_every_size_get_unit_length(scale):
    rows = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1e-3]], dtype=torch.float64)
    expected = rows / torch.tensor([[5.0], [1.0], [math.sqrt(2 + 1e-6)]], dtype=torch.float64)
    torch.testing.assert_close(unit_rows(rows * scale), expected, rtol=1e-14, atol=0)
