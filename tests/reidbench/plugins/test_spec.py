"""The grammar of specs: what is read, what is refused, and that written specs read back."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reidbench.errors import OptionError, quoted
from reidbench.plugins.spec import MAX_DEPTH, MAX_TEXT, RESERVED, Item, Spec, Term, is_name, write_value
from tests.support.cases import cases

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}(/[A-Za-z][A-Za-z0-9_]{0,8})?", fullmatch=True).filter(is_name)
IDENTS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = st.from_regex(r"[A-Za-z0-9_./:@][A-Za-z0-9_./:@~%-]{0,8}", fullmatch=True)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
LOOKALIKES = st.sampled_from(["none", "true", "false", "1", "-2.5", "1e5", ".5", "nan", ""])
SCALARS = LOOKALIKES | st.none() | st.booleans() | NUMBERS | TEXTS | WORDS


def values(depth: int) -> st.SearchStrategy:
    if depth > MAX_DEPTH:
        return SCALARS
    inner = st.deferred(lambda: values(depth + 1))
    return SCALARS | st.lists(inner, max_size=3).map(tuple) | items(depth)


def items(depth: int) -> st.SearchStrategy[Item]:
    options = st.dictionaries(IDENTS, st.deferred(lambda: values(depth + 1)), max_size=3)
    return st.builds(lambda name, given: Item(name, tuple(given.items())), NAMES, options)


WEIGHTS = st.just(1.0) | st.floats(allow_nan=False, allow_infinity=False)
SPECS = st.lists(st.builds(Term, WEIGHTS, items(1)), max_size=3).map(lambda terms: Spec(tuple(terms)))


@given(SPECS)
def test_a_written_spec_reads_back(spec):
    assume(len(str(spec)) <= MAX_TEXT)
    assert str(spec).isprintable()
    # repr tells 1 from 1.0 and from True, and shows every digit
    assert repr(Spec.parse(str(spec))) == repr(spec).replace("weight=-0.0,", "weight=0.0,")


@given(st.text(st.sampled_from('ab1.-/ \n+*=,()[]"\\"tnone'), max_size=40))
def test_any_text_is_refused_or_reads_back(text):
    try:
        spec = Spec.parse(text)
    except OptionError:
        return
    assert Spec.parse(str(spec)) == spec


def option(text: str):
    """The value of option x."""
    return Spec.parse(f"a(x={text})").item.options[0][1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *cases(__file__, "a_value_is_read_with_its_type"),
        ("[]", ()),
        ("[1, two, [3.0,],]", (1, "two", (3.0,))),
        ("none", None),
        ("b()", Item("b")),
        ("pml/b(y=[c(z=1)])", Item("pml/b", (("y", (Item("c", (("z", 1),)),)),))),
    ],
)
def test_a_value_is_read_with_its_type(text, value):
    assert repr(option(text)) == repr(value)


def test_white_space_and_a_last_comma_are_ignored():
    assert Spec.parse(" a ( x = 1 ,\n\ty = [ 2 , ] , ) ") == Spec.parse("a(x=1,y=[2])")
    assert Spec.parse("a()") == Spec.parse("a")


def test_sums_have_weights():
    spec = Spec.parse("a+0.5*b(x=1) + 2*c")
    assert spec == Spec((Term(1.0, Item("a")), Term(0.5, Item("b", (("x", 1),))), Term(2.0, Item("c"))))
    assert str(spec) == "a + 0.5*b(x=1) + 2*c"
    with pytest.raises(OptionError, match="single item"):
        _ = spec.item
    with pytest.raises(OptionError, match="single item"):
        _ = Spec.parse("2*a").item


def test_none_alone_is_the_empty_spec():
    assert not Spec.parse(" none ").terms
    assert str(Spec.parse("none")) == "none"
    with pytest.raises(OptionError, match="single item"):
        _ = Spec.parse("none").item


@pytest.mark.parametrize(("text", "said"), cases(__file__, "errors_name_the_position"))
def test_errors_name_the_position(text, said):
    with pytest.raises(OptionError, match=said) as caught:
        Spec.parse(text, where="--loss")
    assert str(caught.value).startswith("--loss: cannot read ")
    assert str(caught.value).isprintable()


def test_depth_and_length_are_limited():
    deepest = "a(x=b(x=c(x=[1])))"
    assert str(Spec.parse(deepest)) == deepest
    for deeper in ("a(x=b(x=c(x=[[1]])))", "a(x=b(x=c(x=[d()])))", "a(x=[[[[]]]])"):
        with pytest.raises(OptionError, match=f"more than {MAX_DEPTH} deep"):
            Spec.parse(deeper)
    longest = f"a(x={'b' * (MAX_TEXT - 5)})"
    assert len(longest) == MAX_TEXT
    assert str(Spec.parse(longest)) == longest
    with pytest.raises(OptionError, match=f"{MAX_TEXT + 1} characters, at most {MAX_TEXT}"):
        Spec.parse(longest + " ")
    with pytest.raises(OptionError, match="deep"):
        Spec.parse("a(x=" + "[" * 1900)


def test_only_option_values_can_be_written():
    for value in (float("nan"), float("inf"), [1], {"a": 1}, object()):
        with pytest.raises(OptionError, match="cannot be written"):
            write_value(value)


@given(TEXTS)
def test_quoted_text_is_printable_and_reads_back(text):
    assert quoted(text).isprintable()
    assert option(quoted(text)) == text


@given(st.text(max_size=12))
def test_a_name_is_letters_digits_and_one_slash(text):
    pattern = r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)?"
    assert is_name(text) == (re.fullmatch(pattern, text) is not None and text not in RESERVED)
