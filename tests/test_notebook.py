"""The notebook of the docs runs from top to bottom, and shows what it says."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import CHECKOUT

NOTEBOOK = CHECKOUT / "docs" / "notebook.ipynb"


def test_the_notebook_runs(tmp_path, data_folder):
    for name in ("nbclient", "ipykernel"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra test)")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "it is stored without outputs"
    shutil.copy(NOTEBOOK, tmp_path)
    (tmp_path / "data").symlink_to(data_folder)  # the rendered images of the session
    code = "from nbclient.cli import main; main(['notebook.ipynb', '--inplace'])"
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / NOTEBOOK.name).read_text(encoding="utf-8"))["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    html = "\n".join("".join(data.get("text/html", "")) for data in shown)
    for text in ("<td>Neighbours</td>", "map_market_low", "<h3>Scores</h3>", "<h3>A: batch_hard, tiny", '<img alt="'):
        assert text in html
    assert sum("image/png" in data for data in shown) == 2
    assert ["(54, 128)"] in [data.get("text/plain") for data in shown]
