"""``python -m reidbench`` is the command line."""

from reidbench.cli import main

if __name__ == "__main__":
    main()
