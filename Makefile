# The only door to the project. Every target prepares what it needs by itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo test bench faults protos fmt lint types imports contract coverage serve work migrate lock audit clean ci

BIN := .venv/bin
JOBS ?= 2
TESTS ?= tests
COVERAGE := $(CURDIR)/.work/coverage

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## The virtual environment .venv from requirements.lock; nothing to do when nothing changed
	@tools/setup.sh

demo: setup ## A day of trading, start to end, on a private PostgreSQL (ARGS="--json ...")
	@$(BIN)/steelyard demo $(ARGS)

test: setup ## All tests (TESTS=tests/accounting JOBS=2 ARGS="-k name")
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(TESTS) $(ARGS)

bench: setup ## Ratios against references run beside them (ONLY=B5,B6 JSON=out.json)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON)) $(ARGS)

faults: setup ## The tests that kill, cut and stop what runs, the long ones too (ARGS="-k name")
	@$(BIN)/python -m pytest -m "faults or long" tests $(ARGS)

protos: setup ## Write generated/ anew from protos/
	@$(BIN)/python tools/protos.py

fmt: setup ## Bring Python and protos into form
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format --quiet .
	@tools/buf.sh write

lint: setup ## ruff: rules and form
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .  || { echo "lint: not in form: run make fmt" >&2; exit 1; }

types: setup ## mypy, strict
	@$(BIN)/mypy $(wildcard server clients migrations tests tools)

imports: setup ## Which room may know which: import-linter
	@$(BIN)/lint-imports --no-logo --cache-dir .work/import_linter

contract: setup ## buf: lint, form and no breaking change (fetches buf by npm, npm by apt as root)
	@tools/buf.sh lint
	@tools/buf.sh format
	@tools/buf.sh breaking

coverage: setup ## Exactly make test, measured; fails under the floors
	@rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)
	@STEELYARD_ROOT=$(CURDIR) COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(COVERAGE)/data $(MAKE) test
	@export STEELYARD_ROOT=$(CURDIR) COVERAGE_FILE=$(COVERAGE)/data; \
	  $(BIN)/coverage combine --quiet && $(BIN)/coverage report && $(BIN)/coverage json --quiet -o $(COVERAGE)/report.json
	@$(BIN)/python tools/coverage_floor.py $(COVERAGE)/report.json 90 \
	  server/steelyard/accounting=95 server/steelyard/operations=95 server/steelyard/builds=95

serve: setup ## The service on port 4800, with its own PostgreSQL unless told otherwise (ARGS=...)
	@$(BIN)/steelyard serve $(ARGS)

work: setup ## A worker that builds positions (ARGS=...)
	@$(BIN)/steelyard work $(ARGS)

migrate: setup ## Bring the database to the newest schema (ARGS=...)
	@$(BIN)/steelyard migrate $(ARGS)

lock: setup ## Resolve pyproject.toml into requirements.lock anew
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --quiet $(ARGS) -o requirements.lock

audit: setup ## Known vulnerabilities of the locked packages (asks the network)
	@$(BIN)/pip-audit --require-hashes --disable-pip -r requirements.lock

clean: ## Remove what make made
	@rm -rf .venv .work .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

ci: lint types imports contract coverage ## What CI runs: rules, types, rooms, contract and all tests with coverage
	@echo "ci: all checks hold"
