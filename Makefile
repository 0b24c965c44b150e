# Every target sets up what it needs: on a machine with Python 3.11 or newer, `make demo` is the only command.
# Choose the interpreter with `make PYTHON=/path/to/python3 ...`; it matters only while .venv does not exist.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3 python3.13 python3.12 python3.11 python3.14 python
WORKERS ?= 2
DEMO ?= examples/digits.py
BENCH ?= run transforms

VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin

.PHONY: help demo test lint format bench docs clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.installed-demo ## train a network on handwritten digits
	$(BIN)/python $(DEMO) $(DEMO_ARGS)

test: lint ## lint, then run every test (TEST_ARGS=... goes to pytest)
	$(BIN)/python -m pytest -n $(WORKERS) $(TEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff and pyright
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(BENCH_VENV)/.installed ## measure against PyTorch, JAX, HIPS autograd and MyGrad (BENCH=compiled, BENCH_ARGS=...)
	@failed=0; \
	for table in $(BENCH); do \
	    echo "$(BENCH_VENV)/bin/python -m benchmarks.$$table $(BENCH_ARGS)"; \
	    $(BENCH_VENV)/bin/python -m benchmarks.$$table $(BENCH_ARGS) || failed=1; \
	done; \
	exit $$failed

docs: $(VENV)/.installed-dev ## run every example in README.md, docs/ and the docstrings
	$(BIN)/python docs/make_reference.py
	$(BIN)/python -m pytest -n $(WORKERS) tests/docs

clean: ## remove everything that these targets made
	rm -rf $(VENV) $(BENCH_VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environments. A stamp records an installation; it is as new as the file that says what to install.

$(VENV)/bin/python $(BENCH_VENV)/bin/python:
	@for candidate in $(PYTHON); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "$$candidate -m venv $(patsubst %/bin/python,%,$@)"; \
	        exec "$$candidate" -m venv --clear $(patsubst %/bin/python,%,$@); \
	    fi; \
	done; \
	echo "Wengert needs Python 3.11 or newer, with its venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	echo "None of these is that: $(PYTHON). Name one: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BENCH_VENV)/.installed: benchmarks/requirements.txt pyproject.toml | $(BENCH_VENV)/bin/python
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@touch $@
