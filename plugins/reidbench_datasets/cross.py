"""The protocol across datasets: training on one, queries and gallery of another that no training image is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reidbench import OptionError, Protocol, build, hookimpl


def cross(*, train: str = "market1501", test: str = "msmt17") -> Protocol:
    """Direct transfer: train as one protocol does, then score the queries and the gallery of another.

    Options:
        train: protocol of the training part, recipe, input size, views, pooling and option defaults.
        test: protocol of queries, gallery, exclusion rules, ranks and primary score.

    A spec with options is quoted: cross(train="synthetic(seed=1)", test=market1501). A network that was trained with
    the protocol ``train`` is not trained again. Equal pids of the two datasets are different identities.
    """
    source, target = _protocol("train", train), _protocol("test", test)
    names = {"train": source.names.get("train"), **{part: target.names.get(part) for part in ("query", "gallery")}}
    return replace(
        source,
        dataset=target.dataset,
        train=source.train or source.dataset,
        version=source.version + target.version - 1,
        exclude=target.exclude,
        ranks=target.ranks,
        recall_at_k=target.recall_at_k,
        primary=target.primary,
        # Real data only where both are: one published list alone would not tell a stand-in of the other.
        names={part: digest for part, digest in names.items() if digest} if names["train"] and names["gallery"] else {},
        faithful_to="",
        faithful_options={},
        faithful_backbones=(),
    )


def _protocol(option: str, text: str) -> Protocol:
    try:
        protocol: Protocol = build("protocol", text)
    except OptionError as error:
        raise OptionError(f"cross: option {option}: {error}") from error
    return protocol


@hookimpl
def register_protocols() -> Mapping[str, Callable[..., Protocol]]:
    return {"cross": cross}
