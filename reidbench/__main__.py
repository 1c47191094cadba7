"""The command line's entry point, also of ``python -m reidbench``."""

from __future__ import annotations

import os
import signal

# While Python imports the rest, nothing has begun that an interruption could cost.
signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

from reidbench.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
