"""``reidbench data verify`` looks at the files, not only at their names."""

import pytest
import typer

import reidbench
from reidbench.cli import data


@pytest.fixture(scope="module")
def mars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mars")
    for _ in reidbench.build("synthesizer", "mars(identities=4, frames=2)", folder):
        pass
    return folder


def verify(capsys, folder, **options):
    """Return the exit code and what is printed."""
    try:
        data.verify("mars", data_root=folder, threads=1, **options)
        code = 0
    except typer.Exit as ended:
        code = ended.exit_code
    return code, capsys.readouterr().out


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
