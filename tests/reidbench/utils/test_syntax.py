"""Digests of code: what rewording does not change, and what an edit does."""

import ast

import pytest

from reidbench.utils.syntax import syntax_digest
from tests.support.cases import cases

CODE = 'def f(x):\n    """Return x."""\n    if x < 0:\n        raise ValueError(f"got {x}")\n    return x + 1\n'


@pytest.mark.parametrize(("before", "after", "changes"), cases(__file__, "only_edits_of_code_change_the_digest"))
def test_only_edits_of_code_change_the_digest(before, after, changes):
    one, other = (syntax_digest(ast.parse(code).body) for code in (CODE, CODE.replace(before, after)))
    assert (one != other) == changes
