# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 to 3.14.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 python3.12 python3.13 python3.14 python3 | head -1)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONPATH := operator:tests

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1\t/' | expand -t 20

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 15), "Python 3.11 to 3.14 is needed: make PYTHON=python3.12 ..."'
	@echo "== Python environment in $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: venv
venv: $(READY) ## The Python environment alone

.PHONY: binaries
binaries: $(READY) ## The lab's binaries, built once per machine into a shared cache
	@$(BIN)/python -m lab --binaries

.PHONY: demo
demo: binaries ## Nine acts on a real API server, Prometheus, Envoy and model servers
	@$(BIN)/python -m demo

.PHONY: test
test: binaries test-unit test-integration ## All tests: the pure core, then the lab

.PHONY: test-unit
test-unit: $(READY) ## The pure core, in seconds
	@echo "== Unit tests"
	@$(BIN)/python -m pytest tests/unit -n 2 --dist worksteal -q $(PYTEST)

.PHONY: test-integration
test-integration: binaries ## Against the lab
	@echo "== Integration tests"
	@$(BIN)/python -m pytest tests/integration -n 2 --dist loadfile -v $(PYTEST)

.PHONY: lint
lint: $(READY) ## Formatting, style, types, import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(READY) ## Mends formatting and what ruff can
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lab
lab: binaries ## Starts the lab with an operator, prints how to point kubectl at it, and stays
	@$(BIN)/python -m sandbox

.PHONY: crds
crds: $(READY) ## Generates crds/ and the chart's copy
	@$(BIN)/python -m modeldeployment.api crds
	@$(BIN)/python -m modeldeployment.api charts/modeldeployment-operator/crds

.PHONY: docs
docs: $(READY) ## Generates docs/dialects.md
	@$(BIN)/python -m modeldeployment.api.dialects_page docs/dialects.md

.PHONY: readme
readme: binaries ## Runs what the README shows, and writes its real outputs into it
	@$(BIN)/python -m readme

.PHONY: lock
lock: $(READY) ## Pins dependencies anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make lock' --all-extras --group dev --group lab --upgrade pyproject.toml -o requirements.lock

.PHONY: bench-fleet
bench-fleet: binaries ## 1, 100 and 1,000 models on one operator; writes build/bench-fleet.json
	@$(BIN)/python -m bench.fleet

.PHONY: bench-decide
bench-decide: $(READY) ## Decisions a second for up to 10,000 models; writes build/bench-decide.json
	@$(BIN)/python -m bench.decide

.PHONY: bench-decisions
bench-decisions: $(READY) ## How often rollout rules are wrong, and how soon right; writes build/bench-decisions.json
	@$(BIN)/python -m bench.decisions $(BENCH)

.PHONY: bench-rollouts
bench-rollouts: binaries ## 10 rollouts of a good version, half an hour side by side; writes build/bench-rollouts.json
	@$(BIN)/python -m bench.rollouts $(BENCH)

.PHONY: clean
clean: ## Removes what was built here; the lab's binaries stay in the shared cache
	@rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
