"""``check_reranker``: what a second look at a ranking promises of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.plugins.interfaces import Metric, Reranker
from reidbench.testing.subject import Subject, check_pickle, expect, finite, largest_difference, normal, same
from reidbench.utils.arrays import IntArray

DIM = 8
PEOPLE, IMAGES = 15, 5
QUERIES = 17  # a prime, so that no block but one row or all fits evenly
PIDS: IntArray = np.tile(np.arange(1, PEOPLE + 1, dtype=np.int64), IMAGES)


class _Straight(Metric):
    """The straight distance, from differences."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def check_reranker(
    reranker: str | Callable[..., Reranker], *, metric: Metric | None = None, seed: int = 0, **options: Any
) -> tuple[str, ...]:
    """Return the promises that a re-ranker keeps.

    ``reranker`` is a spec of an installed re-ranker or a factory ``(*, options) -> Reranker`` with ``options``;
    ``metric`` is what it is given, the straight distance by default; ``seed`` picks embeddings. Raises ContractError at
    the first promise that is broken, OptionError for a name or an option that does not fit.
    """
    checks = _Checks(Subject("reranker", reranker, options), metric or _Straight(), seed)
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "blocks": checks.blocks,
            "all queries once": checks.once,
            "rows change nothing": checks.rows,
            "determinism": checks.determinism,
            "smaller is closer": checks.closer,
            "coincident embeddings": checks.coincident,
            "inputs untouched": checks.inputs,
            "spec round trip": checks.subject.check_spec,
            "pickling": checks.pickling,
        }
    )


class _Checks:
    def __init__(self, subject: Subject, metric: Metric, seed: int) -> None:
        self.subject, self.metric, self.seed = subject, metric, seed
        people = normal((PEOPLE, DIM), seed, "people").repeat(IMAGES, 1)
        rows = (people + normal((len(PIDS), DIM), seed, "images") / 2).float()
        self.query, self.gallery = rows[:QUERIES], rows[QUERIES:]

    def fresh(self) -> Reranker:
        reranker = self.subject.build(seed=self.seed)
        expect(isinstance(reranker, Reranker), f"expected a reidbench.Reranker, got {type(reranker).__name__}")
        return reranker  # type: ignore[no-any-return]

    def all(self, rows: int = QUERIES) -> Tensor:
        return torch.cat(list(self.fresh().blocks(self.query, self.gallery, self.metric, rows)))

    def contract(self) -> None:
        self.fresh()

    def blocks(self) -> None:
        for block in self.fresh().blocks(self.query, self.gallery, self.metric, 4):
            expect(
                block.ndim == 2 and 1 <= len(block) <= 4 and block.shape[1] == len(self.gallery),
                f"asked for at most 4 rows of {len(self.gallery)}, a block has the shape {tuple(block.shape)}",
            )
            expect(block.dtype == torch.float32, f"blocks must be float32, got {block.dtype}")
            finite(block, "a block")

    def once(self) -> None:
        for rows in (1, 4, QUERIES, 10 * QUERIES):
            found = sum(len(block) for block in self.fresh().blocks(self.query, self.gallery, self.metric, rows))
            expect(found == QUERIES, f"in blocks of {rows} it gave {found} rows for {QUERIES} queries")

    def rows(self) -> None:
        whole = self.all()
        for rows in (1, 4):
            parts = self.all(rows)
            expect(
                same(whole, parts, 1e-6),
                f"blocks of {rows} rows differ from one block by {largest_difference(whole, parts):.3g} of the largest "
                "entry",
            )

    def determinism(self) -> None:
        first, second = self.all(), self.all()
        expect(same(first, second), f"asked twice it differs by {largest_difference(first, second):.3g} of the largest")

    def closer(self) -> None:
        alike = torch.from_numpy(PIDS[:QUERIES, None] == PIDS[None, QUERIES:])
        distances = self.all()
        ordered = (distances[:, :, None] < distances[:, None, :]) & alike[:, :, None] & ~alike[:, None, :]
        share = ordered.sum().item() / (alike.sum(1) * (~alike).sum(1)).sum().item()
        expect(
            share > 0.6,
            f"of people whose images lie close together the positive is closer in {share:.0%} of all triplets; is it a "
            "similarity, or are queries out of order?",
        )

    def coincident(self) -> None:
        rows = self.gallery[:1].expand(len(self.gallery), DIM)
        for block in self.fresh().blocks(rows[:3], rows, self.metric, 3):
            finite(block, "a block of equal embeddings")

    def inputs(self) -> None:
        query, gallery = self.query.clone(), self.gallery.clone()
        self.all()
        unchanged = torch.equal(query, self.query) and torch.equal(gallery, self.gallery)
        expect(unchanged, "it changed the embeddings that it was given")

    def pickling(self) -> None:
        check_pickle(self.fresh())
