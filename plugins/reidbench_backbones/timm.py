"""Every network of the timm library that takes images of the given size."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from reidbench import Backbone, DataError, LaterOption, OptionError, Preprocess, hookimpl
from reidbench_backbones.heads import Head, build_head, head_groups
from reidbench_backbones.necks import Neck, NeckedBackbone, TestFeature
from reidbench_backbones.weights import Choice, hugging_face_file, load_weights, torch_hub_file


class Timm(NeckedBackbone):
    """A network of the timm library without its classifier, with the paper's head or none.

    Options:
        name: Name of the network as timm lists it, perhaps with the tag of its weights ("resnet18.a1_in1k").
        weights: "imagenet" for timm's own of that name, a safetensors file, a run's folder, or none for random ones.
        head: "trinet" for 1024 units, batch norm, ReLU and 128 units; none for the network's pooled feature.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        embedding_dim: Size of the embedding; none for 128 with the head, or without for the feature's size.
        neck: "bnneck" for a batch norm with a fixed bias behind the feature, or none.
        test_feature: With a neck, whether the embedding is the feature behind it ("neck") or before it ("pooled").
        drop_path: Rate of stochastic depth in the last block, from 0 to below 1; it grows linearly over the blocks.

    Maps images [B, 3, height, width] to embeddings [B, D], not normalised. Mean and std are those of the weights:
    timm's, the file's, or none (pixels / 255). A network with a fixed input size is built for the given one; timm
    resizes its own weights to that, a file's must fit as they are.
    The constructor passes one black image through the network, and reads a weights file's metadata, since planning
    needs mean and std. Raises OptionError for an unknown name, a network without weights, one that does not take such
    images, or an option out of range; DataError where weights are not found or do not fit.
    Source: the timm library (PyTorch Image Models), which names each network's paper.
    """

    def __init__(
        self,
        *,
        name: str = "resnet18",
        weights: Choice = "imagenet",
        head: Head = None,
        height: int = 256,
        width: int = 128,
        embedding_dim: int | None = None,
        neck: Neck = None,
        test_feature: TestFeature = "neck",
        drop_path: Annotated[float, LaterOption] = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise OptionError(f"timm: option drop_path: expected a number from 0 to below 1; got {drop_path}")
        for option, value in (("height", height), ("width", width)):
            if value < 1:
                raise OptionError(f"timm: {option} must be at least 1; got {value}")
        check_name(name)
        self.name = name
        self.network, features = build_network(name, height, width, drop_path)
        self.published: dict[str, Any] = self.network.pretrained_cfg
        if weights == "imagenet":
            if not self.published.get("hf_hub_id") and not self.published.get("url"):
                raise OptionError(f"timm: name={name}: timm has no weights for it; use random ones: weights=none")
            self.preprocess = Preprocess(height, width, tuple(self.published["mean"]), tuple(self.published["std"]))
            self.pretrained = True
        else:
            self.use_weights(weights, Preprocess(height, width))
        self.head, self.embedding_dim = build_head(head, features, embedding_dim, "timm")
        self.add_neck(neck, test_feature)

    @staticmethod
    def suggest(name: str) -> str:
        """Return what to type for the name of a network of timm, else an empty text."""
        import timm  # noqa: PLC0415, slow to import

        return f"; it is timm(name={name})" if name.partition(".")[0] in timm.list_models() else ""

    def initialise(self) -> None:
        """Load the weights; raises DataError where they are not found or do not fit."""
        if self.pretrained and self.weights_file is None:
            self._load_published()
        super().initialise()

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str, *, bgr: bool) -> None:
        """Load the tensors of a weights file; raises DataError where they do not fit."""
        flip = self._first_layers(source) if bgr else []
        classifier = _names(self.published.get("classifier"))
        load_weights(self, tensors, source=source, classifier=classifier, flip=flip)

    def _load_published(self) -> None:
        # timm's own loader contacts the hub even where its cache has the file.
        owner, published = f"timm(name={self.name}, weights=imagenet)", self.published
        overlay: dict[str, Any] = {}
        if published.get("hf_hub_id"):
            name = published.get("hf_hub_filename") or "pytorch_model.bin"
            safe = name.replace("pytorch_model.bin", "model.safetensors")
            file = hugging_face_file(published["hf_hub_id"], list(dict.fromkeys([safe, name])), owner)
            overlay["custom_load"] = published.get("custom_load") == "hf"  # else the hub's copy is of timm's own form
        else:
            file = torch_hub_file(published["url"], owner)
        try:
            # A second network, since only timm's constructor fits weights made for another size.
            size = (self.preprocess.height, self.preprocess.width)
            source = create(self.name, size, pretrained=True, pretrained_cfg_overlay={"file": str(file), **overlay})
        except Exception as error:  # the file is damaged, or not what this version of timm expects
            raise DataError(
                f"{owner}: {file}: timm cannot load it: {_reason(error)}; delete it to download it again"
            ) from None
        self.network.load_state_dict(source.state_dict())

    def _first_layers(self, source: str) -> list[str]:
        """Return the layers that take the image's channels; raises DataError where timm names none."""
        layers = _names(self.published.get("first_conv"))
        if not layers or any(self.network.get_submodule(layer).weight.shape[1] != 3 for layer in layers):
            raise DataError(
                f"{source}: expects BGR images, and no layer of {self.name} is known to take exactly three channels; "
                "reorder its first layer, mean and std, and write channels=RGB"
            )
        return layers

    def param_groups(self) -> list[dict[str, object]]:
        """Return a group for each layer of the network, as timm numbers them, and one of the head."""
        from timm.models import group_parameters  # noqa: PLC0415, slow to import

        network, head = head_groups(self)
        if not hasattr(self.network, "group_matcher"):
            return [network, head]
        layers: dict[str, int] = group_parameters(self.network, self.network.group_matcher(), reverse=True)
        groups: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(max(layers.values()) - layers[name], []).append(parameter)
        return [*({"params": params, "layers_after": after} for after, params in groups.items()), head]

    def pooled(self, images: Tensor) -> Tensor:
        """Return the feature before the neck [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        return self.head(self.network(images.contiguous()))


def check_name(name: str) -> None:
    """Raise OptionError, with the nearest names, where timm has no network (or no weights) of this name."""
    import timm  # noqa: PLC0415, slow to import

    network, _, tag = name.partition(".")
    networks = timm.list_models()
    if network not in networks:
        near = difflib.get_close_matches(network, networks, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
        raise OptionError(f"timm: there is no network {network!r} in timm {timm.__version__}; {hint}")
    tagged = timm.list_models(f"{network}.*", pretrained=True)
    if tag and name not in tagged:
        available = ", ".join(tagged) if tagged else "none"
        raise OptionError(f"timm: timm {timm.__version__} has no weights {name!r}; available: {available}")


def build_network(name: str, height: int, width: int, drop_path: float = 0.0) -> tuple[Any, int]:
    """Return a network without its classifier, with this rate of stochastic depth, and the size of its feature.

    Raises OptionError where it does not take images [B, 3, height, width] to features [B, D].
    """
    refused = f"timm: name={name} does not take images of {height} x {width} pixels"
    try:
        network = create(name, (height, width), **({"drop_path_rate": drop_path} if drop_path else {}))
        with torch.no_grad():
            features = network.eval()(torch.zeros(1, 3, height, width))
    except Exception as error:  # networks refuse sizes with errors of any type
        raise OptionError(f"{refused}: {_reason(error)}; try another height and width") from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise OptionError(f"{refused}: expected one feature vector an image, got {found}")
    return network.train(), features.shape[1]


def create(name: str, size: tuple[int, int], **arguments: Any) -> Any:
    """Return timm's network without a classifier, built for ``size`` where its input size is fixed."""
    import timm  # noqa: PLC0415, slow to import

    arguments = {"num_classes": 0, "pretrained": False, **arguments}
    try:
        return timm.create_model(name, img_size=size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **arguments)  # of any size


def _names(layers: str | tuple[str, ...] | None) -> list[str]:
    return [layers] if isinstance(layers, str) else list(layers or ())


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__


@hookimpl
def register_backbones() -> Mapping[str, type[Backbone]]:
    """Offer timm."""
    return {"timm": Timm}
