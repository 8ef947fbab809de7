# The commands of the project. Everything they write stays below this folder: .venv, .cache, .demo.
#
# Each target sets up what it needs first; where nothing changed that takes well under a second.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.SUFFIXES:

PY := .venv/bin/python
# KEEP=0 and OPA=0 mean the same as leaving them out.
on = $(filter-out 0 no false,$(1))
QUICKSTART := $(if $(call on,$(KEEP)),--keep) $(if $(call on,$(OPA)),--engine opa --opa .cache/bin/opa)
# More arguments for pytest or the benchmark: make test ARGS='-k batch -x'
ARGS ?=

.PHONY: help demo test test-full check soak bench lint types protos protos-check rego gates lock opa \
  opa-if-possible spiffe-client-if-possible node-if-possible peers-if-possible policy-lock setup clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Set up .venv from requirements.lock
	@tools/setup.sh

demo: setup $(if $(call on,$(OPA)),opa) ## Run the main job on real parts (KEEP=1: leave it running; OPA=1: a real OPA decides)
	@.venv/bin/deputy quickstart $(QUICKSTART)

test: setup opa-if-possible spiffe-client-if-possible node-if-possible peers-if-possible ## Run the tests, end to end too, and measure what they cover of the core
	@tools/test.sh $(ARGS)

test-full: setup opa-if-possible spiffe-client-if-possible node-if-possible peers-if-possible ## Run what is slow or large, and search the properties further
	@tools/node.sh --optional packages
	@tools/softhsm.sh >/dev/null
	@tools/keycloak.sh >/dev/null
	@HYPOTHESIS_PROFILE=full tools/marked.sh full --timeout=1200 $(ARGS)
	@HYPOTHESIS_PROFILE=full $(PY) -m pytest --timeout=1200 tests/properties $(ARGS)

soak: setup opa-if-possible spiffe-client-if-possible node-if-possible ## Run what is long
	@HYPOTHESIS_PROFILE=full tools/marked.sh soak --timeout=0 $(ARGS)

check: lint types protos-check rego gates ## Check lint, types, import direction, protos, Rego, locks, the built wheel

lint: setup
	@echo "ruff: rules and format"
	@.venv/bin/ruff check --quiet --output-format concise
	@.venv/bin/ruff format --check --quiet

types: setup
	@echo "mypy: strict"
	@$(PY) -m mypy --no-error-summary

protos: setup ## Compile proto/ into authz/pb and identity/pb
	@$(PY) tools/protos.py

protos-check: setup
	@echo "protos: what is checked in is what proto/ compiles to"
	@tools/check_protos.sh

rego: setup opa-if-possible
	@echo "opa: check --strict, test"
	@tools/check_rego.sh

gates: setup
	@echo "imports, locks, the built wheel"
	@$(PY) -m pytest -q tests/test_imports.py tests/test_lock.py tests/test_package.py

bench: setup ## Measure the host's floor, the full flow and each step
	@$(PY) -m tests.bench $(ARGS)

lock: setup ## Write the lock files anew (UPGRADE=1: newest versions)
	@tools/lock.sh

opa: setup ## Build the real OPA into .cache/bin (Go from the system or from PyPI)
	@tools/build_opa.sh

opa-if-possible: setup
	@tools/build_opa.sh --optional

spiffe-client-if-possible: setup
	@tools/build_spiffe_client.sh --optional

node-if-possible: setup
	@tools/node.sh --optional
	@tools/build_json_reader.sh --optional

peers-if-possible: setup
	@tools/peers.sh --optional

policy-lock: setup opa ## Prove the shipped policy equal on both engines, and write its lock
	@$(PY) tools/policy_lock.py .cache/bin/opa

clean: ## Remove everything that make wrote
	rm -rf .venv .cache .demo dist build bench-results .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find authz identity tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
