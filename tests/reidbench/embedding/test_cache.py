"""Each image is embedded once, whatever parts hold it; a killed process loses one file at most."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.embedding import cache
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.extract import BATCH, embed_images
from reidbench.errors import DataError, TrainingError
from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.utils.machine import local_machine
from tests.support.damage import flip
from tests.support.images import noise_images

MACHINE = local_machine(device="cpu", threads=2)
IMAGES = 4 * BATCH + 9


class Counting(Backbone):
    """A small network that counts the batches it sees, and fails at one of them."""

    def __init__(self, fails_at: int = 1_000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding_dim, self.preprocess = 5, Preprocess(height=8, width=8)
        self.layer = nn.Linear(3 * 8 * 8, 5)
        self.batches, self.fails_at = 0, fails_at

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        if self.batches == self.fails_at:
            raise KeyboardInterrupt
        return self.layer(images.flatten(1)) / images.mean(dim=(1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return noise_images(tmp_path_factory.mktemp("images"), [1] * IMAGES, 9, 5)


@pytest.fixture(scope="module")
def expected(gallery):
    return embed_images(Counting(), gallery, "original", MACHINE, "all")


def embed(folder, network, samples, views="original"):
    """The embeddings of ``samples``, whose file stats are read anew."""
    return EmbeddingCache(folder, network, views, MACHINE).embeddings(replace(samples), "test")


def test_longer_list_embeds_only_the_new_images(gallery, expected, tmp_path):
    for count, batches in ((2 * BATCH + 5, 3), (3 * BATCH, 1), (IMAGES, 2), (BATCH, 0)):
        network = Counting()
        assert torch.equal(embed(tmp_path, network, gallery.take(np.arange(count))), expected[:count])
        assert network.batches == batches


def test_parts_share_images_in_any_order_and_number(gallery, expected, tmp_path):
    network = Counting()
    whole = EmbeddingCache(tmp_path, network, "original", MACHINE)
    assert torch.equal(whole.embeddings(gallery, "gallery"), expected)
    seconds, units = whole.seconds, np.array([7, 3, 3, 260, 7])
    assert torch.equal(whole.embeddings(gallery.take(units), "query"), expected[torch.from_numpy(units)])
    assert network.batches == 5
    assert whole.seconds == seconds > 0
    few = EmbeddingCache(tmp_path, network, "original", MACHINE)
    few.embeddings(gallery.take(units), "query")
    assert 0 < few.seconds <= seconds


def test_killed_process_loses_one_file(gallery, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FILE_IMAGES", BATCH)
    network = Counting(fails_at=4)
    network.train()
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path, network, gallery)
    assert network.training, "its mode is restored"
    (tmp_path / "embeddings-original" / ".000003.npz.abc.tmp").write_bytes(b"half a file")
    again = Counting()
    assert torch.equal(embed(tmp_path, again, gallery), expected)
    assert again.batches == 2, "three of five were stored"
    assert sorted(file.name for file in (tmp_path / "embeddings-original").iterdir()) == [
        f"{number:06d}.npz" for number in range(5)
    ]


def test_slow_networks_store_by_the_clock(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FILE_SECONDS", 0.0)
    embed(tmp_path, Counting(), gallery)
    assert len(list((tmp_path / "embeddings-original").iterdir())) == 5


def test_other_views_and_edited_images_are_embedded(tmp_path):
    two, network = noise_images(tmp_path / "images", [1, 1], 9, 5), Counting()
    first = embed(tmp_path, network, two)
    assert not torch.equal(first, embed(tmp_path, network, two, "center"))
    Image.fromarray(np.full((9, 5, 3), 200, dtype=np.uint8)).save(two.path(1))
    edited = embed(tmp_path, network, two)
    assert torch.equal(edited[0], first[0])
    assert not torch.equal(edited[1], first[1])


def test_errors_name_the_file(gallery, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((9, 5, 3), dtype=np.uint8)).save(folder / "black.png")
    black = Samples.of_images(folder, ["black.png"], [1], [1])
    with pytest.raises(TrainingError, match=r"black\.png is not finite"):
        embed(tmp_path, Counting(), black)
    (folder / "black.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"black\.png: "):
        embed(tmp_path, Counting(), black)
    (folder / "black.png").unlink()
    with pytest.raises(DataError, match=r"black\.png: is not a usable image: No such file"):
        embed(tmp_path, Counting(), black)


def test_an_embedding_not_finite_names_its_cause(gallery, tmp_path):
    class Normed(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, images: Tensor) -> Tensor:
            return self.norm(super().forward(images))

    network = Normed()
    network.norm.running_var.fill_(-1.0)
    with pytest.raises(TrainingError, match=r"evaluation mode.*running_var") as caught:
        embed(tmp_path, network, gallery.take(np.arange(3)))
    assert "learning_rate" not in str(caught.value)
    with torch.no_grad():
        network.layer.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"diverged.*learning_rate"):
        embed(tmp_path, network, gallery.take(np.arange(3)))


def test_images_of_a_damaged_file_are_embedded_again(gallery, tmp_path):
    few = gallery.take(np.arange(20))
    expected, folder = embed(tmp_path, Counting(), few), tmp_path / "embeddings-original"
    whole = (folder / "000000.npz").read_bytes()
    noticed = 0
    for place in [None, *range(0, len(whole), 37)]:
        (folder / "000000.npz").write_bytes(whole[:100] if place is None else whole)
        if place is not None:
            flip(folder / "000000.npz", place)
        messages: list[str] = []
        machine = replace(MACHINE, log=messages.append)
        assert torch.equal(EmbeddingCache(tmp_path, Counting(), "original", machine).embeddings(few, "test"), expected)
        assert all("000000.npz" in message for message in messages)
        noticed += len(messages)
        for file in folder.iterdir():
            file.unlink()
    assert noticed > 0.8 * len(whole) / 37  # a few bytes of a zip archive say nothing


def test_other_weights_and_folders_are_embedded(gallery, tmp_path):
    embed(tmp_path, Counting(), gallery)
    other = Counting()
    with torch.no_grad():
        other.layer.weight.add_(1)
    assert torch.equal(embed(tmp_path, other, gallery), embed_images(other, gallery, "original", MACHINE, "all"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    name = str(gallery.images[0])
    Image.new("RGB", (5, 9), (9, 200, 9)).save(elsewhere / name)
    stat = (gallery.root / name).stat()
    with (elsewhere / name).open("ab") as file:
        file.write(b"\0" * (stat.st_size - file.tell()))
    os.utime(elsewhere / name, ns=(stat.st_mtime_ns, stat.st_mtime_ns))  # the same name, size and time
    same_name = Samples.of_images(elsewhere, [name], [1], [1])
    expected = embed_images(Counting(), same_name, "original", MACHINE, "all")
    assert torch.equal(embed(tmp_path, Counting(), same_name), expected)


def test_reader_writes_nothing(gallery, expected, tmp_path):
    reader = EmbeddingCache(tmp_path, Counting(), "original", MACHINE, write=False)
    assert torch.equal(reader.embeddings(gallery, "gallery"), expected)
    assert not list(tmp_path.rglob("*"))
