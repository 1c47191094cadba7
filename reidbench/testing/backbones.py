"""``check_backbone``: the contract of a network, from the shape of its output to weights that can be saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reidbench.errors import check_tensor, checked
from reidbench.plugins.interfaces import Backbone, check_embeddings
from reidbench.testing.checked_item import (
    Checks,
    NotApplicable,
    expect,
    expect_equal,
    expect_finite,
    expect_groups,
    normal,
)
from reidbench.training.build import describe_backbone

BATCH = 5
_ALONE = 1e-4  # of the largest entry: matrix products of other sizes round differently


def check_backbone(backbone: str | Callable[..., Backbone], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a network passes.

    ``backbone`` is a spec of an installed network or a factory ``(*, options) -> Backbone`` with ``options``; ``seed``
    gives weights and images. Pretrained weights are not loaded. Raises ContractError at the first check that fails,
    OptionError for a name or an option that does not fit.
    """
    return _BackboneChecks("backbone", backbone, options, seed).run()


class _BackboneChecks(Checks):
    """Each check starts from freshly built networks."""

    def fresh(self, seed: int = 0) -> Backbone:
        return checked(self.spec.owner, self.build(seed=seed), Backbone)

    def images(self, backbone: Backbone) -> Tensor:
        shape = (BATCH, 3, backbone.preprocess.height, backbone.preprocess.width)
        return normal(shape, self.seed, "images").float()

    @staticmethod
    def embed(backbone: Backbone, images: Tensor) -> Tensor:
        with torch.no_grad():
            return check_embeddings(backbone, backbone.eval()(images.clone()), len(images))

    def check_contract(self) -> None:
        info = describe_backbone(self.spec)  # checks the types, the input and the size of the embeddings
        expect(min(info.batch) > 0, f"batch must be (P, K), two whole numbers above 0, got {info.batch}")
        learns = any(p.requires_grad for p in self.fresh().parameters())
        message = f"trainable is {info.trainable}, but {'a' if learns else 'no'} parameter could be trained"
        expect(learns == info.trainable, message)
        expect_groups(self.fresh())

    def check_output(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        for training in (True, False):
            with torch.no_grad():
                out = check_embeddings(backbone, backbone.train(training)(images), BATCH)
            expect(out.dtype == torch.float32, f"float32 images must give float32 embeddings, got {out.dtype}")
            expect_finite(out, "the embeddings of ordinary images")

    def check_evaluation_repeats_and_changes_nothing(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        first, second = self.embed(backbone, images), self.embed(backbone, images)
        expect_equal(first, second, "two embeddings of the same images in evaluation mode")
        expect(not torch.equal(first[:1], first[1:2]), "two different images gave one embedding")
        changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
        expect(not changed, f"embedding in evaluation mode changed {', '.join(changed[:3])}")

    def check_an_image_does_not_depend_on_its_batch(self) -> None:
        backbone = self.fresh()
        images = self.images(backbone)
        together = self.embed(backbone, images)
        apart = torch.cat([self.embed(backbone, image[None]) for image in images])
        expect_equal(together, apart, f"the embeddings of images alone and in a batch of {BATCH}", _ALONE)

    def check_seeded_weights(self) -> None:
        first, second = self.fresh(), self.fresh()
        self.expect_equal_states(first, second, "built twice with one seed of torch")
        if not first.pretrained:  # otherwise its weights may not be on this machine
            for backbone in (first, second):
                torch.default_generator.manual_seed(self.seed)
                backbone.initialise()
            self.expect_equal_states(first, second, "initialised twice with one seed of torch")

    @staticmethod
    def expect_equal_states(first: Backbone, second: Backbone, what: str) -> None:
        one, other = first.state_dict(), second.state_dict()
        expect(one.keys() == other.keys(), f"{what}, its state_dict has other names")
        different = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
        expect(not different, f"{what}, {len(different)} of {len(one)} tensors differ: {', '.join(different[:3])}")

    def check_gradient_reaches_the_weights(self) -> None:
        backbone = self.fresh().train()
        if not backbone.trainable:
            raise NotApplicable
        rows = backbone(self.images(backbone))
        (backbone.pair(rows, rows.roll(1, 0)) if backbone.pairs else rows).square().mean().backward()
        parameters = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        missing = [name for name, p in parameters.items() if p.grad is None]
        advice = "use them, or set requires_grad=False"
        expect(not missing, f"{len(missing)} parameters get no gradient: {', '.join(missing[:3])}; {advice}")
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        for name, gradient in gradients.items():
            expect_finite(gradient, f"the gradient of {name}")
        expect(any(bool(gradient.any()) for gradient in gradients.values()), "all gradients are 0")

    def check_pairs(self) -> None:
        backbone = self.fresh().eval()
        if not backbone.pairs:
            raise NotApplicable
        rows = self.embed(backbone, self.images(backbone))
        others = rows.roll(1, 0)
        distances = backbone.pair(rows, others)
        check_tensor(self.spec.owner, "pair", distances, (BATCH,))
        with torch.no_grad():
            apart = torch.cat([backbone.pair(*pair) for pair in zip(rows[:, None], others[:, None], strict=True)])
            check_tensor(self.spec.owner, "alone", backbone.alone(rows), (BATCH, None))
        expect_equal(distances.detach(), apart, f"the distances of pairs alone and among {BATCH}", _ALONE)
        named = {id(parameter) for parameter in backbone.pair_parameters()}
        for used, stage in ((distances, "pair"), (backbone(self.images(backbone)), "forward")):
            gradients = torch.autograd.grad(used.sum(), [*backbone.parameters()], allow_unused=True)
            pairs = zip(backbone.named_parameters(), gradients, strict=True)
            wrong = [name for (name, p), g in pairs if g is not None and (id(p) in named) == (stage == "forward")]
            what = f"pair_parameters must name what pair alone uses; of {', '.join(wrong[:3])} it does not hold"
            expect(not wrong, f"{what}, which {stage} uses")

    def check_state_dict_holds_everything(self) -> None:
        first, second = self.fresh(), self.fresh(seed=1)
        images = self.images(first)
        with torch.no_grad():
            first.train()(images)  # so that running statistics are not the initial ones
        second.load_state_dict(first.state_dict())
        what = "the embeddings of two networks with one state_dict"
        advice = "keep what forward uses in parameters and buffers"
        expect_equal(self.embed(first, images), self.embed(second, images), what, advice=advice)
