"""The networks of a DCGAN and their training, which resumes at any step and depends on seed and step alone."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from reidbench import DataError, Samples, stream
from reidbench_datasets.synthetic.writer import write_file

CODES = 100  # numbers that an image is generated from
SLOPE = 0.2
SPREAD = 0.02  # of all weights at the start
SAVING_SECONDS = 60.0

Pixels = NDArray[np.uint8]


def build_generator(size: int, channels: int) -> nn.Sequential:
    """Return the network from codes [B, 100] to images [B, 3, size, size] in -1..1."""
    start, widths = size // 16, [8 * channels, 4 * channels, 2 * channels, channels]
    network = nn.Sequential(nn.Linear(CODES, widths[0] * start**2), nn.Unflatten(1, (widths[0], start, start)))
    for before, after in zip(widths, [*widths[1:], 3], strict=True):
        network.extend([nn.BatchNorm2d(before), nn.ReLU()])
        network.append(nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1))
    return network.append(nn.Tanh())


def build_discriminator(size: int, channels: int) -> nn.Sequential:
    """Return the network from images [B, 3, size, size] to one number [B, 1], above 0 for real ones."""
    network, before = nn.Sequential(), 3
    for after in (channels, 2 * channels, 4 * channels, 8 * channels):
        network.append(nn.Conv2d(before, after, 5, stride=2, padding=2))
        network.extend([nn.BatchNorm2d(after)] if before > 3 else [])
        network.append(nn.LeakyReLU(SLOPE))
        before = after
    return network.extend([nn.Flatten(), nn.Linear(before * (size // 16) ** 2, 1)])


class Training:
    """The training of a generator with the options of ``dcgan``; ``file`` holds its state where it was interrupted."""

    def __init__(self, options: Mapping[str, Any], device: str, file: Path) -> None:
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.options, self.file, self.seed = options, file, int(options["seed"])
        self.device = torch.device(auto if device == "auto" else device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._number("weights"))
            networks = [make(options["size"], options["channels"]) for make in (build_generator, build_discriminator)]
            for module in (module for network in networks for module in network.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.normal_(module.weight, std=SPREAD)
                    nn.init.zeros_(module.bias)
        self.generator, self.discriminator = (network.to(self.device) for network in networks)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=options["learning_rate"], betas=(0.5, 0.999))
            for network in (self.generator, self.discriminator)
        ]

    def run(self, samples: Samples) -> Iterator[int]:
        """Train on the images of ``samples``, from where an interrupted training stopped, and yield each step."""
        step = self._restore()
        yield from range(step)
        if step == self.options["steps"]:
            return
        pixels, size = self._read(samples), self.options["batch"]
        saved = time.monotonic()
        while step < self.options["steps"]:
            number, place = divmod(step, len(pixels) // size)
            order = stream(self.seed, "dcgan", "pass", number).permutation(len(pixels))
            real = torch.from_numpy(pixels[order[place * size : (place + 1) * size]]).to(self.device)
            self._update(real.permute(0, 3, 1, 2).float() / 127.5 - 1, self._codes("step", step))
            step += 1
            if step == self.options["steps"] or time.monotonic() - saved > SAVING_SECONDS:
                self._save(step)
                saved = time.monotonic()
            yield step

    def images(self, numbers: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        """Yield (number, pixels [size, size, 3]) of generated images; an image depends on its number alone."""
        self.generator.eval()
        size, requested = self.options["batch"], set(numbers)
        for batch in sorted({number // size for number in numbers}):
            with torch.no_grad():
                images = (self.generator(self._codes("images", batch)) + 1) * 127.5
            pixels = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
            for place, image in enumerate(pixels):
                if batch * size + place in requested:
                    yield batch * size + place, image

    def _update(self, real: Tensor, codes: Tensor) -> None:
        """Update the discriminator once and the generator twice, all with the same codes."""
        generator, discriminator = self.optimizers
        generated = self.generator(codes).detach()
        discriminator.zero_grad()
        (_cross_entropy(self.discriminator(real), 1) + _cross_entropy(self.discriminator(generated), 0)).backward()
        discriminator.step()
        self.discriminator.requires_grad_(False)
        for _ in range(2):
            generator.zero_grad()
            _cross_entropy(self.discriminator(self.generator(codes)), 1).backward()
            generator.step()
        self.discriminator.requires_grad_(True)

    def _codes(self, *names: object) -> Tensor:
        """Return the codes [batch, 100] in -1..1 that follow from the seed and ``names``."""
        codes = stream(self.seed, "dcgan", *names).uniform(-1, 1, (self.options["batch"], CODES))
        return torch.from_numpy(codes.astype(np.float32)).to(self.device)

    def _number(self, name: str) -> int:
        return int(stream(self.seed, "dcgan", name).integers(2**63))

    def _read(self, samples: Samples) -> Pixels:
        """Return all images [n, size, size, 3], resized; raises DataError, naming the file, for a damaged one."""
        side = self.options["size"]
        pixels = np.empty((len(samples.images), side, side, 3), dtype=np.uint8)
        for number in range(len(pixels)):
            file = samples.path(number)
            try:
                with Image.open(file) as image:
                    pixels[number] = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            except Exception as error:  # a damaged file makes Pillow raise almost anything
                raise DataError(f"{file}: cannot be read: {error}; unpack or render it again") from None
        return pixels

    def _modules(self) -> list[Any]:
        return [self.generator, self.discriminator, *self.optimizers]

    def _save(self, step: int) -> None:
        buffer = io.BytesIO()
        torch.save({"step": step, "states": [module.state_dict() for module in self._modules()]}, buffer)
        write_file(self.file, buffer.getvalue())

    def _restore(self) -> int:
        """Load the state of an interrupted training; returns its step, 0 where there is none."""
        if not self.file.is_file():
            return 0
        try:
            state = torch.load(self.file, map_location=self.device, weights_only=True)
            for module, values in zip(self._modules(), state["states"], strict=True):
                module.load_state_dict(values)
            return int(state["step"])
        except Exception as error:  # a damaged file makes torch raise almost anything
            raise DataError(f"{self.file}: is damaged ({error}); delete it to train the generator again") from None


def _cross_entropy(outputs: Tensor, real: int) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, torch.full_like(outputs, real))
