# The one command before a commit: `make`. PYTHON names the environment that has the package and its test extra.
PYTHON ?= .venv/bin/python

.PHONY: all format check types test slow docs bench

all: check types test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n 2

slow:
	$(PYTHON) -m pytest -m slow

docs:
	$(PYTHON) -m sphinx --fail-on-warning --keep-going -q -d build/doctrees docs build/docs

bench:
	for script in benchmarks/*.py; do $(PYTHON) $$script || exit 1; done
