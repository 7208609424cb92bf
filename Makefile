# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(wildcard cuda_ext/* cuda_ext/*/*) CMakeLists.txt

.PHONY: demo test tests lint clean

demo: .venv/installed
	$(BIN)/cocogs demo

# Beside each other: pyright has one thread, and some tests wait.
test: .venv/installed
	$(MAKE) --jobs=2 lint tests

tests: .venv/installed
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile -m "not slow and not cuda"

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
