"""Digests of code: what rewording does not change, and what an edit does."""

import ast

import pytest

from reidbench.utils.syntax import syntax_digest

CODE = 'def f(x):\n    """Return x."""\n    if x < 0:\n        raise ValueError(f"got {x}")\n    return x + 1\n'


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("Return x.", "Return one more.", False),
        ("    return", "    # a comment\n\n    return", False),
        ("got {x}", "negative: {x}", False),
        ("x + 1", "x + 2", True),
        ("ValueError", "TypeError", True),
    ],
)
def test_only_edits_of_code_change_the_digest(before, after, changes):
    one, other = (syntax_digest(ast.parse(code).body) for code in (CODE, CODE.replace(before, after)))
    assert (one != other) == changes
