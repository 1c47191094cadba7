"""``reidbench data verify`` looks at the files, not only at their names; ``add`` unpacks what it then verifies."""

import shutil
from pathlib import Path

import pytest
import typer

import reidbench
from reidbench import DataError, OptionError
from reidbench.cli import data
from reidbench.plugins.catalogue import load
from reidbench.utils.syntax import docstring_of


@pytest.fixture(scope="module")
def mars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mars")
    list(reidbench.build("synthesizer", "mars(identities=4, frames=2)", folder))
    return folder


def verify(capsys, folder, **options):
    """Return the exit code and what is printed."""
    try:
        data.verify("mars", data_root=folder, threads=1, **options)
        code = 0
    except typer.Exit as ended:
        code = ended.exit_code
    return code, capsys.readouterr().out


def test_archives_are_added_whole_or_not_at_all(mars, capsys, tmp_path):
    for part, folders in (("images", ["bbox_train", "bbox_test"]), ("lists", ["info"])):
        for folder in folders:
            shutil.copytree(mars / folder, tmp_path / part / "MARS" / folder)
    archives = [Path(shutil.make_archive(str(tmp_path / part), "zip", tmp_path / part)) for part in ("images", "lists")]
    root = tmp_path / "data"
    with pytest.raises(DataError, match="name lists"):
        data.add("mars", archives[:1], data_root=root)
    with pytest.raises(typer.Exit):  # these are not the published counts
        data.add("mars", archives, data_root=root)
    assert [path.name for path in root.iterdir()] == [".mars.lock"]
    assert capsys.readouterr().err.count(f"nothing was added to {root}") == 2
    data.add("mars_val(holdout=1)", archives, data_root=root)
    assert f"added {root / 'mars'}\nOwner: https://" in capsys.readouterr().out
    assert (root / "mars" / "MARS" / "info").is_dir()
    with pytest.raises(OptionError, match=f"mars is in {root / 'mars'}"):
        data.add("mars_val(holdout=1)", archives, data_root=root)
    (root / "mars" / "MARS").rename(root / "MARS")  # which is looked for too, and perhaps first
    with pytest.raises(OptionError, match=f"mars is in {root / 'MARS'}"):
        data.add("mars_val(holdout=1)", archives, data_root=root)
    shutil.rmtree(root / "MARS")
    with pytest.raises(DataError, match="mars: exists"):
        data.add("mars_val(holdout=1)", archives, data_root=root)
    with pytest.raises(OptionError, match=r"synthetic.*Owner: URL"):
        data.add("synthetic", archives, data_root=root)


def test_no_dataset_names_two_owners():
    texts = {item.name: docstring_of(item.factory) for item in load().list_items("dataset")}
    assert sum("Owner:" in text for text in texts.values()) >= 10
    assert not [name for name, text in texts.items() if max(text.count("Owner:"), text.count("Terms:")) > 1]


def test_missing_empty_and_damaged_files_are_counted(mars, capsys):
    images = sorted(mars.rglob("*.jpg"))
    code, text = verify(capsys, mars)
    assert (code, f"all {len(images)} images exist" in text, "this is a STAND-IN" in text) == (0, True, True)
    images[0].write_bytes(images[0].read_bytes()[:-30])  # in every sample: the files are spread from the first
    for decode in (False, True):
        code, text = verify(capsys, mars, decode=decode)
        assert (code, f"1 of {len(images)} images" in text, images[0].name in text) == (1, True, True)
    images[1].unlink()
    images[2].write_bytes(b"")
    code, text = verify(capsys, mars)
    assert (code, f"2 of {len(images)} images cannot be used" in text) == (1, True)
    for image in mars.rglob("*.jpg"):
        image.unlink()
    code, text = verify(capsys, mars)
    missing = f"{len(images)} of {len(images)} images cannot be used"
    assert (code, missing in text, "this is" in text) == (1, True, False)
