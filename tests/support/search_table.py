"""The table of docs/study.md: what each loss declares to be searched. Run as a module it rewrites the page."""

from reidbench.plugins.catalogue import load
from reidbench.plugins.spec import write_value
from tests.support.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "study.md"
HEAD = "| loss | option | default | searched |\n|---|---|---|---|\n"


def search_table() -> str:
    rows = []
    for item in [item for item in load().list_items("loss") if item.plugin.distribution == "reidbench"]:
        searched = [option for option in item.options.values() if option.searched]
        for place, option in enumerate(searched):
            cells = ("" if place else f"`{item.name}`", f"`{option.name}`", f"`{write_value(option.default)}`")
            rows.append(f"| {' | '.join(cells)} | {option.searched} |\n")
        rows += [] if searched else [f"| `{item.name}` |  |  | only the learning rate |\n"]
    return HEAD + "".join(rows)


def documented_table() -> str:
    _, end = PAGE.read_text(encoding="utf-8").split(HEAD)
    return HEAD + end.partition("\n\n")[0] + "\n"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(documented_table(), search_table()), encoding="utf-8")
