"""A batch of a training without a loader: cropped in one thread, nothing prefetched."""

from reidbench.images.augment import sample_crops
from reidbench.images.pixel_store import network_input


def training_batch(store, samples, units, preprocess, **how):
    """Return one image of each of ``units`` [B] as the network's input [B, 3, H, W] float32 on the store's device.

    ``how`` are the other arguments of ``sample_crops``.
    """
    crops = sample_crops(store.shape, samples, units, preprocess, **how)
    return network_input(store.fetch(crops, preprocess), preprocess, store.device)
