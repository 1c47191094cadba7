"""The tables of docs/losses/pml.md: ``python -m reidbench_losses.pml_page`` prints them for the installed version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from inspect import Parameter

from reidbench_losses.pml import Declaration, declarations, miners, unbridged


def tables() -> str:
    """Return two tables in Markdown: what each loss takes, and what has no item and why."""
    lines = ["| loss | its own options | distance | reducer | miner |", "|---|---|---|---|---|"]
    lines += [_row(declaration) for declaration in declarations().values()]
    lines += ["", "| miner | its options |", "|---|---|"]
    for name, factory in miners().items():
        options = {key: p for key, p in factory.__signature__.parameters.items() if p.kind == p.KEYWORD_ONLY}  # type: ignore[attr-defined]
        lines.append(f"| `{name}` | {_written(options)} |")
    lines += ["", "| not bridged | why |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in unbridged().items()]
    return "\n".join(lines) + "\n"


def _row(declaration: Declaration) -> str:
    own = {n: p.replace(default="?") if n in declaration.required else p for n, p in declaration.own.items()}
    distance = dict(declaration.distance)
    named = f"`{distance.pop('distance').default}({_plain(distance)})`" if distance else "none"
    reducer = f"`{declaration.reducer['reducer'].default}`" if declaration.reducer else "none"
    miner = "yes" if declaration.miner else "no"
    return f"| `{declaration.name}` | {_written(own)} | {named} | {reducer} | {miner} |"


def _plain(options: Mapping[str, Parameter]) -> str:
    words = {True: "true", False: "false", None: "none"}
    shown = {name: p.default for name, p in options.items()}
    return ", ".join(f"{n}={words[v] if isinstance(v, bool) or v is None else v}" for n, v in shown.items())


def _written(options: Mapping[str, Parameter]) -> str:
    return f"`{_plain(options)}`" if options else "none"


if __name__ == "__main__":
    sys.stdout.write(tables())
