"""``check_backbone``: the contract of a network, from the shape of its output to weights that can be saved."""

from __future__ import annotations

import torch
from torch import Tensor

from reidbench.embedding.extract import check_embeddings
from reidbench.errors import check_tensor
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.spec import EMBEDDING
from reidbench.testing.checked_item import Checks, NotApplicable, contract_check, normal
from reidbench.training.build import describe_backbone
from reidbench.training.precision import join_features

BATCH = 5
_ALONE = 1e-4  # of the largest entry: matrix products of other sizes round differently


class _BackboneChecks(Checks):
    """Each check starts from freshly built networks, whose pretrained weights are not loaded."""

    expected = Backbone

    def start(self) -> tuple[Backbone, Tensor]:
        """Return a freshly built network and images [BATCH, 3, H, W] of its input size."""
        backbone: Backbone = self.build()
        shape = (BATCH, 3, backbone.preprocess.height, backbone.preprocess.width)
        return backbone, normal(shape, "images").float()

    @staticmethod
    def embed(backbone: Backbone, images: Tensor) -> Tensor:
        with torch.no_grad():
            return check_embeddings(backbone, backbone.eval()(images.clone()), len(images))

    def check_contract(self) -> None:
        info = describe_backbone(self.spec)  # checks the types, the input, the size of the embeddings and of the batch
        learns = any(p.requires_grad for p in self.build().parameters())
        message = f"trainable is {info.trainable}, but {'a' if learns else 'no'} parameter could be trained"
        self.expect(learns == info.trainable, message)
        self.expect_groups(self.build())

    def check_output(self) -> None:
        backbone, images = self.start()
        for training in (True, False):
            with torch.no_grad():
                out = check_embeddings(backbone, backbone.train(training)(images), BATCH)
            self.expect(out.dtype == torch.float32, f"float32 images must give float32 embeddings, got {out.dtype}")
            self.expect_finite(out, "the embeddings of ordinary images")

    def check_evaluation_repeats_and_changes_nothing(self) -> None:
        backbone, images = self.start()
        before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        first, second = self.embed(backbone, images), self.embed(backbone, images)
        self.expect_equal(first, second, "two embeddings of the same images in evaluation mode")
        self.expect(not torch.equal(first[:1], first[1:2]), "two different images gave one embedding")
        changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
        self.expect(not changed, f"embedding in evaluation mode changed {', '.join(changed[:3])}")

    def check_an_image_does_not_depend_on_its_batch(self) -> None:
        backbone, images = self.start()
        together = self.embed(backbone, images)
        apart = torch.cat([self.embed(backbone, image[None]) for image in images])
        self.expect_equal(together, apart, f"the embeddings of images alone and in a batch of {BATCH}", _ALONE)

    def check_seeded_weights(self) -> None:
        networks: list[Backbone] = [self.build(), self.build()]
        for backbone in networks:
            if not backbone.pretrained:  # otherwise its weights may not be on this machine
                torch.default_generator.manual_seed(0)
                backbone.initialise()
        one, other = (backbone.state_dict() for backbone in networks)
        different = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
        observation = f"{len(different)} of {len(one)} tensors differ: {', '.join(different[:3])}"
        self.expect(not different, f"built twice with one seed of torch, {observation}")

    def check_gradient_reaches_the_weights(self) -> None:
        backbone, images = self.start()
        if not backbone.trainable:
            raise NotApplicable
        rows = self.features(backbone.train(), images) if backbone.feature_sizes else backbone.train()(images)
        (backbone.pair(rows, rows.roll(1, 0)) if backbone.pairs else rows).square().mean().backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
        missing = [name for name, gradient in gradients.items() if gradient is None]
        advice = "use them, or set requires_grad=False"
        self.expect(not missing, f"{len(missing)} parameters get no gradient: {', '.join(missing[:3])}; {advice}")
        sums = torch.stack([gradient.abs().sum() for gradient in gradients.values() if gradient is not None])
        self.expect_finite(sums, "the absolute gradients of each parameter, summed")
        self.expect(bool(sums.any()), "all gradients are 0")

    def check_training_features(self) -> None:
        backbone, images = self.start()
        if not backbone.feature_sizes:
            raise NotApplicable
        embeddings = self.embed(backbone, images)
        with torch.no_grad():
            features = self.features(backbone, images)
        what = "the embedding of training_features and what forward returns, in evaluation mode,"
        self.expect_equal(features[:, : backbone.embedding_dim], embeddings, what)

    @staticmethod
    def features(backbone: Backbone, images: Tensor) -> Tensor:
        """Return all training features side by side, the embedding first."""
        names = (EMBEDDING, *backbone.feature_sizes)
        return join_features(backbone, backbone.training_features(images), names, BATCH)

    def check_pairs(self) -> None:
        backbone, images = self.start()
        if not backbone.pairs:
            raise NotApplicable
        rows = self.embed(backbone, images)
        others = rows.roll(1, 0)
        distances = backbone.pair(rows, others)
        check_tensor(self.spec.owner, "pair", distances, (BATCH,))
        with torch.no_grad():
            apart = torch.cat([backbone.pair(*pair) for pair in zip(rows[:, None], others[:, None], strict=True)])
            check_tensor(self.spec.owner, "alone", backbone.alone(rows), (BATCH, None))
        self.expect_equal(distances.detach(), apart, f"the distances of pairs alone and among {BATCH}", _ALONE)
        named = {id(parameter) for parameter in backbone.pair_parameters()}
        for used, stage in ((distances, "pair"), (backbone(images), "forward")):
            gradients = torch.autograd.grad(used.sum(), [*backbone.parameters()], allow_unused=True)
            pairs = zip(backbone.named_parameters(), gradients, strict=True)
            wrong = [name for (name, p), g in pairs if g is not None and (id(p) in named) == (stage == "forward")]
            what = f"pair_parameters must name what pair alone uses; of {', '.join(wrong[:3])} it does not hold"
            self.expect(not wrong, f"{what}, which {stage} uses")

    def check_state_dict_holds_everything(self) -> None:
        (first, images), second = self.start(), self.build(seed=1)
        with torch.no_grad():
            first.train()(images)  # so that running statistics are not the initial ones
        second.load_state_dict(first.state_dict())
        what = "the embeddings of two networks with one state_dict"
        advice = "keep what forward uses in parameters and buffers"
        self.expect_equal(self.embed(first, images), self.embed(second, images), what, advice=advice)


check_backbone = contract_check("backbone", _BackboneChecks)
