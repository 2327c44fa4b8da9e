# Everything a contributor types. Needs Python 3.10 or newer, pip and make; all else goes into $(VENV).
#
#   make demo                      make test PYTEST_ARGS="-k dice"        make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES = $(wildcard src tests scripts benchmarks examples)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format bench clean

help: ## Show what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-8s %s\n' "$$name" "$$what"; done

demo: $(VENV)/.package ## Check a training project that runs without an error and learns the wrong thing
	@$(BIN)/lossproof check examples/digits || [ $$? -eq 1 ]
	@echo
	@printf '%-42s%s\n' "Next:  $(BIN)/lossproof explain LP101" "why it matters, what was measured, how to mend it" \
		"       examples/digits/README.md" "train this project, mend it, train it again"

test: $(VENV)/.torch $(VENV)/.dev ## Run the tests (installs torch)
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.package $(VENV)/.torch $(VENV)/.dev ## Check style, types, generated documents, and lossproof with itself
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict src
	$(BIN)/lossproof check $(wildcard src scripts benchmarks)
	$(BIN)/python scripts/render_rules.py --check
	$(BIN)/python scripts/render_evidence.py --check
	$(BIN)/python scripts/render_losses.py --check
	$(BIN)/python scripts/capture_demo.py --check

format: $(VENV)/.dev ## Format the code and sort the imports
	$(BIN)/ruff check --select I --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.torch $(VENV)/.dev ## Measure speed and memory beside other tools
	$(BIN)/python benchmarks/check.py $(BENCH_ARGS)

clean: ## Remove caches and build outputs (keeps the virtual environment)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts examples $(wildcard benchmarks) -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment. Some systems ship Python without ensurepip: then their own pip fills it.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "lossproof needs Python 3.10 or newer; say which: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $@ install --quiet pip; } || { rm -rf $(VENV); exit 1; }

# What is installed, as stamp files: each is made anew only when what it was made from has changed.
$(VENV)/.package: pyproject.toml | $(BIN)/python
	@echo "installing lossproof into $(VENV)" >&2
	@$(PIP) --editable .
	@touch $@

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch into $(VENV)" >&2
	@$(PIP) torch --constraint constraints.txt || { \
		echo "is there a torch for $$($(BIN)/python -V)? If not: rm -r $(VENV) and say make PYTHON=python3.12 …" >&2; exit 1; }
	@touch $@

# Where torch is wanted it goes first, so that no other package chooses its version.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python $(if $(filter lint test bench,$(MAKECMDGOALS)),$(VENV)/.torch)
	@echo "installing the development tools into $(VENV)" >&2
	@$(PIP) --editable '.[dev]' --constraint constraints.txt
	@touch $@
