"""Images to embeddings: streamed once through the network, averaged over the crops of a view."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.errors import check_tensor
from reidbench.images.augment import Crops, View, view_crops
from reidbench.images.crop import normalise
from reidbench.images.decode import decode_images
from reidbench.images.pixel_store import PixelStore, network_input
from reidbench.plugins.interfaces import Backbone, Preprocess, owner_of
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.device import out_of_memory_advice, to_device
from reidbench.utils.machine import Machine
from reidbench.utils.progress import progress
from reidbench.utils.threads import map_in_threads

BATCH = 64
Decode = Callable[[Samples, Sequence[int], PixelArray, PixelArray | None], None]  # as ``decode_images``


def embed_images(
    backbone: Backbone, samples: Samples, views: str, machine: Machine, description: str, decode: Decode = decode_images
) -> Tensor:
    """Return the embedding of every image [m, D] float32 on the CPU; the arguments are those of ``embed_batches``."""
    with closing(embed_batches(backbone, samples, views, machine, description, decode=decode)) as batches:
        embeddings = list(batches)
    # Concatenated outside inference mode: tensors made in it can take part in no gradient.
    return torch.cat([*embeddings, torch.empty(0, backbone.embedding_dim)])


def embed_batches(
    backbone: Backbone,
    samples: Samples,
    views: str,
    machine: Machine,
    description: str = "",
    digests: PixelArray | None = None,
    *,
    decode: Decode = decode_images,
) -> Generator[Tensor]:
    """Yield the embeddings [b, D] float32 on the CPU of all images, batch by batch, the mean over the crops of views.

    Progress is shown where there is a ``description``. ``digests`` [m, 32], if given, are the sha256 that the files
    must have. ``decode`` is what reads them.
    Images are decoded in the machine's threads, at most two more batches than threads at a time. The network, which
    must be on its device, runs in evaluation mode; each module's mode is restored at the end. All batches that it sees
    have the same size, so that no value depends on the number of images. Raises DataError for an image that cannot be
    used, OptionError for unknown views, OutOfMemory with what to lower.
    """
    size, crops = view_crops(views, backbone.preprocess)
    total, device = len(samples.images), machine.device

    def decode_batch(number: int) -> PixelArray:
        first = number * BATCH
        pixels = np.zeros((BATCH, *size, 3), dtype=np.uint8)
        images = range(first, min(first + BATCH, total))
        decode(samples, images, pixels[: len(images)], digests)
        return pixels

    advice = out_of_memory_advice(device, "lower the backbone's height and width, or use a smaller backbone")
    live_line = progress(description, total, shown=bool(description), overall=machine.overall)
    # Closed even where the caller stops early: no thread outlives an interruption.
    decoding = closing(map_in_threads(decode_batch, -(-total // BATCH), machine.threads))
    with advice, evaluation_mode(backbone), live_line as update, decoding as batches:
        delay, done = _read_delay(device), 0
        pending: deque[Tensor] = deque()
        for number, pixels in enumerate(batches, start=1):
            with torch.inference_mode():
                inputs = _view_inputs(to_device(pixels, device), crops, backbone.preprocess)
                pending.append(torch.stack([_embed(backbone, images) for images in inputs]).mean(dim=0))
            while len(pending) > (delay if number * BATCH < total else 0):
                yield pending.popleft().cpu()[: total - done]
                done = min(done + BATCH, total)
                update(done, "")


def _embed(backbone: Backbone, images: Tensor) -> Tensor:
    """Return the embeddings [B, D] float32 of a batch; raises PluginError for another shape or dtype."""
    return check_embeddings(backbone, backbone(images), len(images)).float()


def check_embeddings(backbone: Backbone, embeddings: object, count: int) -> Tensor:
    """Return the embeddings of ``count`` images as a network returned them; raises PluginError unless [count, D]."""
    shape = (count, backbone.embedding_dim)
    return check_tensor(owner_of(backbone), "the embeddings", embeddings, shape, finite=False)


def _read_delay(device: torch.device) -> int:
    """Return by how many batches reading is delayed: reading waits for a GPU, so the next batch is queued first."""
    return int(device.type == "cuda")


def embed_stored(backbone: Backbone, store: PixelStore, images: IntArray) -> Tensor:
    """Return the embeddings [len(images), D] float32, on the store's device, of images that are already decoded.

    ``images`` are indices in ``store``, which holds the network's input or 9/8 of it: the network sees the whole image
    or its centre crop, as with the views "original" and "center" of ``embed_images``. It must be on the same device
    and runs in evaluation mode; each module's mode is restored at the end. All batches have the same size here too.
    """
    preprocess = backbone.preprocess
    top, left = (store.shape[1] - preprocess.height) // 2, (store.shape[2] - preprocess.width) // 2
    total, device = len(images), store.device
    batches = np.concatenate([images, np.zeros(-total % BATCH, dtype=np.int64)]).reshape(-1, BATCH)

    def fetch(number: int) -> Tensor:
        arrays = (np.full(BATCH, top), np.full(BATCH, left), np.zeros(BATCH, dtype=np.bool_))
        return store.fetch(Crops(batches[number], *arrays), preprocess)

    embeddings = []
    # Cropped in another thread while the network computes, where that is the CPU's work.
    fetching = map_in_threads(fetch, len(batches), 1) if store.prefetch else (fetch(k) for k in range(len(batches)))
    with evaluation_mode(backbone), torch.inference_mode(), closing(fetching):
        for fetched in fetching:
            embeddings.append(_embed(backbone, network_input(fetched, preprocess, device)))
    # Concatenated outside inference mode, as above.
    return torch.cat([*embeddings, torch.empty(0, backbone.embedding_dim, device=device)])[:total]


def _view_inputs(pixels: Tensor, crops: list[View], preprocess: Preprocess) -> Iterator[Tensor]:
    """Yield each crop of uint8 [B, h, w, 3] as the network's input [B, 3, H, W]."""
    for top, left, flipped in crops:
        crop = pixels[:, top : top + preprocess.height, left : left + preprocess.width]
        yield normalise(crop.flip(2) if flipped else crop, preprocess)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode in the block, and each of its modules in its own mode again at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
