# Two commands do all the set-up on a fresh machine: `make quickstart` runs the main job, `make test` the tests.
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart install format lint type test bench clean

quickstart: install
	$(BIN)/udc-robust evaluate quickstart

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --constraint .ci/constraints.txt --editable '.[dev]'
	touch $@

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install
	$(BIN)/mypy

test: install
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python scripts/bench_attacks.py

clean:
	rm -rf $(VENV) runs
