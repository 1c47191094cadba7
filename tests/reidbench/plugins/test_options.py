"""Options: what a signature declares, which values are accepted and which are refused."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter

from reidbench.errors import DataError, OptionError, PluginError, did_you_mean
from reidbench.plugins.options import File, LaterOption, Searched, check_options, options_of, positional_parameters
from reidbench.plugins.spec import Item, Spec
from reidbench.utils.syntax import references_of, summary_of
from tests.support.cases import cases

if TYPE_CHECKING:
    from somewhere_else import Knowledge  # types of positional parameters need not be importable

Margin = Literal["soft"] | float


class Hard:
    """Triplet loss of the hardest pairs,
    in one sentence.

    Options:
        margin: "soft" or the margin of the hinge,
            units: those of the distance.
        steps: how many.
        note: anything: really.

    steps: this line is no option's.
    Reference: https://example.com/paper
    Reference: javascript:alert(1)
    """

    def __init__(
        self,
        info: Knowledge,
        *,
        margin: Margin = 1,
        steps: int = 10,
        note: str | None = None,
        mirror: bool = False,
        ranks: tuple[int, ...] = (1, 5),
        size: tuple[int, int] = (64, 32),
        weights: Literal["imagenet"] | File | None = None,
        norm: Literal["batch", "none"] = "batch",
        level: Literal[1, 2] = 1,
        rate: int | float = 1,
    ) -> None:
        pass


def checked(text: str, factory: Callable[..., Any] = Hard, **defaults) -> tuple[dict[str, Any], dict[str, str]]:
    return check_options(options_of(factory), Spec.parse(text).item, "loss hard (there, mine 1.0)", defaults)


def test_options_are_the_keyword_only_parameters():
    options = options_of(Hard)
    assert list(options) == ["margin", "steps", "note", "mirror", "ranks", "size", "weights", "norm", "level", "rate"]
    assert positional_parameters(Hard) == ["info"]
    assert {name: option.expected for name, option in options.items()} == cases(__file__, "expected")
    assert repr(options["margin"].default) == "1.0"


def test_the_docstring_describes_item_and_options():
    docs = {name: option.doc for name, option in options_of(Hard).items() if option.doc}
    assert docs == {
        "margin": '"soft" or the margin of the hinge, units: those of the distance.',
        "steps": "how many.",
        "note": "anything: really.",
    }
    assert summary_of(Hard) == "Triplet loss of the hardest pairs, in one sentence."
    assert summary_of(functools.partial(Hard, steps=3)) == summary_of(Hard)
    assert summary_of(lambda: None) == ""
    assert references_of(Hard) == ["https://example.com/paper", "javascript:alert(1)"]


def test_values_come_from_spec_protocol_or_signature():
    values, origins = checked("hard(steps=3)", steps=7, mirror=True, unknown=1)
    assert (values["steps"], origins["steps"]) == (3, "given")
    assert (values["mirror"], origins["mirror"]) == (True, "protocol")
    assert (values["norm"], origins["norm"]) == ("batch", "default")
    assert list(values) == list(origins) == list(options_of(Hard))


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        *cases(__file__, "a_value_is_converted_to_its_type"),
        ("ranks=[]", "ranks", ()),
        ("size=[3, 4]", "size", (3, 4)),
        ("note=none", "note", None),
        ("weights=none", "weights", None),
    ],
)
def test_a_value_is_converted_to_its_type(given, name, value):
    assert repr(checked(f"hard({given})")[0][name]) == repr(value)


@pytest.mark.parametrize(("given", "said"), cases(__file__, "a_wrong_option_is_refused"))
def test_a_wrong_option_is_refused(given, said):
    with pytest.raises(OptionError) as caught:
        checked(f"hard({given})")
    assert str(caught.value).startswith(f"loss hard (there, mine 1.0): {said}")
    assert len(str(caught.value).splitlines()) == 1


def test_floats_must_be_finite():
    for value in (float("nan"), float("inf")):
        with pytest.raises(OptionError, match=r"the protocol's default: expected .* a number, got"):
            checked("hard", margin=value)


def test_all_mistakes_are_reported_together():
    with pytest.raises(OptionError) as caught:
        checked("hard(marign=1, steps=x, mirror=2)", level=3)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("loss hard (there, mine 1.0): ") for line in lines)
    assert all(word in str(caught.value) for word in ("marign", "steps", "mirror", "level"))


def test_a_file_option_is_a_path_with_a_digest(tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"content")
    value = checked(f'hard(weights="{file}")')[0]["weights"]
    assert value == file
    assert value.read_bytes() == b"content"
    assert value.sha256 == hashlib.sha256(b"content").hexdigest()
    assert checked("hard(weights=imagenet)")[0]["weights"] == "imagenet"
    for large, size in (("list.csv", 100 * 2**30), ("w.safetensors", 2**40)):  # which would be read for minutes
        (tmp_path / large).touch()
        os.truncate(tmp_path / large, size)
        with pytest.raises(DataError, match=rf"{large}: has {size:,} bytes, more than"):
            _ = File(tmp_path / large).sha256
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone")
    file.unlink()
    with pytest.raises(DataError, match=r"w\.pth: cannot be read"):
        _ = value.sha256
    with pytest.raises(OptionError, match=r'existing file or none, got ".*w\.pth" \(there is no file .*w\.pth\)'):
        checked(f'hard(weights="{file}")')
    for name, kind in (("pipe", "a named pipe"), ("link", r"a link to gone \(No such file"), ("", "a folder")):
        with pytest.raises(OptionError, match=rf"{name} is {kind}"):
            checked(f'hard(weights="{tmp_path / name}")')
    with pytest.raises(OptionError, match=r"got 5$"):
        checked("hard(weights=5)")


def stars(*args: int) -> None: ...


def two_stars(*, margin: float = 1.0, **kwargs) -> None: ...


def without_default(*, margin: float) -> None: ...


def without_type(*, margin=1.0) -> None: ...


def wrong_default(*, margin: float = "soft") -> None: ...


def infinite_default(*, margin: float = float("inf")) -> None: ...


def mutable(*, ranks: list[int] = []) -> None: ...  # noqa: B006


def unknown_type(*, margin: Knowledge = None) -> None: ...


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (stars, r"takes \*args, which hides its options"),
        (two_stars, r"takes \*\*kwargs, which hides its options"),
        (without_default, "option margin: expected a type and a default; write margin: TYPE = DEFAULT"),
        (without_type, "option margin: expected a type"),
        (wrong_default, 'option margin: its default does not fit: expected a number, got "soft"'),
        (infinite_default, "option margin: its default does not fit: expected a number, got inf"),
        (mutable, r"option ranks: its type list\[int\] cannot be written in a spec"),
        (unknown_type, "option margin: .*Knowledge.* is not defined"),
    ],
)
def test_an_undeclared_option_is_a_plugin_error(factory, said):
    with pytest.raises(PluginError, match=said):
        options_of(factory)


def test_all_faults_of_a_signature_are_reported():
    def faulty(*args: int, margin: float, steps=1) -> None: ...

    with pytest.raises(PluginError, match=r"\*args.*; option margin: .*; option steps: "):
        options_of(faulty)


def declaring(*options: inspect.Parameter) -> Callable[..., Any]:
    def wrapper(*args, **kwargs) -> dict[str, Any]:
        return kwargs

    wrapper.__signature__ = inspect.Signature(options)
    return wrapper


def test_a_wrapper_declares_the_options_of_what_it_wraps():
    wrapper = declaring(inspect.Parameter("alpha", inspect.Parameter.KEYWORD_ONLY, default=0.5, annotation=float))
    assert list(options_of(wrapper)) == ["alpha"]
    assert checked("hard(alpha=2)", wrapper)[0] == {"alpha": 2.0}

    followed = functools.wraps(Hard.__init__)(lambda *args, **kwargs: None)
    assert list(options_of(followed)) == list(options_of(Hard))


def test_classes_partials_and_callable_objects_are_factories():
    class Child(Hard):
        pass

    class Maker:
        def __call__(self, *, depth: int = 3) -> int:
            return depth

    assert [(o.name, o.default) for o in options_of(Child).values()] == [
        (o.name, o.default) for o in options_of(Hard).values()
    ]
    assert options_of(functools.partial(Hard, steps=3))["steps"].default == 3
    assert list(options_of(Maker())) == ["depth"]


def test_an_item_without_options_says_so():
    with pytest.raises(OptionError, match='no option "x"; it has none'):
        check_options({}, Item("bare", (("x", 1),)), "metric bare", {})


def test_the_nearest_names_are_offered():
    assert did_you_mean("batch_hrd", ["batch_hard", "lifted"]) == '; did you mean "batch_hard"?'
    assert did_you_mean("BATCH_HARD", ["batch_hard"]) == '; did you mean "batch_hard"?'
    assert did_you_mean("quite else", ["batch_hard"]) == ""


def test_a_file_below_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("1")
    assert TypeAdapter(File).validate_python("~/x.csv") == tmp_path / "x.csv"


# What studies search


def test_searched_values_are_declared_in_the_annotation():
    def factory(
        *,
        scale: Annotated[float, Searched(8, 128, log=True)] = 64,
        margin: Annotated[Margin, Searched(choices=("soft", 1, 0.5))] = "soft",
        count: Annotated[int, Searched(1, 9)] = 3,
        added: Annotated[int | None, LaterOption] = None,
        plain: Annotated[float, "a remark"] | None = None,
    ) -> None: ...

    options = options_of(factory)
    assert [str(option.searched) for option in options.values()] == [
        *("8 to 128 (log)", "soft, 1.0, 0.5", "1 to 9", "None", "None")
    ]
    assert repr(options["scale"].searched) == "Searched(low=8.0, high=128.0, log=True, choices=())"
    assert repr(options["count"].searched.low) == "1"
    assert [name for name, option in options.items() if not option.in_ids] == ["added"]
    assert options["margin"].expected == '"soft" or a number'


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [
        (Annotated[float, Searched(1.0, 0.5)], 0.7, "does not fit its default 0.7; expected low <= default <= high"),
        (Annotated[float, Searched(0.0, 1.0, log=True)], 0.5, "above 0 where log=True"),
        (Annotated[float, Searched(0.1, 1.0)], 2.0, "does not fit its default 2.0"),
        (Annotated[Margin, Searched(0.1, 1.0)], "soft", 'does not fit its default "soft"'),
        (Annotated[bool, Searched(False, True)], True, "does not fit its default true"),
        (Annotated[int, Searched(0.5, 2)], 1, "expected a whole number, got 0.5"),
        (Annotated[float, Searched()], 0.2, "expected a number, got none"),
        (Annotated[float, Searched(0.1, float("inf"))], 0.2, "expected a number, got inf"),
        (Annotated[str, Searched(choices=("a", "b"))], "c", 'does not fit its default "c"'),
        (Annotated[float, Searched(0.1, 1, choices=(0.2,))], 0.2, "does not fit its default 0.2"),
    ],
)
def test_searched_values_that_do_not_fit_are_a_plugin_error(annotation, default, said):
    option = inspect.Parameter("margin", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    with pytest.raises(PluginError, match=f"option margin: .*{said}"):
        options_of(declaring(option))


def test_at_most_three_options_are_searched():
    share = Annotated[float, Searched(0.1, 1)]
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(name, kind, default=0.5, annotation=share) for name in "abcd"]
    with pytest.raises(PluginError, match="at most 3, got a, b, c, d"):
        options_of(declaring(*options))
