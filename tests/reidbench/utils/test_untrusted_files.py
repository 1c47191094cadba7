"""Files from outside: what is no regular file, too large, or ambiguous to readers is refused by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reidbench.errors import DataError
from reidbench.images.decode import read_digest, read_image
from reidbench.leaderboard.board import read_statements
from reidbench.ranking.rankings import read_ranking
from reidbench.runs.record import read_record
from reidbench.runs.suite import load_suite
from reidbench.utils.arrays import read_arrays, read_matrix
from reidbench.utils.atomic import write_atomic
from reidbench.utils.untrusted_files import parse_json, read_text
from tests.support.cases import cases
from tests.support.records import make_record

READERS: dict[str, Callable[[Path], Any]] = {
    "record.json": read_record,
    "suite.toml": load_suite,
    "board.verified.json": read_statements,
    "list.csv": read_text,
    "rankings.npz": lambda file: read_ranking(file.parent),
    **dict.fromkeys(["query.npz", "cached.npz", "query.safetensors"], read_arrays),
    "distances.npy": read_matrix,
    "image.jpg": read_image,
    "header.jpg": read_digest,
}


WRONG: dict[str, Callable[[Path], Any]] = {
    "named pipe": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "sparse": lambda file: (file.touch(), os.truncate(file, 2**40)),
    "not text": lambda file: file.write_bytes(b"\xff" * 100),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", WRONG)
def test_each_reader_refuses_at_once_and_names_the_file(tmp_path, name, kind):
    WRONG[kind](tmp_path / name)
    with pytest.raises(DataError, match=name):
        READERS[name](tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read: No such file"):
        read_text(tmp_path / "none.csv")


def test_a_file_without_a_size_is_read_up_to_the_limit():
    with pytest.raises(DataError, match=r"/proc/self/status: .*more than the 10 bytes"):
        read_text(Path("/proc/self/status"), 10)


def test_text_keeps_its_line_ends_and_loses_its_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfpath\r\n1\n")
    assert read_text(tmp_path / "a.csv") == "path\r\n1\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [*cases(__file__, "ambiguous_json_is_refused_by_name"), ("1" + "0" * 5_000, ""), ("[" * 100_000, "")],
)
def test_ambiguous_json_is_refused_by_name(text, named):
    with pytest.raises(DataError, match=rf"^verified\.json: .*{named}"):
        parse_json(text, "verified.json")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("record.json", make_record().to_json().replace('"dirty": false', '"dirty": true, "dirty": false')),
        ("board.verified.json", '{"dirty": {}, "dirty": {}}'),
    ],
)
def test_records_and_statements_with_a_repeated_key_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: .*'dirty' is repeated"):
        READERS[name](tmp_path / name)


def test_other_json_is_read():
    text = '{"a": [9223372036854775807, -0.5, 1e-400, null, true], "\\ud83d\\ude00": "\\u0000"}'
    assert parse_json(text, "x") == {"a": [2**63 - 1, -0.5, 0.0, None, True], "\N{GRINNING FACE}": "\0"}


def test_text_that_has_no_utf8_is_not_written(tmp_path):
    with pytest.raises(DataError, match=r"out\.csv: .*udcff"):
        write_atomic(tmp_path / "out.csv", "name\udcff")
    assert not list(tmp_path.iterdir())
