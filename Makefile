# The project's commands. `make help` lists them; CONTRIBUTING.md says when to use which.
SHELL := /bin/sh
BIN := .venv/bin
export PYTHON ONLY DEMO_JSON KEEP
# Servers such as mosquitto are installed where an ordinary user of Debian does not look.
export PATH := $(PATH):/usr/sbin:/sbin

FUZZ_S ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench conformance mutants fuzz clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: ## System packages that are missing, and .venv (asks nothing; instant when nothing changed)
	@sh deploy/setup.sh

demo: setup ## Two emulated devices from manufacture to refusal (DEMO_JSON=file, KEEP=1)
	@$(BIN)/python -m deploy.demo

test: setup ## All tests, with real swtpm and mosquitto (ARGS='-k name' selects)
	@$(BIN)/python -m pytest -n 2 --dist=worksteal $(ARGS)

check: setup ## Lint, format, types, import rules, sizes, requirement map, refusal codes, paths
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.check_sizes
	$(BIN)/python -m tools.check_no_paths
	$(BIN)/python -m tools.check_refusals
	$(BIN)/python -m tools.check_requirements

format: setup ## Put the code into the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure; one JSON object per line (ONLY=name,name selects)
	@$(BIN)/python -m bench

conformance: setup ## Every known attack against this verifier (ARGS='--json', ARGS=id)
	@$(BIN)/python -m tools.conformance $(ARGS)

mutants: setup ## Each conformance case fails once its check is removed; minutes (ARGS=id)
	@$(BIN)/python -m tools.mutants $(ARGS)

fuzz: setup ## Every parser against random bytes (FUZZ_S=60 seconds each, ARGS=target)
	@$(BIN)/python -m tools.fuzz --seconds $(FUZZ_S) $(ARGS)

clean: ## Remove .venv and every cache
	rm -rf .venv .fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
