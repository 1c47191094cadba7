"""Compiled loops: cached in a private folder, compiled anew when any module of their package changes."""

import subprocess
import sys
from pathlib import Path

MODULE = """
from reidbench.utils.compiled import compiled
from helper import two

@compiled
def f(x):
    return two(x) + 1.0
"""
HELPER = """
from reidbench.utils.compiled import compiled

@compiled
def two(x):
    return {factor} * x
"""


def result(folder: Path, cache: Path) -> tuple[float, ...]:
    """Return the value of the function and how many loops came from the cache."""
    code = "import module; print(module.f(10.0)); print(sum(module.f.stats.cache_hits.values()))"
    env = {"PYTHONPATH": str(folder), "REIDBENCH_CACHE": str(cache), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def test_cached_code_notices_edits_of_its_package(tmp_path):
    folder, cache = tmp_path / "package", tmp_path / "cache"
    folder.mkdir()
    (folder / "module.py").write_text(MODULE)
    (folder / "helper.py").write_text(HELPER.format(factor="2.0"))
    assert [result(folder, cache) for _ in range(2)] == [(21.0, 0), (21.0, 1)]
    (folder / "helper.py").write_text(HELPER.format(factor="3.0"))
    assert result(folder, cache)[0] == 31.0
    folders = [path for path in (cache / "compiled").iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_loops_run_without_a_cache_folder(tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text(HELPER.format(factor="2.0"))
    assert result(tmp_path, Path("/dev/null/nowhere"))[0] == 21.0
