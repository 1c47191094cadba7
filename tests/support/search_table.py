"""The table of docs/study.md: what each loss declares to be searched. Run as a module it rewrites the page."""

from __future__ import annotations

from reidbench.plugins.catalogue import load
from reidbench.plugins.spec import write_value
from tests.support.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "study.md"
HEAD = "| loss | option | default | searched |\n|---|---|---|---|\n"


def search_table() -> str:
    rows, without = [], []
    for item in load().list_items("loss"):
        if item.plugin.distribution != "reidbench":
            continue
        searched = [option for option in item.options.values() if option.searched]
        without += [] if searched else [f"`{item.name}`"]
        for place, option in enumerate(searched):
            cells = ("" if place else f"`{item.name}`", f"`{option.name}`", f"`{write_value(option.default)}`")
            rows.append(f"| {' | '.join(cells)} | {option.searched} |")
    return f"{HEAD}{chr(10).join(rows)}\n\nOnly the learning rate: {', '.join(without)}.\n"


def documented_table() -> str:
    text = PAGE.read_text(encoding="utf-8")
    start = text.index(HEAD)
    return text[start : text.index(".\n", text.index("Only the learning rate: ", start)) + 2]


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(documented_table(), search_table()), encoding="utf-8")
