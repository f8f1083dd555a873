# Two commands do everything, on a fresh machine too: make run, make test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint format all-tests
run: .venv/installed
	$(BIN)/python scripts/run.py

test: .venv/installed
	$(BIN)/python -m pytest -q

# Every test, the slow ones too.
all-tests: .venv/installed
	$(BIN)/python -m pytest -q -m "slow or not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
