"""``check_dataset``: what a data set promises of its units, its identities and its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.data.samples import DISTRACTOR, JUNK, Samples
from reidbench.data.split import Split
from reidbench.images.decode import decode_images
from reidbench.testing.subject import Subject, expect
from reidbench.utils.machine import default_data

SMALLEST = 16  # of the images that are decoded, in pixels


def check_dataset(dataset: str | Callable[..., Split], *, root: Path | None = None, **options: Any) -> tuple[str, ...]:
    """Return the promises that a data set keeps.

    ``dataset`` is a spec of an installed data set or a factory ``(root, *, options) -> Split`` with ``options``;
    ``root`` is the folder of the data sets (the machine's own by default). Raises ContractError at the first promise
    that is broken, OptionError for a name or an option that does not fit.
    """
    checks = _Checks(Subject("dataset", dataset, options), root or default_data())
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "arrays": checks.arrays,
            "identities": checks.identities,
            "counts": checks.counts,
            "training and test share no image": checks.disjoint,
            "files": checks.files,
            "builds are equal": checks.equal,
            "spec round trip": checks.subject.check_spec,
        }
    )


class _Checks:
    def __init__(self, subject: Subject, root: Path) -> None:
        self.subject, self.root = subject, root
        self.built: Split | None = None

    @property
    def split(self) -> Split:
        if self.built is None:
            self.built = self.fresh()
        return self.built

    @property
    def parts(self) -> dict[str, Samples]:
        return {"train": self.split.train, "query": self.split.query, "gallery": self.split.gallery}

    def fresh(self) -> Split:
        split = self.subject.build(self.root)
        expect(isinstance(split, Split), f"expected a reidbench.Split, its factory returned {type(split).__name__}")
        return split  # type: ignore[no-any-return]

    def contract(self) -> None:
        for name, part in self.parts.items():
            expect(isinstance(part, Samples), f"{name} must be reidbench.Samples, got {type(part).__name__}")
            expect(len(part) > 0, f"{name} holds no unit")

    def arrays(self) -> None:
        for name, part in self.parts.items():
            for field in ("pids", "cams", "starts"):
                array = getattr(part, field)
                expect(
                    isinstance(array, np.ndarray) and array.dtype == np.int64 and array.ndim == 1,
                    f"{name}.{field} must be a 1-d int64 array, got {getattr(array, 'dtype', type(array).__name__)}",
                )

    def identities(self) -> None:
        train, query, gallery = self.split.train.pids, self.split.query.pids, self.split.gallery.pids
        people, counts = np.unique(train, return_counts=True)
        expect(len(people) > 1, f"train holds {len(people)} identity; a loss needs two to tell apart")
        expect(counts.max() > 1, f"none of the {len(people)} training identities has two units")
        expect(
            gallery.min() >= JUNK,
            f"pids are {JUNK} for junk, {DISTRACTOR} for distractors, else above 0; the gallery has {gallery.min()}",
        )
        strangers = np.setdiff1d(self.split.fit.pids, people)
        expect(not len(strangers), f"fit shows {len(strangers)} people whom train does not, e.g. {strangers[:1]}")
        expect(
            bool(np.isin(query, gallery).any()),
            f"the gallery holds none of the {len(np.unique(query))} people asked for",
        )

    def counts(self) -> None:
        expect(not self.split.wrong_counts, f"it is not whole: {'; '.join(self.split.wrong_counts)}")

    def disjoint(self) -> None:
        train = set(self.split.train.images.tolist())
        for name in ("query", "gallery"):
            both = train.intersection(self.parts[name].images.tolist())
            expect(not both, f"{len(both)} images of {name} are trained on, one of them {min(both, default='')}")

    def files(self) -> None:
        for name, part in self.parts.items():
            missing = [image for image in range(len(part.images)) if not part.path(image).is_file()]
            expect(
                not missing,
                f"{len(missing)} of {len(part.images)} files of {name} are not there, the first "
                f"{part.path(missing[0]) if missing else ''}",
            )
            decode_images(part, [0], np.zeros((1, SMALLEST, SMALLEST, 3), dtype=np.uint8))

    def equal(self) -> None:
        first, second = self.split, self.fresh()
        for name, part in self.parts.items():
            again: Samples = getattr(second, name)
            expect(
                part.images.tolist() == again.images.tolist(),
                f"built twice, {name} names its {len(part.images)} images in another order, or others",
            )
        expect(first.digest == second.digest, f"built twice, its digests are {first.digest} and {second.digest}")
