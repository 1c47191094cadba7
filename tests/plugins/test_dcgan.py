"""dcgan: repeated and resumed images, its card, what it reads, and its networks."""

import json
from itertools import islice

import pytest
import torch
from reidbench_datasets import dcgan_training
from reidbench_datasets.dcgan import CARD, DCGAN, STATE
from reidbench_datasets.dcgan_training import Training, build_discriminator, build_generator

from reidbench import DataError, OptionError, build
from tests.support.images import noise_images
from tests.support.trees import contents

SMALL = {"size": 16, "channels": 2, "steps": 3, "batch": 8, "count": 11, "device": "cpu"}


@pytest.fixture
def options(tmp_path):
    """Options for a protocol with half of ten identities of noise held out."""
    images = noise_images(tmp_path / "noise", [1] * 40).images.tolist()
    rows = [f"{image},{1 + number // 4},train" for number, image in enumerate(images)]
    (tmp_path / "noise" / "list.csv").write_text("\n".join(["path,pid,split", *rows]) + "\n")
    protocol = f'csv_list_val(file="{tmp_path / "noise" / "list.csv"}", holdout=0.5)'
    return {**SMALL, "protocol": protocol, "images": str(tmp_path)}


def test_images_are_repeated_and_resumed_byte_for_byte(options, tmp_path, monkeypatch):
    steps = list(DCGAN(tmp_path / "whole", **options))
    assert steps[0] == (0, 11)
    assert steps[-1] == (11, 11)
    whole = contents(tmp_path / "whole")
    assert sorted(whole) == [f"{number:06}.jpg" for number in range(11)] + [CARD]

    # Only the images of the training identities are read, not those of the held-out ones.
    train = build("dataset", build("protocol", options["protocol"]).dataset, tmp_path).train
    card = json.loads(whole[CARD])
    assert card["trained_on"] == {"images": len(train.images), "digest": train.digest}
    assert card["options"]["steps"] == 3

    # Stopped in the training, then while writing, then with everything written.
    monkeypatch.setattr(dcgan_training, "SAVING_SECONDS", 0.0)
    stopped = DCGAN(tmp_path / "stopped", **options)
    stopped.directory.mkdir()
    stopped._check_card({**{key: card[key] for key in ("what", "trained_on")}, "options": stopped.options})
    assert list(islice(Training(stopped.options, "cpu", stopped.directory / STATE).run(train), 2)) == [1, 2]
    assert stopped.trains
    list(islice(stopped, 4))
    assert len(list(stopped.directory.glob("*.jpg"))) == 3
    assert next(iter(stopped)) == (3, 11)
    assert list(stopped)[-1] == (11, 11)
    assert contents(stopped.directory) == whole
    monkeypatch.setattr(Training, "run", None)  # is not called again
    assert list(stopped) == [(11, 11)]
    assert not stopped.trains


def test_a_folder_of_anything_else_is_refused(options, tmp_path):
    begun = DCGAN(tmp_path / "begun", **options)
    next(iter(begun))
    with pytest.raises(DataError, match=r'begun: was begun with other options .*"seed": 0.*"seed": 1'):
        list(DCGAN(begun.directory, **{**options, "seed": 1}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.jpg").touch()
    with pytest.raises(DataError, match=r"full: is not empty \(mine\.jpg"):
        list(DCGAN(tmp_path / "full", **options))
    (begun.directory / STATE).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"\.dcgan\.pt: is damaged"):
        list(begun)
    with pytest.raises(OptionError, match=r"size: .*16.* 24"):
        DCGAN(tmp_path, size=24)
    with pytest.raises(OptionError, match=r"batch: .* 20 training images of csv_list_val.* 21"):
        list(DCGAN(tmp_path / "large", **{**options, "batch": 21}))


def test_the_networks_have_the_published_layers():
    with torch.device("meta"):
        generator, discriminator = build_generator(128, 64), build_discriminator(128, 64)
        sizes, x = [], torch.rand(2, 100)
        for layer in generator:
            x = layer(x)
            sizes.append(tuple(x.shape[1:]))
        assert discriminator(x).shape == (2, 1)
    assert sizes[1::3] == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64), (3, 128, 128)]
    widths = [layer.out_channels for layer in discriminator if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [64, 128, 256, 512]
