"""Names and texts that mean harm pass through every verb as plain text, or are refused by name, without a traceback."""

import csv
import io
import json
import re
import shutil

import pytest

from reidbench.errors import quoted
from tests.support.cases import cases
from tests.support.paths import CHECKOUT

TEXTS = cases(__file__, "texts") | {"10,000 characters": "y" * 10_000}
PLACES = cases(__file__, "places") | {"embed": ["embed", "--images", str(CHECKOUT / "README.md"), "--out", "x.npz"]}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_name_that_is_none_is_refused_in_plain_text(place, text, reidbench_main, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = [part.replace("{}", text) for part in place]
    code, said = reidbench_main(*given, *([] if given != place else [text]))
    assert code == 2, said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert len(said) < 25_000
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
def test_a_run_of_hostile_names_is_plain_text_everywhere(reidbench_call, tmp_path):
    """A list whose folder, file and images have such names is run, reported, published and checked."""
    folder = tmp_path / "[bold][" / "..x"
    drawn = reidbench_call("data", "synthesize", "csv_list(identities=6, cameras=2)", str(tmp_path / "drawn"))
    assert drawn.returncode == 0, drawn.stderr
    folder.mkdir(parents=True)
    shutil.copytree(tmp_path / "drawn", folder, dirs_exist_ok=True)
    listed = (folder / "list.csv").read_text(encoding="utf-8")
    old = sorted(re.findall(r"[^,\n]+\.jpg", listed))[0]
    new = f"{old.rpartition('/')[0]}/=cmd[bold]<script>\u202e{'y' * 100}.jpg"
    (folder / old).rename(folder / new)
    name = "foo]<script>=cmd\u202e.csv"
    (folder / name).write_text(listed.replace(old, new), encoding="utf-8")
    protocol = f"csv_list(file={quoted(str(folder / name))})"
    done = reidbench_call("run", "--protocol", protocol, "--loss", "none", "--backbone", "tiny")
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results"
    (record,) = results.glob("runs/*/record.json")
    assert re.fullmatch(r"[A-Za-z0-9_.+-]+", record.parent.name)
    assert quoted(str(folder / name)) in json.loads(record.read_text(encoding="utf-8"))["job"]["protocol"]
    page, boards = tmp_path / "page.html", tmp_path / "boards"
    shown = [done.stdout + done.stderr]
    for asked in (["report"], ["report", "--csv", "-"], ["report", "--html", str(page)]):
        ended = reidbench_call(*asked, str(results), "--section", "table", "--section", "provenance")
        assert ended.returncode == 0, ended.stderr
        shown.append(ended.stdout + ended.stderr)
    added = reidbench_call("leaderboard", "add", str(results), "--folder", str(boards), "--allow-dirty")
    assert added.returncode == 0, added.stderr
    checked = reidbench_call("leaderboard", "check", "--folder", str(boards))
    assert (checked.returncode, checked.stdout) == (0, "nothing is wrong\n")
    (file,) = boards.glob("*.csv")
    shown += [page.read_text(encoding="utf-8"), file.read_text(encoding="utf-8")]
    for text in shown:
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "<script>=cmd" not in shown[-2]
    assert "foo]&lt;script&gt;=cmd" in shown[-2]
    for table in (shown[2], shown[-1]):
        cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert any("foo]<script>=cmd" in text for text in shown[:2])
    assert {path.name for path in tmp_path.iterdir()} >= {"[bold][", "boards", "drawn", "page.html", "results"}
    assert not (tmp_path / "x").exists()
