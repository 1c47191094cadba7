"""dcgan: repeated and resumed images, its card, what it reads, and its networks."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reidbench_datasets import dcgan_training
from reidbench_datasets.dcgan import CARD, DCGAN, STATE
from reidbench_datasets.dcgan_training import Training, build_discriminator, build_generator

from reidbench import DataError, OptionError, build
from reidbench.plugins.catalogue import load
from tests.support.trees import contents

PROTOCOL = "synthetic_val(identities=40, holdout=0.5)"
SMALL = {"protocol": PROTOCOL, "size": 16, "channels": 2, "steps": 3, "batch": 8, "count": 11, "device": "cpu"}


def generate(folder: Path, data: Path, **options: Any) -> list[tuple[int, int]]:
    return list(DCGAN(folder, images=str(data), **{**SMALL, **options}))


def test_images_are_repeated_and_resumed_byte_for_byte(
    tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = generate(tmp_path / "whole", data_folder)
    assert steps[0] == (0, 11)
    assert steps[-1] == (11, 11)
    whole = contents(tmp_path / "whole")
    assert sorted(whole) == [f"{number:06}.jpg" for number in range(11)] + [CARD]
    assert Image.open(tmp_path / "whole" / "000010.jpg").size == (16, 16)

    # Only the images of the training identities are read, not those of the held-out ones.
    train = build("dataset", build("protocol", PROTOCOL).dataset, data_folder).train
    card = json.loads(whole[CARD])
    assert card["trained_on"] == {"images": len(train.images), "digest": train.digest}
    assert card["options"]["steps"] == 3

    # Stopped in the training, then while writing, then with everything written.
    monkeypatch.setattr(dcgan_training, "SAVING_SECONDS", 0.0)
    stopped = DCGAN(tmp_path / "stopped", images=str(data_folder), **SMALL)
    stopped._check_card({**{key: card[key] for key in ("what", "trained_on")}, "options": stopped.options})
    assert list(islice(Training(stopped.options, "cpu", stopped.directory / STATE).run(train), 2)) == [1, 2]
    assert stopped.trains
    list(islice(stopped, 4))
    assert len(list(stopped.directory.glob("*.jpg"))) == 3
    assert generate(stopped.directory, data_folder)[0] == (3, 11)
    assert contents(stopped.directory) == whole
    monkeypatch.setattr(Training, "run", None)  # is not called again
    assert list(stopped) == [(11, 11)]
    assert not stopped.trains


def test_a_folder_of_anything_else_is_refused(tmp_path: Path, data_folder: Path) -> None:
    begun = DCGAN(tmp_path / "begun", images=str(data_folder), **SMALL)
    next(iter(begun))
    with pytest.raises(DataError, match=r'begun: was begun with other options .*"seed": 0.*"seed": 1'):
        generate(begun.directory, data_folder, seed=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.jpg").touch()
    with pytest.raises(DataError, match=r"full: is not empty \(mine\.jpg"):
        generate(tmp_path / "full", data_folder)
    (begun.directory / STATE).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"\.dcgan\.pt: is damaged"):
        generate(begun.directory, data_folder)
    with pytest.raises(OptionError, match=r"batch: .* images of synthetic_val.* 4000"):
        generate(tmp_path / "large", data_folder, batch=4000)


@pytest.mark.parametrize(
    ("options", "named"), [("size=24", "size: .*16.* 24"), ("steps=0", "steps"), ("learning_rate=0.0", "learning_rate")]
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: str, named: str) -> None:
    with pytest.raises(OptionError, match=f"dcgan: option {named}"):
        load().resolve("synthesizer", f"dcgan({options})").build(tmp_path)


def test_the_networks_have_the_published_layers() -> None:
    with torch.device("meta"):
        generator, discriminator = build_generator(128, 64), build_discriminator(128, 64)
        sizes, x = [], torch.rand(2, 100)
        for layer in generator:
            x = layer(x)
            sizes += [tuple(x.shape[1:])] if isinstance(layer, torch.nn.Unflatten | torch.nn.ConvTranspose2d) else []
        assert sizes == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64), (3, 128, 128)]
        assert discriminator(x).shape == (2, 1)
    widths = [layer.out_channels for layer in discriminator if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [64, 128, 256, 512]
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in discriminator) == 3


@pytest.mark.slow
def test_generated_images_are_about_as_bright_and_varied_as_the_real_ones(tmp_path: Path, data_folder: Path) -> None:
    generate(tmp_path / "made", data_folder, size=32, channels=16, steps=300, batch=64, count=64)
    train = build("dataset", build("protocol", PROTOCOL).dataset, data_folder).train
    made = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "made").glob("*.jpg"))])
    real = np.stack([np.asarray(Image.open(train.path(i)).resize((32, 32))) for i in range(64)])
    assert abs(made.mean() - real.mean()) < 20
    assert 0.5 < made.std() / real.std() < 1.5
    assert made.std(axis=0).mean() > 0.3 * real.std(axis=0).mean()  # not one image for all codes
