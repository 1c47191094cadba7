"""Put pydantic's errors into words."""

from __future__ import annotations

from pydantic_core import ErrorDetails


def describe_problem(problem: ErrorDetails) -> str:
    """Return what is wrong with a value as one clause that begins with its place, such as "job[0].seed"."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    plain = {"missing": "is missing", "unexpected_keyword_argument": "is unknown", "extra_forbidden": "is unknown"}
    message = (
        problem["msg"]
        .replace("Input should be", "must be")
        .replace("List should", "must")
        .removeprefix("Value error, ")
    )
    if problem["type"] not in ("json_invalid", "value_error"):
        message = plain.get(problem["type"], f"{message}, got {problem['input']!r:.80}")
    return f"{place.removeprefix('.')} {message}".strip()
