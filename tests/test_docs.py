"""Docs that cannot drift: a heading and a user per hook, a page and a test per item, README, no dead links."""

import importlib
import re

import pytest

import reidbench
from reidbench.plugins import hookspecs
from reidbench.plugins.catalogue import load
from reidbench.plugins.discovery import KINDS
from reidbench.testing import check_tracker
from tests.support.documents import PAGES
from tests.support.paths import CHECKOUT

DOCS = CHECKOUT / "docs"
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("register_"))
FOLDERS = {"loss": "losses"}


def page_of(kind, name):
    """A family such as ``pml/NAME`` shares the page of its owner."""
    return DOCS / FOLDERS.get(kind, f"{kind}s") / f"{name.partition('/')[0]}.md"


def first_party() -> list[tuple[str, str]]:
    return [(e.kind, e.name) for e in load().list_items() if e.plugin.distribution == "reidbench"]


def test_there_are_eleven_hooks():
    assert len(HOOKS) == len(KINDS) == 11


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_used(hook):
    assert f"## `{hook}()`" in (DOCS / "hooks.md").read_text()
    users = [path for path in (CHECKOUT / "plugins").rglob("*.py") if f"def {hook}()" in path.read_text()]
    assert users, f"{hook} has no first-party user"


@pytest.mark.parametrize(("kind", "name"), first_party())
def test_every_item_has_a_page_and_a_test(kind, name):
    page = page_of(kind, name)
    assert page.is_file(), f"{kind} {name} needs {page.relative_to(CHECKOUT)}"
    assert f"]({page.name})" in (page.parent / "index.md").read_text(), f"{page.parent.name}/index.md lists no {name}"
    named = re.compile(rf"\b{name.partition('/')[0]}\b")
    tests = [path for path in (CHECKOUT / "tests").rglob("test_*.py") if named.search(path.read_text())]
    assert tests, f"no test names {kind} {name}"


@pytest.mark.parametrize(("kind", "name"), first_party())
def test_a_page_names_every_option(kind, name):
    page = page_of(kind, name).read_text()
    resolved = load().find(kind, name)
    from reidbench.plugins.options import options_of

    for option in options_of(resolved.factory):
        assert f"`{option}" in page or f"{option}=" in page, f"{kind} {name}: the page does not say what {option} is"


def test_readme_holds_its_two_commands():
    readme = (CHECKOUT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("reidbench run")
    assert commands[1].endswith("pytest -n 2")


def test_links_of_the_docs_lead_somewhere():
    for page in [*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if "://" not in target:
                file = page.parent / target if target else page
                assert file.exists(), f"{page.relative_to(CHECKOUT)} links to {target}"
                assert not anchor or anchor in anchors(file), f"{page.relative_to(CHECKOUT)}: {target} has no {anchor}"


def anchors(page):
    """Return the names that GitHub and the site give to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_page_has_one_title():
    """A second one would be a page of its own in the site's navigation."""
    for page in PAGES:
        prose = "".join(re.split(r"(?m)^ *```.*$", page.read_text(encoding="utf-8"))[::2])
        assert len(re.findall(r"(?m)^# ", prose)) == 1, f"{page.relative_to(CHECKOUT)} needs one heading of level 1"


def test_the_loss_in_the_readme_passes_its_checks(tmp_path, monkeypatch):
    from reidbench.testing.losses import check_loss

    blocks = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "(Loss)" in block]
    (tmp_path / "readme_loss.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = importlib.import_module("readme_loss").register_losses()
    for factory in offered.values():
        assert "learning brings positives closer than negatives" in check_loss(factory)


def test_the_tracker_in_the_page_on_plugins_passes_its_checks():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "writing-a-plugin.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "register_trackers" in block]
    exec(code, names := {"__name__": "page"})
    assert "a run that resumes" in check_tracker(names["JsonLines"])


def test_the_version_is_the_same_everywhere():
    assert f'\nversion = "{reidbench.__version__}"\n' in (CHECKOUT / "pyproject.toml").read_text()
    assert f"\nversion: {reidbench.__version__}\n" in (CHECKOUT / "CITATION.cff").read_text()


def test_every_guide_is_in_the_navigation():
    text = (DOCS / "conf.py").read_text()  # importing it takes Sphinx
    assert not [page.stem for page in DOCS.glob("*.md") if page.stem != "index" and f'"{page.stem}"' not in text]
