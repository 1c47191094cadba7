"""``reidbench suites``: everything that runs by name, each with one line that ends as a sentence."""

from reidbench import leaderboards_folder
from reidbench.cli.suites import suites
from reidbench.runs.suite import find_suite


def test_every_suite_is_listed_by_the_name_that_runs_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    suites()
    _, _, *lines = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=2) for line in lines if line.strip()]
    files = set(leaderboards_folder().rglob("*.toml"))
    assert files - {find_suite(name) for _, name, _ in rows} == {leaderboards_folder() / "paper" / "claims.toml"}
    assert len(rows) == len(files) - 1
    assert ["system", "trinet"] in [row[:2] for row in rows]
    assert ["suite", "paper/table2"] in [row[:2] for row in rows]
    assert [what for _, _, what in rows if not what.strip().endswith((".", "?"))] == []
