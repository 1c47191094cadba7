"""``check_backbone``: the contract of a network, from the shape of its output to weights that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.testing.checked_item import (
    NotApplicable,
    Subject,
    Violation,
    expect,
    expect_equal,
    expect_finite,
    normal,
)

BATCH = 5
_ALONE = 1e-4  # of the largest entry: matrix products of other sizes round differently


def check_backbone(backbone: str | Callable[..., Backbone], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a network passes.

    ``backbone`` is a spec of an installed network or a factory ``(*, options) -> Backbone`` with ``options``; ``seed``
    gives weights and images. Pretrained weights are not loaded. Raises ContractError at the first check that fails,
    OptionError for a name or an option that does not fit.
    """
    checks = _BackboneChecks(Subject("backbone", backbone, options), seed)
    return checks.subject.run_checks(
        {
            "contract": checks.contract,
            "preprocess": checks.preprocess,
            "output": checks.output,
            "evaluation repeats and changes nothing": checks.evaluation,
            "an image does not depend on its batch": checks.alone,
            "seeded weights": checks.seeded,
            "initialise is seeded": checks.initialise,
            "gradient reaches the weights": checks.gradient,
            "state_dict holds everything": checks.state,
            "options": checks.subject.check_options,
        }
    )


class _BackboneChecks:
    """One method per check; each starts from freshly built networks."""

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
        valid = isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(n, int) and n > 0 for n in batch)
        expect(valid, f"batch must be (P, K), two whole numbers above 0, got {batch!r}")
        expect(isinstance(backbone.trainable, bool), f"trainable must be true or false, got {backbone.trainable!r}")
        learns = any(p.requires_grad for p in backbone.parameters())
        message = f"trainable is {backbone.trainable}, but {'a' if learns else 'no'} parameter could be trained"
        expect(learns == backbone.trainable, message)

    def preprocess(self) -> None:
        preprocess = getattr(self.fresh(), "preprocess", None)
        if not isinstance(preprocess, Preprocess):
            raise Violation(f"preprocess must be a reidbench.Preprocess, got {type(preprocess).__name__}")
        for name, size in (("height", preprocess.height), ("width", preprocess.width)):
            expect(isinstance(size, int) and size > 0, f"{name} must be a whole number of pixels, got {size!r}")
        # Pixels are divided by 255 first: a mean of 104 belongs to another scale.
        for name, values, low in (("mean", preprocess.mean, 0.0), ("std", preprocess.std, 1e-3)):
            valid = len(values) == 3 and all(math.isfinite(v) and low <= v <= 1 for v in values)
            expect(valid, f"{name} must be three numbers from {low:g} to 1 (pixels / 255), got {values}")

    def output(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        shape = (BATCH, backbone.embedding_dim)
        for training in (True, False):
            with torch.no_grad():
                out = backbone.train(training)(images)
            expect(isinstance(out, Tensor), f"forward must return a tensor, got {type(out).__name__}")
            expect(
                tuple(out.shape) == shape,
                f"for images {tuple(images.shape)} the output must have the shape {shape}, got {tuple(out.shape)}",
            )
            expect(out.dtype == torch.float32, f"float32 images must give float32 embeddings, got {out.dtype}")
            expect_finite(out, "the embeddings of ordinary images")

    def evaluation(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        first, second = self.embed(backbone, images), self.embed(backbone, images)
        expect_equal(first, second, "two embeddings of the same images in evaluation mode")
        expect(not torch.equal(first[:1], first[1:2]), "two different images gave one embedding")
        changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
        expect(not changed, f"embedding in evaluation mode changed {', '.join(changed[:3])}")

    def alone(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        together = self.embed(backbone, images)
        apart = torch.cat([self.embed(backbone, images[i : i + 1]) for i in range(BATCH)])
        expect_equal(
            together, apart, f"in evaluation mode the embeddings of images alone and in a batch of {BATCH}", _ALONE
        )

    def seeded(self) -> None:
        self.equal_states(self.fresh(), self.fresh(), "built twice with one seed of torch")

    def initialise(self) -> None:
        first, second = self.fresh(), self.fresh()
        if first.pretrained:  # its weights may not be on this machine
            raise NotApplicable
        for backbone in (first, second):
            torch.default_generator.manual_seed(self.seed)
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
        if not backbone.trainable:
            raise NotApplicable
        backbone(self.images(backbone)).square().mean().backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
        missing = [name for name, gradient in gradients.items() if gradient is None]
        advice = "use them, or set requires_grad=False"
        expect(not missing, f"{len(missing)} parameters get no gradient: {', '.join(missing[:3])}; {advice}")
        for name, gradient in gradients.items():
            assert gradient is not None
            expect_finite(gradient, f"the gradient of {name}")
        expect(
            any(bool(gradient.any()) for gradient in gradients.values() if gradient is not None), "all gradients are 0"
        )

    def state(self) -> None:
        first, second = self.fresh(), self.fresh(seed=1)
        images = self.images(first)
        with torch.no_grad():
            first.train()(images)  # so that running statistics are not the initial ones
        second.load_state_dict(first.state_dict())
        what = "the embeddings of two networks with one state_dict"
        advice = "keep what forward uses in parameters and buffers"
        expect_equal(self.embed(first, images), self.embed(second, images), what, advice=advice)
