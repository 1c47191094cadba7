"""Every image is embedded once, whatever parts it stands in; a kill costs one file; what is kept is what was made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench.data.samples import Samples
from reidbench.embedding import cache as kept_embeddings
from reidbench.embedding.cache import KeptEmbeddings
from reidbench.embedding.extract import BATCH, embed_images
from reidbench.errors import DataError, TrainingError
from reidbench.plugins.interfaces import Backbone, Preprocess

CPU = torch.device("cpu")
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
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("images")
    names = [f"{number:03d}.png" for number in range(IMAGES)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(1, 256, (9, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return Samples.of_images(folder, names, [1] * IMAGES, [1] * IMAGES)


def kept(folder: Path, network: Backbone, views: str = "original") -> KeptEmbeddings:
    return KeptEmbeddings(folder, network, views, CPU, 2)


def test_a_longer_list_embeds_only_what_joined_it(gallery: Samples, tmp_path: Path) -> None:
    whole = embed_images(Counting(), gallery, "original", CPU, 2, "all")
    for count, batches in ((2 * BATCH + 5, 3), (3 * BATCH, 1), (IMAGES, 2), (BATCH, 0)):
        network = Counting()
        found = kept(tmp_path, network).of(gallery.take(np.arange(count)), "gallery")
        assert torch.equal(found, whole[:count])
        assert network.batches == batches


def test_parts_share_images_in_any_order_and_number(gallery: Samples, tmp_path: Path) -> None:
    network = Counting()
    store = kept(tmp_path, network)
    made = store.of(gallery, "gallery")
    seconds = store.seconds
    units = np.array([7, 3, 3, 260, 7])
    assert torch.equal(store.of(gallery.take(units), "query"), made[torch.from_numpy(units)])
    assert network.batches == 5
    assert store.seconds == seconds > 0
    few = kept(tmp_path, network)
    few.of(gallery.take(units), "query")
    assert few.seconds == pytest.approx(seconds * 3 / IMAGES)


def test_a_kill_costs_one_file(gallery: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_embeddings, "IMAGES_A_FILE", BATCH)
    network = Counting(fails_at=4)
    network.train()
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, network).of(gallery, "gallery")
    assert network.training, "its mode is given back"
    (tmp_path / "embeddings-original" / ".000003.npz.abc.tmp").write_bytes(b"half a file")
    again = Counting()
    found = kept(tmp_path, again).of(gallery, "gallery")
    assert again.batches == 2, "three of five were kept"
    assert torch.equal(found, embed_images(Counting(), gallery, "original", CPU, 2, "all"))
    assert sorted(file.name for file in (tmp_path / "embeddings-original").iterdir()) == [
        f"{number:06d}.npz" for number in range(5)
    ]


def test_slow_networks_keep_what_they_have_by_the_clock(
    gallery: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_embeddings, "SECONDS_A_FILE", 0.0)
    kept(tmp_path, Counting()).of(gallery, "gallery")
    assert len(list((tmp_path / "embeddings-original").iterdir())) == 5


def test_views_and_edited_images_are_made_anew(gallery: Samples, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in gallery.images[:2].tolist():
        (folder / name).write_bytes((gallery.root / name).read_bytes())
    two = Samples.of_images(folder, gallery.images[:2].tolist(), [1, 1], [1, 1])
    network = Counting()
    first = kept(tmp_path, network).of(two, "query")
    other = kept(tmp_path, network, "center").of(two, "query")
    assert not torch.equal(first, other)
    Image.fromarray(np.full((9, 5, 3), 200, dtype=np.uint8)).save(folder / "001.png")
    edited = kept(tmp_path, network).of(two, "query")
    assert torch.equal(edited[0], first[0])
    assert not torch.equal(edited[1], first[1])


def test_what_is_wrong_is_named(gallery: Samples, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((9, 5, 3), dtype=np.uint8)).save(folder / "black.png")
    black = Samples.of_images(folder, ["black.png"], [1], [1])
    with pytest.raises(TrainingError, match=r"not finite for black\.png; its training has diverged"):
        kept(tmp_path, Counting()).of(black, "query")
    kept(tmp_path, Counting()).of(gallery.take(np.arange(3)), "query")
    file = tmp_path / "embeddings-original" / "000000.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000000\.npz: is damaged .*delete it and run the same command again"):
        kept(tmp_path, Counting())
    (folder / "black.png").unlink()
    file.unlink()
    with pytest.raises(DataError, match=r"black\.png: cannot be read: No such file"):
        kept(tmp_path, Counting()).of(black, "query")


def test_other_weights_and_other_roots_are_made_anew(gallery: Samples, tmp_path: Path) -> None:
    kept(tmp_path, Counting()).of(gallery, "gallery")
    other = Counting()
    with torch.no_grad():
        other.layer.weight.add_(1)
    assert torch.equal(
        kept(tmp_path, other).of(gallery, "gallery"), embed_images(other, gallery, "original", CPU, 2, "all")
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    name = str(gallery.images[0])
    Image.new("RGB", (5, 9), (9, 200, 9)).save(elsewhere / name)
    size = (gallery.root / name).stat().st_size
    with (elsewhere / name).open("ab") as file:
        file.write(b"\0" * (size - file.tell()))  # the same name and size
    stamp = (gallery.root / name).stat()
    os.utime(elsewhere / name, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    same_name = Samples.of_images(elsewhere, [name], [1], [1])
    expected = embed_images(Counting(), same_name, "original", CPU, 2, "all")
    assert torch.equal(kept(tmp_path, Counting()).of(same_name, "query"), expected)


def test_who_only_reads_writes_nothing(gallery: Samples, tmp_path: Path) -> None:
    reader = KeptEmbeddings(tmp_path, Counting(), "original", CPU, 2, keep=False)
    found = reader.of(gallery, "gallery")
    assert torch.equal(found, embed_images(Counting(), gallery, "original", CPU, 2, "all"))
    assert not list(tmp_path.rglob("*"))
