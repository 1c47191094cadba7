"""Plain tables and texts on the terminal, for verbs without a report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Print a table without markup; columns in ``numbers`` are right-aligned, the others fold where they are long."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_text(text: str, style: str = "") -> None:
    """Print one line without markup and without folding."""
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text(text, style=style), soft_wrap=True)
