"""A network taken home: the embeddings of a list are those that the run was scored with."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

import reidbench
from reidbench.errors import DataError, OptionError
from reidbench.images.decode import read_image
from reidbench.plugins.catalogue import load
from reidbench.runs.export import embed_list, load_network
from reidbench.runs.record import read_record
from reidbench.training.build import build_backbone
from reidbench.utils.arrays import read_arrays
from reidbench.utils.machine import local_machine
from tests.support.cases import cases
from tests.support.images import noise_images
from tests.support.jobs import job, run
from tests.support.records import make_record

SETTINGS = local_machine(device="cpu", threads=1)


@pytest.fixture(params=["batch_hard", "none"])
def plan(request):
    return run(job(loss=request.param))[0]


def listed(plan, folder, count=70, columns="path,pid,camid"):
    """A list of query images in another folder, as a user has his own."""
    query = plan.split.query
    folder.mkdir()
    lines = [columns]
    for number in range(min(count, len(query))):
        (folder / f"{number}.jpg").write_bytes(query.path(number).read_bytes())
        cells = {"path": f"{number}.jpg", "pid": query.pids[number], "camid": query.cams[number], "note": "mine"}
        lines.append(",".join(str(cells[column]) for column in columns.split(",")))
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def test_the_embeddings_are_those_of_the_run(plan, tmp_path):
    out = tmp_path / "out" / "x.npz"
    file = listed(plan, tmp_path / "mine", 200)
    count, dimensions = embed_list(plan.run_folder, file, out, SETTINGS)
    made = read_arrays(out)
    assert made["embeddings"].shape == (count, dimensions)
    first = plan.training_folder / f"embeddings-{plan.protocol.views}" / "000000.npz"  # the queries are embedded first
    kept = read_arrays(first)["embeddings"][:count]
    assert np.array_equal(made["embeddings"], kept)
    assert made["paths"].tolist() == [f"{number}.jpg" for number in range(count)]
    assert np.array_equal(made["pids"], plan.split.query.pids[:count])
    assert np.array_equal(made["cams"], plan.split.query.cams[:count])


def test_a_list_of_paths_alone_will_do(plan, tmp_path):
    file = listed(plan, tmp_path / "mine", 3, "note,path").rename(tmp_path / "list.csv")
    below_root = dataclasses.replace(SETTINGS, data=tmp_path / "mine")
    embed_list(plan.run_folder / "record.json", file, tmp_path / "x.npz", below_root)
    assert set(read_arrays(tmp_path / "x.npz")) == {"embeddings", "paths"}


@pytest.mark.parametrize(("text", "message"), cases(__file__, "a_bad_list_is_named_with_its_line"))
def test_a_bad_list_is_named_with_its_line(tmp_path, text, message):
    noise_images(tmp_path / "mine", [1])
    (tmp_path / "mine" / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        embed_list(tmp_path, tmp_path / "mine" / "list.csv", tmp_path / "x.npz", SETTINGS)
    assert not (tmp_path / "x.npz").exists()


def test_a_run_without_its_weights_says_how_to_get_them(tmp_path):
    plan, _, _ = run(job())
    shutil.rmtree(plan.training_folder)
    with pytest.raises(DataError, match=r"its weights are not in .*reidbench run"):
        load_network(plan.run_folder)


def test_a_failed_run_has_no_network(tmp_path):
    plan, record, _ = run(job(loss="none"))
    failed = dataclasses.replace(record, status="failed", error="it diverged")
    (plan.run_folder / "record.json").write_text(failed.to_json())
    with pytest.raises(DataError, match="the run is failed: it diverged"):
        load_network(plan.run_folder)
    assert read_record(plan.run_folder / "record.json").status == "failed"


def test_the_output_is_an_npz(tmp_path):
    with pytest.raises(OptionError, match=r"expected a file that ends with \.npz"):
        embed_list(tmp_path, tmp_path / "list.csv", tmp_path / "x.csv", SETTINGS)


# --- from Python ------------------------------------------------------------------------------------------------------


def test_images_of_every_kind_are_embedded_as_for_the_scores(plan):
    query = plan.split.query
    paths = [query.path(number) for number in range(5)]
    pixels = [read_image(path) for path in paths]
    network = reidbench.load(plan.run_folder, device="cpu")
    assert (network.record.id, network.network.training) == (plan.id, False)
    stored = read_arrays(plan.training_folder / f"embeddings-{plan.protocol.views}" / "000000.npz")["embeddings"][:5]
    for images in (paths, map(str, paths), pixels, np.stack(pixels), map(Image.fromarray, pixels)):
        embeddings = network.embed(images)
        assert embeddings.dtype == np.float32
        assert np.array_equal(embeddings, stored)
    pooled = network.embed([paths[:3], pixels[3], (paths[4], pixels[4])])
    pool = {"mean": np.mean, "max": np.max}[network.record.evaluation.pool]
    assert np.allclose(pooled, [pool(stored[:3], axis=0), stored[3], stored[4]], rtol=1e-6)
    assert network.embed([]).shape == (0, stored.shape[1])


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ("a.jpg", r"\[image\]"),
        (Image.new("RGB", (4, 4)), r"\[image\]"),
        ([Image.new("RGBA", (4, 4))], r"images\[0\].*RGBA"),
        ([np.zeros((4, 4, 3))], r"images\[0\].*float64"),
        (np.zeros((4, 4, 3), np.uint8), r"images\[0\].*\[4, 3\]"),
        ([[Image.new("RGB", (4, 4)), None]], r"images\[0\].*None"),
        ([Image.new("L", (4, 4)), ["missing.jpg"]], "missing.jpg"),
        ([Image.new("L", (4, 4)), []], r"images\[1\]"),
    ],
)
def test_images_that_cannot_be_used_are_named(images, name):
    record = make_record()
    record = dataclasses.replace(record, evaluation=dataclasses.replace(record.evaluation, views="original"))
    network = reidbench.TrainedNetwork(build_backbone(load().resolve("backbone", "tiny"), 0), record, SETTINGS)
    with pytest.raises(DataError, match=name):
        network.embed(images)
