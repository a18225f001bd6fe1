# Slipway. Needs Python 3.11+, make and a C library; everything else comes with `make up`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: help up test thorough lint types check bench chaos openapi lock clean

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(RUN) ## Start Slipway on this machine (PORT=8000), until Ctrl-C.
	@exec $(BIN)/python -m config.up

# A file's tests stay in one worker, for what they share.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Twenty seconds of each worker are spared by what pytest keeps of the tests that it has read.
test thorough chaos: export PYTHONDONTWRITEBYTECODE =

test: $(DEV) ## Run the tests, on a Postgres and a Valkey of their own: five minutes.
	@SLIPWAY_TESTS=quick exec $(PYTEST) $(ARGS)

thorough: $(DEV) ## Run those tests that take longer: kills, outages, every odd input.
	@SLIPWAY_TESTS=thorough exec $(PYTEST) $(ARGS)

lint: $(DEV) ## Look at style and at which room imports which.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(DEV) ## Check types, strictly.
	@$(BIN)/mypy .

check: lint types test thorough ## Everything that must hold before a commit.

bench: $(DEV) ## Measure against the budgets: ratios from one run.
	@exec $(BIN)/python -m benchmarks $(ARGS)

chaos: $(DEV) ## The slow tests that kill, freeze and cut off real processes.
	@SLIPWAY_CHAOS=long exec $(BIN)/python -m pytest tests/chaos tests/jobs/test_machine.py \
	    tests/jobs/test_replaying.py tests/test_odd_input.py tests/onboarding/test_kills.py \
	    tests/config/test_rotating_live.py tests/flows/test_runbook.py $(ARGS)

openapi: $(RUN) ## Write docs/openapi.json, unless it would break callers (ARGS=--breaking).
	@exec $(BIN)/python manage.py openapi $(ARGS)

lock: $(DEV) ## Pin the dependencies of pyproject.toml anew.
	@$(BIN)/uv pip compile pyproject.toml --extra embedded $(LOCK) --output-file requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra embedded --extra dev $(LOCK) \
	    --constraint requirements.lock --output-file requirements-dev.lock
LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url

clean: ## Remove the environment and caches. Data under .slipway/ stays.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Slipway needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps hold the locks that were installed: a changed lock, or a half-done install, is redone.
$(RUN): requirements.lock | $(BIN)/python
	@cmp -s requirements.lock $(RUN) || { echo "Installing what Slipway needs …"; \
	    $(PIP) install --require-hashes --no-deps -r requirements.lock; }
	@cp requirements.lock $(RUN)

$(DEV): requirements-dev.lock $(RUN) | $(BIN)/python
	@cmp -s requirements-dev.lock $(DEV) || { echo "Installing what tests need …"; \
	    $(PIP) install --require-hashes --no-deps -r requirements-dev.lock; }
	@cp requirements-dev.lock $(DEV)
