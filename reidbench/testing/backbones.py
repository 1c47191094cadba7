"""``check_backbone``: what a network promises, from the shape of its output to weights that can be kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.testing.subject import NotAsked, Subject, check_pickle, expect, finite, largest_difference, normal, same

BATCH = 5
_ALONE = 1e-4  # of the largest entry: matrix products of other sizes round otherwise


def check_backbone(backbone: str | Callable[..., Backbone], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the promises that a network keeps.

    ``backbone`` is a spec of an installed network or a factory ``(*, options) -> Backbone`` with ``options``; ``seed``
    picks weights and images. Pretrained weights are not loaded. Raises ContractError at the first promise that is
    broken, OptionError for a name or an option that does not fit.
    """
    checks = _Checks(Subject("backbone", backbone, options), seed)
    return checks.subject.keep(
        {
            "contract": checks.contract,
            "preprocess": checks.preprocess,
            "output": checks.output,
            "evaluation repeats": checks.repeats,
            "evaluation changes nothing": checks.unchanged,
            "an image does not depend on its batch": checks.alone,
            "seeded weights": checks.seeded,
            "initialise is seeded": checks.initialise,
            "gradient reaches the weights": checks.gradient,
            "state_dict holds everything": checks.state,
            "spec round trip": checks.subject.check_spec,
            "pickling": checks.pickling,
        }
    )


class _Checks:
    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.seed = subject, seed

    def fresh(self, seed: int = 0) -> Backbone:
        backbone = self.subject.build(seed=self.seed + seed)
        expect(isinstance(backbone, Backbone), f"expected a reidbench.Backbone, got {type(backbone).__name__}")
        return backbone  # type: ignore[no-any-return]

    def images(self, backbone: Backbone) -> Tensor:
        shape = (BATCH, 3, backbone.preprocess.height, backbone.preprocess.width)
        return normal(shape, self.seed, "images").float()

    @staticmethod
    def embed(backbone: Backbone, images: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = backbone.eval()(images.clone())
        return out

    def contract(self) -> None:
        backbone = self.fresh()
        dim = getattr(backbone, "embedding_dim", None)
        expect(isinstance(dim, int) and dim > 0, f"embedding_dim must be a whole number above 0, got {dim!r}")
        expect(isinstance(backbone.pretrained, bool), f"pretrained must be true or false, got {backbone.pretrained!r}")
        batch = backbone.batch
        sound = isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(n, int) and n > 0 for n in batch)
        expect(sound, f"batch must be (P, K), two whole numbers above 0, got {batch!r}")
        expect(any(p.requires_grad for p in backbone.parameters()), "it has no parameter that could be trained")

    def preprocess(self) -> None:
        what = getattr(self.fresh(), "preprocess", None)
        expect(isinstance(what, Preprocess), f"preprocess must be a reidbench.Preprocess, got {type(what).__name__}")
        assert isinstance(what, Preprocess)
        for name, size in (("height", what.height), ("width", what.width)):
            expect(isinstance(size, int) and size > 0, f"{name} must be a whole number of pixels, got {size!r}")
        # Pixels are divided by 255 first: a mean of 104 belongs to another scale.
        for name, values, low in (("mean", what.mean, 0.0), ("std", what.std, 1e-3)):
            sound = len(values) == 3 and all(math.isfinite(v) and low <= v <= 1 for v in values)
            expect(sound, f"{name} must be three numbers from {low:g} to 1 (pixels / 255), got {values}")

    def output(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        for training in (True, False):
            with torch.no_grad():
                out = backbone.train(training)(images)
            wanted = (BATCH, backbone.embedding_dim)
            expect(isinstance(out, Tensor), f"forward must return a tensor, got {type(out).__name__}")
            expect(
                tuple(out.shape) == wanted,
                f"for images {tuple(images.shape)} the output must have the shape {wanted}, got {tuple(out.shape)}",
            )
            expect(out.dtype == torch.float32, f"float32 images must give float32 embeddings, got {out.dtype}")
            finite(out, "the embeddings of ordinary images")

    def repeats(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        first, second = self.embed(backbone, images), self.embed(backbone, images)
        expect(
            same(first, second),
            f"in evaluation mode the same images gave embeddings that differ by "
            f"{largest_difference(first, second):.3g} of the largest entry",
        )
        expect(not same(first[:1], first[1:2]), "two different images gave one embedding")

    def unchanged(self) -> None:
        backbone = self.fresh()
        before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        self.embed(backbone, self.images(backbone))
        changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
        expect(not changed, f"embedding in evaluation mode changed {', '.join(changed[:3])}")

    def alone(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        together = self.embed(backbone, images)
        apart = torch.cat([self.embed(backbone, images[i : i + 1]) for i in range(BATCH)])
        expect(
            same(together, apart, _ALONE),
            f"in evaluation mode an image alone and in a batch of {BATCH} differ by "
            f"{largest_difference(together, apart):.3g} of the largest entry, expected at most {_ALONE:g}",
        )

    def seeded(self) -> None:
        self.equal_states(self.fresh(), self.fresh(), "built twice with one seed of torch")

    def initialise(self) -> None:
        first, second = self.fresh(), self.fresh()
        if first.pretrained:  # its weights may be on another machine
            raise NotAsked
        for backbone in (first, second):
            torch.manual_seed(self.seed)
            backbone.initialise()
        self.equal_states(first, second, "initialised twice with one seed of torch")

    @staticmethod
    def equal_states(first: Backbone, second: Backbone, what: str) -> None:
        one, other = first.state_dict(), second.state_dict()
        expect(one.keys() == other.keys(), f"{what}, its state_dict has other names")
        different = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
        expect(not different, f"{what}, {len(different)} of {len(one)} tensors differ: {', '.join(different[:3])}")

    def gradient(self) -> None:
        backbone = self.fresh().train()
        backbone(self.images(backbone)).square().mean().backward()
        trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        missing = [name for name, p in trained.items() if p.grad is None]
        expect(
            not missing,
            f"{len(missing)} of {len(trained)} parameters get no gradient: {', '.join(missing[:3])}; use them, or set "
            "requires_grad=False",
        )
        for name, p in trained.items():
            assert p.grad is not None
            finite(p.grad, f"the gradient of {name}")
        expect(any(bool(p.grad.any()) for p in trained.values() if p.grad is not None), "all gradients are 0")

    def state(self) -> None:
        first, second = self.fresh(), self.fresh(seed=1)
        images = self.images(first)
        with torch.no_grad():
            first.train()(images)  # so that running statistics are not those of the beginning
        second.load_state_dict(first.state_dict())
        one, other = self.embed(first, images), self.embed(second, images)
        expect(
            same(one, other),
            "another one with its state_dict gave embeddings that differ by "
            f"{largest_difference(one, other):.3g} of the largest entry; keep what forward uses in parameters "
            "and buffers",
        )

    def pickling(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        expect(same(self.embed(backbone, images), self.embed(check_pickle(backbone), images)),
               "its pickled copy gave other embeddings")  # fmt: skip
