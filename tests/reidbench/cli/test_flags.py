"""Paths on the command line: all are read by one function."""

from pathlib import Path
from typing import get_type_hints

from reidbench.cli import make_app
from reidbench.cli.flags import path


def functions_of(app):
    for command in app.registered_commands:
        assert command.callback
        yield command.callback
    for group in app.registered_groups:
        assert group.typer_instance
        yield from functions_of(group.typer_instance)


def test_every_path_is_read_by_one_function(monkeypatch):
    """``~`` is a home folder wherever a verb takes a path, and the name of no user stays as it is."""
    monkeypatch.setenv("HOME", "/home/me")
    assert [path(text) for text in ("~/x", "~", "a/~")] == [Path("/home/me/x"), Path("/home/me"), Path("a/~")]
    assert path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    parsers = {
        (function.__name__, name): hint.__metadata__[0].parser
        for function in functions_of(make_app())
        for name, hint in get_type_hints(function, include_extras=True).items()
        if "pathlib.Path" in str(hint)
    }
    assert len(parsers) >= 30
    assert {("run", "what"), ("report", "places"), ("evaluate", "query"), ("embed", "images")} <= parsers.keys()
    assert [place for place, parser in parsers.items() if parser is not path] == []
