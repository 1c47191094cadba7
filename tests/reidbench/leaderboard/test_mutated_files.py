"""Records, rankings, embeddings and distances mutated 2,000 times end in a value or a DataError, nothing else."""

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache

import numpy as np
import safetensors.numpy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reidbench.errors import DataError
from reidbench.leaderboard.check_record import record_problems, score_problems
from reidbench.ranking.external_embeddings import read_units
from reidbench.ranking.rankings import RANKINGS, Ranking, read_ranking
from reidbench.runs.record import RunRecord
from reidbench.utils.arrays import read_matrix
from tests.support.boards import ranking_for, valid_record
from tests.support.cases import cases

NUMBERS = [0, -1, 2**31, 2**63 - 1, -(2**63), 2**63, 10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf")]
VALUES = [*cases(__file__, "values"), *NUMBERS, None, "\ud800", "a" * 9_000, "(" * 3_000]
TOKENS = [*cases(__file__, "tokens"), "[" * 3_000, "1" * 5_000, "0" * 99]
HEADERS = [
    *cases(__file__, "headers"),
    "{'descr': '<i8', 'fortran_order': False, 'shape': (" + "(" * 90,
    "{'descr': '<i8', 'fortran_order': False, 'shape': " + "-" * 9_000 + "1, }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': " + "[" * 4_000 + "]" * 4_000 + ", }",
    "\0" * 60,
]
Positions = st.floats(0, 1, exclude_max=True)
mutations = settings(
    max_examples=500,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(value):
    """Yield (container, key) of every value inside a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def edit_bytes(data: bytes, position: float, length: int, new: bytes) -> bytes:
    place = int(position * (len(data) + 1))
    return data[:place] + new + data[place + length :]


@cache
def valid() -> tuple[RunRecord, str, Ranking]:
    record = valid_record()
    return record, record.to_json(), ranking_for(record.job)


@mutations
@given(Positions, st.sampled_from(VALUES) | st.none(), st.booleans())
def test_records_with_other_values(position, value, delete):
    data = json.loads(valid()[1])
    inside = list(places(data))
    container, key = inside[int(position * len(inside))]
    if delete:
        del container[key]
    else:
        container[key] = value
    check_record(json.dumps(data))


@mutations
@given(Positions, st.integers(0, 40), st.sampled_from(TOKENS) | st.text(max_size=3))
def test_records_with_other_bytes(position, length, token):
    data = edit_bytes(valid()[1].encode(), position, length, token.encode("utf-8", "surrogatepass"))
    check_record(data.decode("utf-8", "replace"))


def check_record(text: str) -> None:
    try:
        record = RunRecord.from_json(text, "record.json")
    except DataError:
        return
    list(record_problems(record))
    list(score_problems(record, valid()[2]))
    assert RunRecord.from_json(record.to_json(), "record.json") == record


def npz(arrays, member="", header="", method=zipfile.ZIP_STORED):
    """Return the bytes of an npz in which one member has another header."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            content = buffer.getvalue()
            if name == member:
                text = header.encode("latin1")
                content = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + array.tobytes()
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@cache
def arrays_of(file: str) -> dict[str, np.ndarray]:
    if file == RANKINGS:
        return vars(valid()[2])
    rows = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    return {"embeddings": rows, "pids": np.arange(6), "cams": np.arange(6)}


@cache
def content_of(file: str, method: int = zipfile.ZIP_STORED) -> bytes:
    if file.endswith(".safetensors"):
        return safetensors.numpy.save(arrays_of(file))
    return npy(arrays_of(file)["embeddings"]) if file.endswith(".npy") else npz(arrays_of(file), method=method)


def read(folder, file, content):
    (folder / file).write_bytes(content)
    try:
        if file == RANKINGS:
            list(score_problems(valid()[0], read_ranking(folder)))
        elif file.endswith(".npy"):
            read_matrix(folder / file)
        else:
            read_units(folder / file)
    except DataError as error:
        if str(folder / file) not in str(error):
            raise


FILES = [RANKINGS, RANKINGS, "query.npz", "query.safetensors", "distances.npy"]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
EDITS: list[Callable[[np.ndarray, int], np.ndarray]] = [
    lambda array, number: array[:0],
    lambda array, number: array[: number % 5],
    lambda array, number: array[..., None],
    lambda array, number: array.reshape(-1),
    lambda array, number: array.astype([np.float16, np.uint64, ">i8", "S3", "M8[s]", complex, "V4"][number % 7]),
    lambda array, number: np.full(array.shape, [2**63 - 1, -(2**63), -1][number % 3]),
    lambda array, number: np.full(array.shape, [np.nan, np.inf, -1e308, 1e308][number % 4]),
    lambda array, number: np.where(np.arange(array.size).reshape(array.shape) == number % array.size, -7, array),
    lambda array, number: np.where(np.arange(array.size).reshape(array.shape) == number % array.size, 2**62, array),
    lambda array, number: array[::-1],
    lambda array, number: np.zeros((0, 2**40, 3), dtype=array.dtype),
]


@mutations
@given(st.sampled_from(FILES), st.sampled_from(METHODS), Positions, st.integers(0, 60), st.binary(max_size=6))
def test_array_files_with_other_bytes(tmp_path, file, method, position, length, new):
    read(tmp_path, file, edit_bytes(content_of(file, method), position, length, new))


@mutations
@given(
    st.sampled_from(FILES),
    st.integers(0, 10),
    st.sampled_from(HEADERS) | st.sampled_from(EDITS) | st.integers(0, 2**16 - 1),
    st.integers(0, 50),
)
def test_array_files_with_another_structure(tmp_path, file, place, edit, number):
    arrays = arrays_of(file)
    name = list(arrays)[place % len(arrays)]
    if isinstance(edit, int):  # flags or method of compression: encrypted, of another program, not the one used
        content = content_of(file, METHODS[number % 4])
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.find(mark) + at + 2 * (number % 2)
            content = content[:start] + edit.to_bytes(2, "little") + content[start + 2 :]
    elif isinstance(edit, str):
        text = edit.encode()
        content = npz(arrays, name, edit) if file.endswith(".npz") else len(text).to_bytes(8, "little") + text
    else:
        changed = {**arrays, name: edit(arrays[name], number)}
        content = npy(changed[name]) if file.endswith(".npy") else b""
        with contextlib.suppress(safetensors.SafetensorError, KeyError):  # dtypes that it cannot hold
            content = content or (npz(changed) if file.endswith(".npz") else safetensors.numpy.save(changed))
    read(tmp_path, file, content)
