"""The documentation site (``make docs``): the pages as they are on GitHub, and what only the site has."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from sphinx.application import Sphinx

import reidbench

project = "reidbench"
copyright = "the reidbench maintainers"  # noqa: A001
version = release = reidbench.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
myst_heading_anchors = 6  # links such as hooks.md#register_losses
highlight_language = "none"  # of blocks without a language: formulas and output
html_theme = "furo"
html_title = f"reidbench {version}"
html_copy_source = html_show_sourcelink = False
python_maximum_signature_line_length = 88
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"

ROOT = Path(__file__).parents[1]
NAVIGATION = {
    "Getting started": ["quickstart", "python", "notebook", "writing-a-plugin"],
    "Guides": [
        "study",
        "earlier-comparisons",
        "compare",
        "evaluate",
        "training",
        "monitor",
        "pixels",
        "scale",
        "leaderboards",
        "publishing",
    ],
    "Results": ["studies/table1", "studies/learning_curves", "studies/embedding_and_batch", "studies/real_pictures"],
    "Built-in items": [
        f"{folder}/index"
        for folder in (
            "losses",
            "backbones",
            "recipes",
            "datasets",
            "protocols",
            "synthesizers",
            "metrics",
            "rerankers",
            "sections",
            "executors",
            "trackers",
        )
    ],
    "Reference": ["hooks", "api", "fidelity", "baselines", "reproducing", "benchmarks"],
    "Project": ["decisions", "contributing", "changelog"],
}
PACKAGES = {
    "runs": "Runs and records",
    "studies": "Studies",
    "plugins": "Plugins",
    "data": "Datasets and protocols",
    "training": "Recipes",
    "ranking": "Rankings and scores",
    "reports": "Reports",
    "errors": "Errors",
    "utils": "Utilities",
}
FIELD = re.compile(r"``\w[\w, ]*``(, ``\w+``)*: ")


def toctree(*entries: str) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", *entries, "```", ""])


def reference() -> str:
    """Return the directives of all public names, by the package that defines them."""
    directives = dict.fromkeys(PACKAGES, "")
    for name, module in sorted(reidbench.public_modules().items()):
        directives[module.split(".")[1]] += directive(name)
    return "".join(f"## {PACKAGES[each]}\n\n```{{eval-rst}}\n{text}```\n\n" for each, text in directives.items())


def directive(name: str) -> str:
    value = getattr(reidbench, name)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        return f".. {kind}:: reidbench.{name}\n   :members:\n\n"
    if inspect.isfunction(value):
        return f".. autofunction:: reidbench.{name}\n\n"
    return f".. py:data:: reidbench.{name}\n   :type: {type(value).__name__}\n\n"


def complete_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Complete a page: the navigation, the pages of a kind, the reference, a file of the root, the notebook's cells."""
    if page == "notebook":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(source[0])["cells"]]
        source[0] = "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells)
    elif page == "index":
        source[0] += "".join(toctree(f":caption: {caption}", *pages) for caption, pages in NAVIGATION.items())
    elif page.endswith("/index"):
        source[0] += toctree(":glob:", "", "*")
    elif page == "api":
        source[0] = source[0].rstrip().rpartition("\n\n")[0] + "\n\n" + reference()
    elif page in ("contributing", "changelog"):
        file = ROOT / f"{page.upper()}.md"
        app.env.note_dependency(str(file))
        text = re.sub(r"\[([^]]+)\]\((?!docs/|https?:|#)[^)]+\)", r"\1", file.read_text(encoding="utf-8"))
        source[0] = text.replace("](docs/", "](")


def list_fields(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Make a list of a docstring's fields: lines "``name``: text", or "name: text" indented below "Fields:"."""
    text, indented, listed = list(lines), False, False
    lines.clear()
    for line in text:
        indented = line == "Fields:" or (indented and line.startswith("    "))
        if line == "Fields:":
            continue
        field = FIELD.match(line := re.sub(r"^ {4}(\w[\w, ]*):", r"``\1``:", line) if indented else line)
        if field and not listed:
            lines.append("")
        listed = bool(field or (listed and line))
        lines.append(f"* {line}" if field else f"  {line.strip()}" if listed else line)


def shorten_types(app: object, *event: object) -> tuple[str | None, ...]:
    """Return a signature's arguments and result without pydantic's limits, and with ``ndarray[int64]`` for arrays."""
    limits = r"[\w.~]*Annotated\[([\w.~]+), (?:[^][]|\[[^][]*\])*\]"
    array = r"[\w.~]*ndarray\[[\w.~]*tuple\[[^][]*\], [\w.~]*dtype\[([^][]*)\]\]"
    return tuple(text and re.sub(array, r"ndarray[\1]", re.sub(limits, r"\1", str(text))) for text in event[-2:])


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-docstring", list_fields)
    app.connect("autodoc-process-signature", shorten_types)
