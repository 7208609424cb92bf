# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv first.
# `make test-thorough` runs the tests that `make test` leaves out, for their time; CI runs both.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(wildcard cuda_ext/* cuda_ext/*/*) CMakeLists.txt

PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto --maxprocesses 8
# Empty, it lets Python keep what it compiled: the tests start many processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-thorough tests lint clean

demo: .venv/installed
	$(BIN)/cocogs demo

# Beside each other: pyright has one thread, and some tests wait.
test: .venv/installed
	$(MAKE) --jobs=2 lint tests

tests: .venv/installed
	$(PYTEST) --dist loadfile -m "not thorough and not slow and not cuda"

test-thorough: .venv/installed
	$(PYTEST) --dist worksteal -m "thorough and not slow and not cuda"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Built in isolation; -e, so that edits to the Python files need no new installation.
.venv/installed: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build runs
