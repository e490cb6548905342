# Two commands do all the set-up on a fresh machine: `make quickstart` runs the main job, `make test` the tests.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CONSTRAINTS ?= .ci/constraints.txt
# What says most in a minute: the core, the command line, every shipped config.
FAST := attacks classifiers data defences metrics networks cli/test_verbs.py cli/test_configs.py \
        test_config.py test_files.py test_shipped_configs.py

.PHONY: quickstart install format lint type test fast slow gpu bench hooks clean

quickstart: install
	$(BIN)/udc-robust evaluate quickstart

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python .ci/basicsr_wheel.py $(VENV)/wheels
	$(BIN)/python -m pip install --find-links $(VENV)/wheels --constraint $(CONSTRAINTS) --editable '.[dev,parity]'
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
	$(BIN)/python -m pytest -m "not slow and not gpu"

slow: install
	$(BIN)/python -m pytest -m "slow and not gpu"

fast: install
	$(BIN)/python -m pytest -m "not slow and not gpu" $(wildcard $(FAST:%=tests/%))

gpu: install
	$(BIN)/python -m pytest -m gpu

bench: install
	$(BIN)/python scripts/bench_attacks.py

hooks: install
	$(BIN)/python -m pip install pre-commit
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) runs
