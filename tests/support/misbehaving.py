"""Plugin items that break their contract in one way each."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidbench import Backbone, Loss, LossValue, Metric, Part, Preprocess, Protocol, Recipe, Reranker, Samples, Split
from tests.support.cases import cases

RECIPE = Recipe(steps=1, decay_start=1, learning_rate=0.1, p=2, k=2)


# --- items that are right, but for what they are given ------------------------------------------------------------


class AnyMetric(Metric):
    """The Euclidean distance, with other results of some methods."""

    def __init__(self, **methods) -> None:
        vars(self).update(methods)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


def product(embeddings: Tensor, left: int = 3, right: int = 3) -> tuple[Tensor, Tensor]:
    return embeddings[:, :1].expand(-1, left), embeddings[:, :1].expand(-1, right)


class Forgetful(Metric):
    """Factors that have another width, or are none, from the second call on; as after a wrong fit."""

    def __init__(self, later: int | None) -> None:
        self.later, self.calls = later, 0

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor] | None:
        self.calls += 1
        width = 3 if self.calls == 1 else self.later
        return product(embeddings, width, width) if width else None

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


class Fitted(Metric):
    """A metric that cannot be fitted."""

    def fit(self, embeddings: Tensor, pids, cams) -> None:
        raise KeyError("covariance")


class AnyReranker(Reranker):
    """A re-ranker of given blocks."""

    def __init__(self, blocks: Callable[[Tensor, Tensor, Metric], Any]) -> None:
        self.make = blocks

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int):
        return self.make(query, gallery, metric)


class AnyLoss(Loss):
    """A loss of a given value."""

    def __init__(self, value: Callable[[Tensor], Any] = lambda rows: rows.square().sum(), **attributes) -> None:
        super().__init__()
        self.value = value
        vars(self).update(attributes)

    def forward(self, embeddings: Tensor, labels: Tensor):
        return self.value(embeddings)


class AnyBackbone(Backbone):
    """A network of given attributes and a given forward."""

    embedding_dim = 4
    preprocess = Preprocess(16, 8)

    def __init__(self, value: Callable[[Tensor], Any] | None = None, missing: str = "", **attributes) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.value = value or (lambda images: self.layer(images.mean((2, 3))))
        for name, attribute in attributes.items():
            setattr(self, name, attribute)
        if missing:
            self.__class__ = type("Bare", (AnyBackbone,), {missing: property()})

    def forward(self, images: Tensor):
        return self.value(images)


def samples(root=Path("/nowhere"), **changes) -> Samples:
    arrays = {"images": np.array(["a.jpg", "b.jpg"]), "pids": np.array([1, 2]), "cams": np.array([1, 2])}
    return Samples(root, **{"starts": np.arange(3)} | arrays | changes)


def split(**changes) -> Split:
    return Split(**{"train": samples(), "query": samples(), "gallery": samples(), **changes})


def protocol(**changes) -> Protocol:
    return Protocol(**{"dataset": "synthetic", "version": 1, "recipe": "quick", "views": "original", **changes})


class AnySection:
    """A section of a given part."""

    def __init__(self, part: Callable[[], Any]) -> None:
        self.part = part

    def build(self, records, files):
        return self.part()


def boom(*_):
    raise ZeroDivisionError("inside the plugin")


def fail():
    return boom()


def fail_in(folder: Path):
    return boom(folder)


def steps(*values) -> Iterator[Any]:
    yield from values


def interrupted() -> Iterator[tuple[int, int]]:
    yield 1, 2
    boom()


def with_wrong_attributes(table: str, make: Callable[..., Any], inputs: int = 0) -> dict[str, Callable[..., Any]]:
    """Return the items of a table beside this module, whose factories are supplied with nothing or one input."""

    def factory(wrong: dict[str, Any]) -> Callable[..., Any]:
        return (lambda supplied: make(**wrong)) if inputs else (lambda: make(**wrong))

    return {name: factory(wrong) for name, wrong in cases(__file__, table).items()}


# --- what is wrong with each --------------------------------------------------------------------------------------

nan = torch.nan
METRICS: dict[str, Callable[[], Any]] = {
    "no_metric": lambda: "euclidean",
    "normalize_is_text": lambda: AnyMetric(normalize="yes"),
    "factors_of_one": lambda: AnyMetric(factors=lambda x: (x,)),
    "factors_are_one_tensor": lambda: AnyMetric(factors=lambda x: torch.stack([x, x])),
    "factors_of_two_widths": lambda: AnyMetric(factors=partial(product, left=5, right=3)),
    "factors_of_fewer_rows": lambda: AnyMetric(factors=lambda x: product(x[1:])),
    "factors_without_columns": lambda: AnyMetric(factors=partial(product, left=0, right=0)),
    "factors_are_vectors": lambda: AnyMetric(factors=lambda x: (x[:, 0], x[:, 0])),
    "factors_float32": lambda: AnyMetric(factors=lambda x: product(x.float())),
    "factors_nan": lambda: AnyMetric(factors=lambda x: product(x * nan)),
    "factors_are_arrays": lambda: AnyMetric(factors=lambda x: (x.numpy(), x.numpy())),
    "factors_get_wider": lambda: Forgetful(9),
    "factors_end": lambda: Forgetful(None),
    "factors_raise": lambda: AnyMetric(factors=boom),
    "distances_transposed": lambda: AnyMetric(distances=lambda a, b: torch.cdist(b, a)),
    "distances_flat": lambda: AnyMetric(distances=lambda a, b: torch.cdist(a, b).flatten()),
    "distances_integers": lambda: AnyMetric(distances=lambda a, b: torch.cdist(a, b).long()),
    "distances_nan": lambda: AnyMetric(distances=lambda a, b: torch.cdist(a, b) * nan),
    "distances_none": lambda: AnyMetric(distances=lambda a, b: None),
    "distances_raise": lambda: AnyMetric(distances=boom),
    "pairs_are_a_matrix": lambda: AnyMetric(
        factors=product, pair_distances=lambda a, b, first, second: torch.cdist(a, b)
    ),
    "pairs_too_few": lambda: AnyMetric(factors=product, pair_distances=lambda a, b, first, second: first[1:].double()),
    "pairs_nan": lambda: AnyMetric(factors=product, pair_distances=lambda a, b, first, second: first * nan),
    "fit_raises": Fitted,
    "constructor_raises": fail,
}
RERANKERS: dict[str, Callable[[], Any]] = {
    "no_reranker": object,
    "blocks_none": lambda: AnyReranker(lambda q, g, m: None),
    "blocks_one_tensor": lambda: AnyReranker(lambda q, g, m: torch.cdist(q, g)),
    "blocks_of_integers": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q, g).long()]),
    "blocks_of_arrays": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q, g).numpy()]),
    "blocks_too_narrow": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q, g[1:])]),
    "blocks_too_few": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q[1:], g)]),
    "blocks_without_end": lambda: AnyReranker(lambda q, g, m: iter(lambda: torch.cdist(q, g), None)),
    "blocks_empty": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q[:0], g), torch.cdist(q, g)]),
    "blocks_nan": lambda: AnyReranker(lambda q, g, m: [torch.cdist(q, g) * nan]),
    "blocks_raise": lambda: AnyReranker(boom),
}
LOSSES: dict[str, Callable[[Any], Any]] = {
    "no_loss": lambda info: nn.Linear(2, 2),
    "total_float": lambda info: AnyLoss(lambda rows: LossValue(0.5)),
    "total_vector": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(1))),
    "total_integer": lambda info: AnyLoss(lambda rows: torch.tensor(3)),
    "value_none": lambda info: AnyLoss(lambda rows: None),
    "value_matrix": lambda info: AnyLoss(lambda rows: rows),
    "value_empty": lambda info: AnyLoss(lambda rows: rows[:0, 0]),
    "value_pair": lambda info: AnyLoss(lambda rows: (rows.sum(), {})),
    "value_without_gradient": lambda info: AnyLoss(lambda rows: rows.detach().sum()),
    "per_item_scalar": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(), {"a": rows.sum()})),
    "per_item_list": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(), {"a": [1.0]})),
    "per_item_tensor": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(), rows)),
    "per_item_numbers_as_names": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(), {1: rows[0]})),
    "scalars_float": lambda info: AnyLoss(lambda rows: LossValue(rows.sum(), {}, {"a": 1.0})),
    "pool_unknown": lambda info: AnyLoss(pool="median"),
    "metric_object": lambda info: AnyLoss(metric=AnyMetric()),
    "groups_none": lambda info: AnyLoss(param_groups=lambda: None),
    "groups_of_tensors": lambda info: AnyLoss(param_groups=lambda: [torch.zeros(1)]),
    "rounds_fractions": lambda info: AnyLoss(next_round=lambda view, number: [np.array([0.5, 1.5])]),
    "rounds_numbers": lambda info: AnyLoss(next_round=lambda view, number: [0, 1]),
    "rounds_text": lambda info: AnyLoss(next_round=lambda view, number: "batches"),
    "rounds_beyond": lambda info: AnyLoss(next_round=lambda view, number: [np.array([0, 99])]),
}
BACKBONES: dict[str, Callable[[], Any]] = {
    **with_wrong_attributes("backbone", AnyBackbone),
    "no_backbone": lambda: nn.Linear(2, 2),
    "without_preprocess": lambda: AnyBackbone(missing="preprocess"),
    "without_embedding_dim": lambda: AnyBackbone(missing="embedding_dim"),
    "height_fraction": lambda: AnyBackbone(preprocess=Preprocess(16.5, 8)),
    "width_negative": lambda: AnyBackbone(preprocess=Preprocess(16, -8)),
    "mean_of_255": lambda: AnyBackbone(preprocess=Preprocess(16, 8, (123.7, 116.3, 103.5))),
    "std_zero": lambda: AnyBackbone(preprocess=Preprocess(16, 8, std=(1.0, 0.0, 1.0))),
    "mean_of_two": lambda: AnyBackbone(preprocess=Preprocess(16, 8, (0.5, 0.5))),
    "batch_of_no_identities": lambda: AnyBackbone(batch=(0, 4)),
    "embeddings_too_wide": lambda: AnyBackbone(lambda images: images.mean((2, 3)).repeat(1, 3)),
    "embeddings_a_map": lambda: AnyBackbone(lambda images: images),
    "embeddings_integers": lambda: AnyBackbone(lambda images: torch.zeros(len(images), 4, dtype=torch.int64)),
    "embeddings_pair": lambda: AnyBackbone(lambda images: (images, images)),
    "embeddings_mixed_up": lambda: AnyBackbone(lambda images: torch.zeros(1, 4)),
    "build_raises": fail,
}
DATASETS: dict[str, Callable[[Path], Any]] = {
    **with_wrong_attributes("samples", lambda **wrong: split(train=samples(**wrong)), inputs=1),
    **with_wrong_attributes("split", split, inputs=1),
    "no_split": lambda root: {"train": samples()},
    "gallery_none": lambda root: split(gallery=None),
    "pids_too_few": lambda root: split(train=samples(pids=np.array([1]))),
    "pids_float": lambda root: split(train=samples(pids=np.array([1.0, 2.0]))),
    "pids_int32": lambda root: split(train=samples(pids=np.array([1, 2], dtype=np.int32))),
    "pids_matrix": lambda root: split(train=samples(pids=np.array([[1], [2]]))),
    "pids_fractions": lambda root: split(train=Samples.of_images(root, ["a", "b"], [1.5, 2.5], [1, 1])),
    "cams_text": lambda root: split(train=samples(cams=np.array(["c1", "c2"]))),
    "images_objects": lambda root: split(train=samples(images=np.array([b"a", b"b"]))),
    "images_paths": lambda root: split(train=Samples.of_images(root, [root, root], [1, 2], [1, 1])),
    "starts_fall": lambda root: split(train=samples(starts=np.array([0, 2, 1]))),
    "factory_raises": fail_in,
}
PROTOCOLS: dict[str, Callable[[], Any]] = {
    **with_wrong_attributes("protocol", protocol),
    "no_protocol": lambda: "market1501",
    "dataset_none": lambda: protocol(dataset=None),
    "exclude_unknown": lambda: protocol(exclude=("same_clothes",)),
    "ranks_negative": lambda: protocol(ranks=(-1, 1, 5, 10, 20)),
    "ranks_falling": lambda: protocol(ranks=(20, 10, 5, 1)),
    "ranks_text": lambda: protocol(ranks=("1", "5")),
}
RECIPES: dict[str, Callable[[Any], Any]] = {
    **with_wrong_attributes("recipe", partial(replace, RECIPE), inputs=1),
    "no_recipe": lambda network: {"steps": 3},
    "rate_nan": lambda network: replace(RECIPE, learning_rate=nan),
    "rate_none": lambda network: replace(RECIPE, learning_rate=None),
}
SECTIONS: dict[str, Callable[[], Any]] = {
    "no_section": lambda: "table",
    "part_text": lambda: AnySection(lambda: "a table"),
    "part_none": lambda: AnySection(lambda: None),
    "tables_text": lambda: AnySection(lambda: Part("t", tables="a table")),
    "tables_rows": lambda: AnySection(lambda: Part("t", tables=[[{"a": 1}]])),
    "notes_text": lambda: AnySection(lambda: Part("t", notes="a note")),
    "notes_numbers": lambda: AnySection(lambda: Part("t", notes=[3])),
    "figures_text": lambda: AnySection(lambda: Part("t", figures=["figure.png"])),
    "title_none": lambda: AnySection(lambda: Part(None)),
    "part_raises": lambda: AnySection(boom),
}
SYNTHESIZERS: dict[str, Callable[[Path], Any]] = {
    "result_none": lambda directory: None,
    "result_number": lambda directory: 5,
    "steps_of_numbers": lambda directory: steps(1, 2),
    "steps_of_one": lambda directory: steps((1,)),
    "steps_of_texts": lambda directory: steps(("1", "2")),
    "steps_of_lists": lambda directory: steps([1, 2]),
    "steps_beyond": lambda directory: steps((3, 2)),
    "steps_negative": lambda directory: steps((-1, 2)),
    "fails_in_between": lambda directory: interrupted(),
    "fails_at_once": fail_in,
}
