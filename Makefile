# The commands of the project. Each sets up what it needs, in .venv/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
COMMA := ,
# Packages are not compiled while they are installed, but when they are first imported.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test check bench size ui docs clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

run: $(VENV)/.run ## from a PDE solver to a registered model; ARGS="--preset quick"
	@$(BIN)/mno run $(ARGS)

test: $(VENV)/.dev ## the test suite, on up to four cores; ARGS="-m slow" for the long ones
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/.dev ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

bench: $(VENV)/.bench ## speed against named peers, written to benchmarks/results/ and docs/benchmarks.md
	@$(BIN)/python -m benchmarks

size: $(VENV)/.run ## how large the project is, beside what is asked for
	@$(BIN)/python -m benchmarks.size

ui: $(VENV)/.run ## MLflow's and Prefect's pages on this machine
	@$(BIN)/mno ui $(ARGS)

docs: $(VENV)/.docs ## the documentation as a static site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html"

clean: ## remove .venv/ and site/; data, models and the registry stay
	rm -rf $(VENV) site

# One stamp per set of packages, so that `make run` installs no test tools.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

define install
	@echo "Installing packages into $(VENV)/ (one to three minutes the first time)"
	@show() { if [ -t 1 ]; then awk '/^Collecting/ {n++; printf "\r\033[K  %d  %s", n, $$2; fflush()} \
	    /^Installing collected/ {printf "\r\033[K  unpacking"; fflush()} END {printf "\r\033[K"}'; \
	  else cat > /dev/null; fi; }; \
	set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  --no-compile --constraint constraints.txt --editable '$(1)' | show
	@touch $@
endef

SHELL := /bin/bash
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[all])
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[dev])
	@touch $(VENV)/.run
$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[dev$(COMMA)bench$(if $(shell command -v gfortran),$(COMMA)pyclaw)])
	@touch $(VENV)/.dev $(VENV)/.run
$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[docs])
	@touch $(VENV)/.run
