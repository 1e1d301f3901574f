# make run    from nothing to the result table of the embedded experiment
# make test   from nothing to the verdict of the quick test suite (test-all: the minutes-long ones, too)
# make docs   the documentation as a site, into site/: open site/index.html, no network needed
# The virtual environment is built once, from exact versions; `make clean` forgets it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: run test test-all lint docs benchmark clean

run: $(VENV)/.run
	$(BIN)/marquee train

# A process a core (eight at most: each imports torch once), a file at a time, the long ones of tests/e2e first.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.dev
	$(PYTEST) -m ""

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

benchmark: $(VENV)/.dev
	$(BIN)/python scripts/benchmark.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 14) else f"Marquee needs Python 3.10 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}. Type: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	touch $@

$(VENV)/.dev: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV)
