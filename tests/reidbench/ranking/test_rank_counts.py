"""The filter's bound, proven on paper, against exact fractions on inputs chosen to break it."""

from fractions import Fraction

import numpy as np
import pytest

from reidbench.ranking.exact_kernels import PositiveValues, Top
from reidbench.ranking.filter_kernels import STRIP, farthest_values
from reidbench.ranking.rank_counts import count_closer, visit_blocks
from reidbench.utils.threads import workers

GENERATOR = np.random.default_rng(0)


def squared(scale: float, shift: float, dim: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    x = (GENERATOR.normal(size=(count, dim)) + shift) * scale
    ones = np.ones((count, 1))
    return np.hstack([-2 * x, ones]), np.hstack([x, (x * x).sum(axis=1, keepdims=True)])


CASES = {
    "plain": squared(1, 0, 20, 40),
    "shifted": squared(1, 1e4, 20, 40),
    "far shifted": squared(1, 1e9, 20, 40),
    "tiny": squared(1e-20, 0, 20, 40),
    "subnormal": squared(1e-160, 0, 5, 40),
    "huge": squared(1e100, 3, 20, 40),
    "one column": squared(1, 1e3, 1, 40),
    "all equal": (np.full((40, 3), 0.1), np.full((40, 3), 0.7)),
    "columns of all sizes": (
        GENERATOR.normal(size=(40, 9)) * 10.0 ** np.arange(-40, 50, 10),
        GENERATOR.normal(size=(40, 9)) * 10.0 ** np.arange(30, -60, -10),
    ),
    "one large item": (
        GENERATOR.normal(size=(40, 6)),
        GENERATOR.normal(size=(40, 6)) * np.where(np.arange(40) == 7, 1e30, 1)[:, None],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_product_is_further_off_than_the_bound(case):
    left, right = CASES[case]
    columns = 0

    def check(block):
        nonlocal columns
        for i in range(len(block.product)):
            bound = Fraction(float(block.width[i]))
            for e in range(block.product.shape[1]):
                pairs = zip(block.left[i], block.right[e], strict=True)
                exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in pairs)
                expected = Fraction(block.scale) * (exact - Fraction(float(block.offset[i])))
                assert abs(Fraction(float(block.product[i, e])) - expected) <= bound
        columns += block.product.size

    visit_all(left[:7], [right[:25], right[25:]], check)
    assert columns == 7 * 40


@pytest.mark.parametrize("case", ["plain", "shifted", "tiny", "huge", "one column"])
def test_the_bound_is_narrow_enough_to_filter(case):
    left, right = CASES[case]
    shares = []
    visit_all(left, [right], lambda block: shares.append(block.width.max() / np.ptp(block.product)))
    assert max(shares) < 1e-3


def test_a_strip_full_of_ties_is_settled_like_single_items():
    # Sums in another order differ in the last bits, and the two ways of settling must not.
    count, dim = 3 * STRIP, 50
    rows = GENERATOR.normal(size=(30, dim))
    right = rows[GENERATOR.integers(0, 30, count)]
    left = GENERATOR.normal(size=(5, dim))
    values = np.array([[sum_in_order(query, item) for item in rows] for query in left])
    kinds = np.array([int(np.flatnonzero((rows == item).all(axis=1))[0]) for item in right])
    everything = values[:, kinds]
    columns = np.tile(np.arange(0, count, 97), 5)
    starts = np.arange(6) * (len(columns) // 5)
    positives = PositiveValues(starts, columns, everything[np.repeat(np.arange(5), len(columns) // 5), columns])
    before, top = np.zeros(len(columns), dtype=np.int64), Top.empty(5, 12)
    visit_all(left, [right[:STRIP], right[STRIP:]], lambda block: count_closer(block, positives, before, top))
    order = np.argsort(everything, axis=1, kind="stable")
    places = np.argsort(order, axis=1)
    np.testing.assert_array_equal(before, places[np.repeat(np.arange(5), len(columns) // 5), columns])
    np.testing.assert_array_equal(top.columns, order[:, :12])
    np.testing.assert_array_equal(top.values, np.sort(everything, axis=1)[:, :12])


def test_the_farthest_is_exact_among_nearly_equal_ones():
    left, right = GENERATOR.normal(size=(6, 200)), np.tile(GENERATOR.normal(size=200), (500, 1))
    right += 1e-7 * GENERATOR.normal(size=right.shape)  # about as much as float32 rounds away
    right[::7] = -right[::7]
    farthest = np.empty(6)

    def visit(block):
        farthest[block.rows] = farthest_values(block)

    visit_all(left, [right], visit)
    assert farthest.tolist() == [max(sum_in_order(query, item) for item in right) for query in left]


def test_positive_far_beyond_another_chunk():
    left = np.abs(GENERATOR.normal(size=(3, 4)))
    near = GENERATOR.normal(size=(20, 4)) * 1e-130
    far = np.full((1, 4), 1e200)
    starts, columns = np.arange(4), np.full(3, 20)
    positives = PositiveValues(starts, columns, np.array([sum_in_order(query, far[0]) for query in left]))
    before = np.zeros(3, dtype=np.int64)
    visit_all(left, [near, far], lambda block: count_closer(block, positives, before, Top.empty(3, 0)))
    assert before.tolist() == [20, 20, 20]


def visit_all(left, chunks, visit):
    with workers() as crew:
        visit_blocks(left, chunks, visit, crew)


def sum_in_order(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        total += x * y
    return total
