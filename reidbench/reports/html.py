"""Pages from templates: a report, and the rendering of tables that leaderboards' pages use too.

Every text is escaped. Style and script are inside the page, and its policy lets nothing else run and requests nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

import reidbench
from reidbench.reports.charts import Chart, method_colours, series_styles
from reidbench.reports.figures import title_of, to_img
from reidbench.reports.sections import Part
from reidbench.reports.table import one_line

OWN_FILES = ("style.css", "table.js")


def to_html(parts: Sequence[Part], title: str, about: str, opened: int | None = None) -> str:
    """Return parts as one page of HTML, of which the first ``opened`` (by default all) are unfolded.

    Equal parts give equal bytes.
    """
    charts = [chart for part in parts for chart in part.charts]
    texts = {"title": one_line(title), "about": one_line(about)}
    return render("report.html.j2", charts=charts, parts=parts, opened=opened, **texts)


def render(
    template: str | Template, *, files: Sequence[str] = OWN_FILES, charts: Sequence[Chart] = (), **values: object
) -> str:
    """Return a page as HTML.

    ``template`` is a file of ``templates`` that extends ``base.html.j2``; ``files`` are style sheets and scripts beside
    this module; ``charts`` are all of the page, of whose methods the template gets the ``colours`` too; ``values`` are
    what else it names, texts not yet escaped. The page's policy allows the style sheet and the scripts by their
    digests, images in ``data:`` addresses, and nothing else.
    """
    folder = importlib.resources.files("reidbench.reports")
    names = (*files, *(("vendor/vega.js", "charts.js") if charts else ()))
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
    style = "\n".join(text for name, text in texts.items() if name.endswith(".css"))
    scripts = [text for name, text in texts.items() if name.endswith(".js")]
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {' '.join(map(_digest, scripts))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    # The files come with the package, and their digests are of the bytes between the tags.
    page = {"page_style": Markup(style), "page_scripts": [*map(Markup, scripts)], "page_policy": policy}
    return environment().get_template(template).render(**values, **page, charts=charts, colours=method_colours(charts))


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def environment() -> Environment:
    """Return the environment of the templates."""
    jinja = Environment(
        loader=PackageLoader("reidbench.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"one_line": one_line, "base64": lambda content: base64.b64encode(content).decode()}
    jinja.filters |= {"series_styles": series_styles, "title_of": title_of, "to_img": to_img}
    jinja.globals["version"] = reidbench.__version__
    return jinja
