"""The synthesizer dcgan: a generator learns the training images of a protocol and writes images without identity."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from reidbench import DataError, OptionError, Samples, build, hookimpl, lock, parse_json, read_text, track
from reidbench_datasets.synthetic.writer import write_file

CARD = "GENERATED.json"
STATE = ".dcgan.pt"  # of an interrupted training
HALVES = 4  # the discriminator halves the image so often
LEAST = {"count": 1, "size": 2**HALVES, "channels": 1, "steps": 1, "batch": 2}


class DCGAN:
    """Images from a DCGAN that learned the training images of a protocol, never its queries and gallery.

    Options:
        protocol: the protocol; the images of its training identities are learned.
        images: the data root that has them, or none for the folder above the one that is written.
        count: number of images that are written.
        size: height and width of the images in pixels, a multiple of 16; the training images are resized to it.
        channels: width of the last hidden layer of the generator and of the first of the discriminator.
        steps: training steps, each of one update of the discriminator and two of the generator.
        batch: images of a step.
        learning_rate: learning rate of Adam, whose beta1 is 0.5.
        seed: seed of the weights, the batches and the images.
        device: auto, cpu or cuda.

    Writes 000000.jpg … and GENERATED.json with the options, the digest of the training images, and when all is done
    the sha256 of the images. Interrupted, the same call resumes. One machine with one thread repeats an image byte for
    byte; on other machines and with other threads the training rounds otherwise.
    Raises OptionError for options out of range, DataError where images are missing or the folder holds anything else.
    Source: Radford, Metz, Chintala 2016, in the variant of layumi/DCGAN-tensorflow, for Zheng, Zheng, Yang 2017.
    """

    def __init__(
        self,
        directory: Path,
        *,
        protocol: str = "market1501",
        images: str | None = None,
        count: int = 24_000,
        size: int = 128,
        channels: int = 64,
        steps: int = 5050,  # 25 passes over the 12,936 images of Market-1501
        batch: int = 64,
        learning_rate: float = 2e-4,
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        numbers = {"count": count, "size": size, "channels": channels, "steps": steps, "batch": batch}
        for name, number in numbers.items():
            if number < LEAST[name] or (name == "size" and number % 2**HALVES):
                multiple = f", a multiple of {2**HALVES}" if name == "size" else ""
                raise OptionError(f"dcgan: option {name}: expected {LEAST[name]} or more{multiple}, got {number}")
        if learning_rate <= 0:
            raise OptionError(f"dcgan: option learning_rate: expected a number above 0, got {learning_rate:g}")
        self.directory, self.device = directory, device
        self.root = directory.absolute().parent if images is None else Path(images).expanduser()
        self.options = {"protocol": protocol, **numbers, "learning_rate": learning_rate, "seed": seed}
        self.names = [f"{number:06}.jpg" for number in range(count)]

    @property
    def trains(self) -> bool:
        """Whether iterating over it would train the generator, unlike writing what is missing of rendered images."""
        return any(not (self.directory / name).is_file() for name in self.names)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Train the generator, write what is missing, and yield (images done, images in all)."""
        if self.device == "cuda":
            from torch import cuda  # noqa: PLC0415 - a plan needs no torch for this item

            if not cuda.is_available():
                raise OptionError("dcgan: option device: there is no CUDA device on this machine; use cpu or auto")
        train = self._training_images()
        content = {
            "what": "images of a generator, without identities; made by reidbench data synthesize dcgan",
            "options": self.options,
            "trained_on": {"images": len(train.images), "digest": train.digest},
        }
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            place = self.directory.absolute()
            with lock(place.parent / f".{place.name}.lock", f"generating {place.name}", wait=math.inf):
                complete = "images" in self._check_card(content)
                yield from self._write(train, content, complete)
        except OSError as error:
            raise DataError(
                f"{self.directory}: cannot write {len(self.names):,} images there: {error.strerror or error}; free "
                "space or make the folder writable, and repeat the command to resume"
            ) from None

    def _training_images(self) -> Samples:
        text = self.options["protocol"]
        split = build("dataset", build("protocol", text).dataset, self.root)
        samples: Samples = split.labelled
        if len(samples.images) < self.options["batch"]:
            raise OptionError(
                f"dcgan: option batch: expected at most the {len(samples.images)} training images of {text}, got "
                f"{self.options['batch']}"
            )
        return samples

    def _check_card(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the folder's card, written where the folder is new; raises DataError where it holds anything else."""
        file = self.directory / CARD
        if not file.exists():
            if names := sorted(path.name for path in self.directory.iterdir() if path.name != f".{CARD}.tmp"):
                raise DataError(f"{self.directory}: is not empty ({names[0]}, …); name a new or empty folder")
            self._write_card(content)
        card = parse_json(read_text(file), str(file))
        for key in ("options", "trained_on"):
            if (before := card.get(key) if isinstance(card, dict) else None) != content[key]:
                raise DataError(
                    f"{self.directory}: was begun with other {key.replace('_', ' ')} ({json.dumps(before)}, now "
                    f"{json.dumps(content[key])}); use the same ones, delete the folder, or name another one"
                )
        return card

    def _write_card(self, content: Mapping[str, Any]) -> None:
        write_file(self.directory / CARD, (json.dumps(content, indent=2) + "\n").encode())

    def _write(self, train: Samples, content: Mapping[str, Any], complete: bool) -> Iterator[tuple[int, int]]:
        missing = [number for number, name in enumerate(self.names) if not (self.directory / name).is_file()]
        done = len(self.names) - len(missing)
        if missing:
            # torch and the images are read only where something is to be generated.
            from reidbench_datasets.dcgan_training import Training  # noqa: PLC0415

            training = Training(self.options, self.device, self.directory / STATE)
            for _ in track(training.run(train), self.options["steps"], "training the generator"):
                pass
            yield done, len(self.names)
            for number, pixels in training.images(missing):
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
                write_file(self.directory / self.names[number], buffer.getvalue())
                done += 1
                yield done, len(self.names)
        if missing or not complete:
            digest = hashlib.sha256()
            for name in self.names:
                digest.update((self.directory / name).read_bytes())
            self._write_card({**content, "images": {"sha256": digest.hexdigest()}})
            (self.directory / STATE).unlink(missing_ok=True)
        yield done, len(self.names)


@hookimpl
def register_synthesizers() -> Mapping[str, Callable[..., Any]]:
    return {"dcgan": DCGAN}
