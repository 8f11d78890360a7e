# Two commands are enough: `make run` and `make test`. Both set up what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: run test check bench format lock clean
.DEFAULT_GOAL := run

run: .make/run
	@exec $(BIN)/bearergate demo $(ARGS)

test: .make/dev .make/system
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/core
	$(BIN)/coverage report
	$(BIN)/python -m pytest --ignore=tests/core $(ARGS)

check: .make/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .make/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .make/bench .make/system
	$(BIN)/python -m bench $(ARGS)

lock: .make/dev
	scripts/lock

.make/venv:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p .make && touch $@

.make/run: .make/venv requirements/run.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.make/dev: .make/venv requirements/dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@ .make/run

.make/bench: .make/dev requirements/bench.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

.make/system: scripts/system-packages
	scripts/system-packages
	@mkdir -p .make && touch $@

clean:
	rm -rf $(VENV) .make .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
