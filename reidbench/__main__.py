"""``python -m reidbench`` is the command line."""

from __future__ import annotations

from reidbench.cli import main

if __name__ == "__main__":
    main()
