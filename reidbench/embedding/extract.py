"""Images to embeddings: streamed once through the network, averaged over views, pooled per unit."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.images.augment import Crop, Windows, view_crops
from reidbench.images.crop import normalise
from reidbench.images.decode import decode_images
from reidbench.images.pixel_store import PixelStore
from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.utils.arrays import IntArray, PixelArray
from reidbench.utils.device_copy import sent
from reidbench.utils.progress import progress
from reidbench.utils.threads import in_threads

BATCH = 64


def embed_images(
    backbone: Backbone, samples: Samples, views: str, device: torch.device, threads: int, what: str
) -> Tensor:
    """Return the embedding of every image [m, D] float32 on the CPU, the mean over the crops of ``views``.

    The rest is as in ``embed_batches``.
    """
    total, done = len(samples.images), 0
    embeddings: list[Tensor] = []
    with closing(embed_batches(backbone, samples, views, device, threads)) as batches, progress(what, total) as update:
        for batch in batches:
            embeddings.append(batch)
            done += len(batch)
            update(done, "")
    # Joined out of inference mode: tensors made in it can take part in no gradient.
    return torch.cat([*embeddings, torch.empty(0, backbone.embedding_dim)])


def embed_batches(
    backbone: Backbone, samples: Samples, views: str, device: torch.device, threads: int
) -> Generator[Tensor]:
    """Yield the embeddings [b, D] float32 on the CPU of all images, batch by batch, the mean over the crops of views.

    Images are decoded in ``threads`` threads, at most two more batches than threads at a time, while the network, which
    must lie on ``device``, runs in evaluation mode; every module's own mode is given back at the end. Every batch that
    the network sees has one size, so that no value depends on how many images there are. Raises DataError for an image
    that cannot be used, OptionError for unknown views.
    """
    size, crops = view_crops(views, backbone.preprocess)
    total = len(samples.images)

    def decode(number: int) -> PixelArray:
        first = number * BATCH
        pixels = np.zeros((BATCH, *size, 3), dtype=np.uint8)
        images = range(first, min(first + BATCH, total))
        decode_images(samples, images, pixels[: len(images)])
        return pixels

    # Closed even where the caller stops early: no thread outlives an interruption.
    with _evaluating(backbone), closing(in_threads(decode, -(-total // BATCH), threads)) as batches:
        late, left = _late(device), total
        made: deque[Tensor] = deque()
        for pixels in batches:
            with torch.inference_mode():
                views_of_batch = _cut(sent(pixels, device), crops, backbone.preprocess)
                made.append(torch.stack([backbone(view).float() for view in views_of_batch]).mean(dim=0))
            if len(made) > late:
                yield made.popleft().cpu()[:left]
                left -= BATCH
        for mean in made:
            yield mean.cpu()[:left]
            left -= BATCH


def _late(device: torch.device) -> int:
    """Return how many batches late results are read: to read from a GPU is to wait, so it has the next one by then."""
    return int(device.type == "cuda")


def embed_stored(backbone: Backbone, store: PixelStore, images: IntArray) -> Tensor:
    """Return the embeddings [len(images), D] float32, on the store's device, of images that are decoded already.

    ``images`` are places in ``store``, which holds the network's input or 9/8 of it: what the network sees is the whole
    image or its centre, as with the views "original" and "center" of ``embed_images``. The network, on the same
    device, runs in evaluation mode; every module's own mode is given back. Every batch has one size here too.
    """
    preprocess = backbone.preprocess
    top, left = (store.shape[1] - preprocess.height) // 2, (store.shape[2] - preprocess.width) // 2
    total, device = len(images), store.device
    batches = np.concatenate([images, np.zeros(-total % BATCH, dtype=np.int64)]).reshape(-1, BATCH)

    def fetch(number: int) -> Tensor:
        places = (np.full(BATCH, top), np.full(BATCH, left), np.zeros(BATCH, dtype=np.bool_))
        return store.fetch(Windows(batches[number], *places), preprocess)

    embeddings = []
    with _evaluating(backbone), torch.inference_mode(), ExitStack() as stack:
        # Cut in another thread while the network works, where it is the processor that cuts.
        ahead = in_threads(fetch, len(batches), 1) if store.ahead else (fetch(k) for k in range(len(batches)))
        stack.enter_context(closing(ahead))
        for fetched in ahead:
            embeddings.append(backbone(store.finish(fetched, preprocess)).float())
    # Joined out of inference mode, as above.
    return torch.cat([*embeddings, torch.empty(0, backbone.embedding_dim, device=device)])[:total]


def _cut(pixels: Tensor, crops: list[Crop], preprocess: Preprocess) -> Iterator[Tensor]:
    """Yield each crop of uint8 [B, h, w, 3] as the network's input [B, 3, H, W]."""
    for top, left, mirrored in crops:
        crop = pixels[:, top : top + preprocess.height, left : left + preprocess.width]
        yield normalise(crop.flip(2) if mirrored else crop, preprocess)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
