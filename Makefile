# Two commands are enough: `make run` and `make test`. Both set up what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# The data path is compiled where there is a C compiler; 0 leaves it interpreted, 1 makes it an error not to be able to.
COMPILE  ?= auto
COMPILED := build/compiled
SOURCES  := $(shell find gateway policies -name '*.py' -o -name '*.yaml') hatch_build.py pyproject.toml scripts/compile

.PHONY: run test check bench format lock clean
.DEFAULT_GOAL := run

run: .make/run .make/compiled-$(COMPILE)
	@PYTHONPATH=$(COMPILED) exec $(BIN)/bearergate demo $(ARGS)

test: .make/dev .make/system .make/compiled-$(COMPILE)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/core
	$(BIN)/coverage report
	$(BIN)/python -m pytest --ignore=tests/core $(ARGS)
# The same once more on the compiled data path; tests/wire derives from classes that are closed there.
	@if [ -d $(COMPILED) ]; then set -x; TEST_COMPILED=$(COMPILED) $(BIN)/python -m pytest --ignore=tests/wire $(ARGS); fi

check: .make/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .make/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .make/bench .make/system .make/compiled-$(COMPILE)
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

.make/compiled-$(COMPILE): .make/run $(SOURCES)
	scripts/compile $(BIN)/python $(COMPILE)
	@rm -f .make/compiled-* && touch $@

.make/system: scripts/system-packages
	scripts/system-packages
	@mkdir -p .make && touch $@

clean:
	rm -rf $(VENV) .make build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
