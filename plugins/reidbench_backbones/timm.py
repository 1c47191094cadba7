"""Every network of the timm library that takes images of the wanted size."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from reidbench import Backbone, DataError, OptionError, Preprocess, hookimpl
from reidbench_backbones.heads import build_head
from reidbench_backbones.weights import (
    Normalisation,
    Weights,
    load,
    model_hub_file,
    read_normalisation,
    read_tensors,
    torch_hub_file,
)


class Timm(Backbone):
    """A network of the timm library without its classifier, with the paper's head or none.

    Options:
        name: Name of the network as timm lists it, perhaps with the tag of its weights ("resnet18.a1_in1k").
        weights: "imagenet" for timm's own weights of that name, a safetensors file, or none for drawn ones.
        head: "trinet" for 1024 units, batch norm, ReLU and 128 units; none for the network's pooled feature.
        height: Height of the input in pixels.
        width: Width of the input in pixels.

    Takes images [B, 3, height, width] to embeddings [B, D], which nothing normalises; without a head D is the size of
    the network's feature. Mean and std are those of the weights: timm's, the file's, or none (pixels / 255). A network
    of a fixed size is built for this one; timm fits its weights to that, a file's must fit as they are.
    The constructor passes one empty image through the network, and reads a weights file's metadata, since mean and std
    must be known to plan. Raises OptionError for a name that timm does not have, for a network without weights, and for
    one that does not take such images; DataError where weights can be neither found nor fetched or do not fit.
    Source: the timm library (PyTorch Image Models), which names each network's paper.
    """

    def __init__(
        self,
        *,
        name: str = "resnet18",
        weights: Weights = "imagenet",
        head: Literal["trinet"] | None = None,
        height: int = 256,
        width: int = 128,
    ) -> None:
        super().__init__()
        for option, value in (("height", height), ("width", width)):
            if value < 1:
                raise OptionError(f"timm: {option} must be at least 1; got {value}")
        check_name(name)
        self.name = name
        self.weights = weights
        self.pretrained = weights is not None
        self.network, features = build_network(name, height, width)
        self.published: dict[str, Any] = self.network.pretrained_cfg
        if weights is None:
            self.normalisation = Normalisation()
        elif weights == "imagenet":
            if not self.published.get("hf_hub_id") and not self.published.get("url"):
                raise OptionError(f"timm: name={name}: timm has no weights for it; say weights=none to draw them")
            self.normalisation = Normalisation(tuple(self.published["mean"]), tuple(self.published["std"]))
        else:
            self.normalisation = read_normalisation(weights)
        self.preprocess = Preprocess(height, width, self.normalisation.mean, self.normalisation.std)
        self.head, self.embedding_dim = build_head(head, features)

    def initialise(self) -> None:
        """Load the weights; raises DataError where they can be neither found nor fetched, or do not fit."""
        if self.weights is None:
            return
        if self.weights == "imagenet":
            self._load_published()
            return
        file = self.weights
        flip = self._first_layers(str(file)) if self.normalisation.bgr else []
        classifier = _names(self.published.get("classifier"))
        load(self.network, self.head, read_tensors(file), source=str(file), classifier=classifier, flip=flip)

    def _load_published(self) -> None:
        # Found here and not by timm, which asks the network first and has no word on how long.
        owner, published = f"timm(name={self.name}, weights=imagenet)", self.published
        overlay: dict[str, Any] = {}
        if published.get("hf_hub_id"):
            name = published.get("hf_hub_filename") or "pytorch_model.bin"
            safe = name.replace("pytorch_model.bin", "model.safetensors")
            file = model_hub_file(published["hf_hub_id"], list(dict.fromkeys([safe, name])), owner)
            overlay["custom_load"] = published.get("custom_load") == "hf"  # else the hub's copy is of timm's own form
        else:
            file = torch_hub_file(published["url"], owner)
        try:
            # A second network, since only timm's constructor fits weights made for another size.
            size = (self.preprocess.height, self.preprocess.width)
            source = create(self.name, size, pretrained=True, pretrained_cfg_overlay={"file": str(file), **overlay})
        except Exception as error:  # the file is damaged, or not what this version of timm expects
            said = f"cannot be loaded by timm: {_reason(error)}"
            raise DataError(f"{owner}: {file}: {said}; delete it to fetch it again") from None
        self.network.load_state_dict(source.state_dict())

    def _first_layers(self, source: str) -> list[str]:
        """Return the layers that see the image's channels; raises DataError where timm does not name any."""
        layers = _names(self.published.get("first_conv"))
        if not layers or any(self.network.get_submodule(layer).weight.shape[1] != 3 for layer in layers):
            raise DataError(
                f"{source}: is for BGR images, and no layer of {self.name} is known to see just three channels; "
                "reorder its first layer, mean and std, and write channels=RGB"
            )
        return layers

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        return self.head(self.network(images.contiguous()))


def check_name(name: str) -> None:
    """Raise OptionError, with the nearest names, where timm has no network (or no weights) of this name."""
    import timm  # noqa: PLC0415, listing does not wait for it

    network, _, tag = name.partition(".")
    networks = timm.list_models()
    if network not in networks:
        near = difflib.get_close_matches(network, networks, n=3)
        said = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
        raise OptionError(f"timm: there is no network {network!r} in timm {timm.__version__}; {said}")
    tagged = timm.list_models(f"{network}.*", pretrained=True)
    if tag and name not in tagged:
        said = f"there are {', '.join(tagged)}" if tagged else "there are none"
        raise OptionError(f"timm: timm {timm.__version__} has no weights {name!r}; {said}")


def build_network(name: str, height: int, width: int) -> tuple[Any, int]:
    """Return a network without its classifier, and the size of its feature.

    Raises OptionError where it does not take images [B, 3, height, width] to features [B, D].
    """
    refused = f"timm: name={name} does not take images of {height} x {width} pixels"
    try:
        network = create(name, (height, width))
        with torch.no_grad():
            features = network.eval()(torch.zeros(1, 3, height, width))
    except Exception as error:  # each network has its own way to refuse
        raise OptionError(f"{refused}: {_reason(error)}; try another height and width") from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        said = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise OptionError(f"{refused} to one feature each: one image gives {said}")
    return network.train(), features.shape[1]


def create(name: str, size: tuple[int, int], **arguments: Any) -> Any:
    """Return timm's network without a classifier, built for ``size`` where it has a fixed one."""
    import timm  # noqa: PLC0415, listing does not wait for it

    arguments = {"num_classes": 0, "pretrained": False, **arguments}
    try:
        return timm.create_model(name, img_size=size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **arguments)  # of any size


def _names(said: str | tuple[str, ...] | None) -> list[str]:
    return [said] if isinstance(said, str) else list(said or ())


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__


@hookimpl
def register_backbones() -> Mapping[str, type[Backbone]]:
    """Offer timm."""
    return {"timm": Timm}
