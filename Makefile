# Everything here needs python 3.11 or newer, git and make; the rest is installed into .venv.

PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13 python,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
INPUTS := pyproject.toml constraints.txt
# Two tests at a time, on one thread each: sweeps in tests are as small as their start-up is long.
PYTEST := env -u HF_HUB_OFFLINE OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -q

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-all test-cluster test-pythons lint bench bench-full bench-gpu clean

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(VENV)/.installed ## install, then run a first sweep, offline, in about a minute
	HF_HUB_OFFLINE=1 $(BIN)/sweep run search_spaces/quickstart.yaml
	@echo
	@echo "Next, with a file of your own:"
	@echo "  source $(BIN)/activate"
	@echo "  sweep init my.csv && sweep run my.yaml"

test: lint ## install, then check style and types and run the quick tests, in some minutes
	$(PYTEST) -m "not slow and not cluster"

# Three at a time: they wait more than they compute.
test-slow: $(VENV)/.installed-test ## the slow tests: sweeps that are killed, broken, resumed; every backend
	tests/install_chromium.sh
	$(PYTEST) -n 3 -m "slow and not cluster"

# One after the other, so that what a quick test finds is told within minutes.
test-all: ## the quick tests, then the slow ones, then those on real clusters, in an hour or more
	$(MAKE) test
	$(MAKE) test-slow
	$(MAKE) test-cluster

# One process: a job that Ray runs looks for a cluster on its machine, and must not find that of another process.
test-cluster: $(VENV)/.installed-test ## sweeps on a real Slurm and Ray, installed with apt where it may
	tests/cluster/install.sh
	$(PYTEST) -n 0 -m cluster tests/cluster tests/conformance/test_launchers.py

test-pythons: ## the unit tests on Python 3.12 and 3.13, as far as this machine has them
	tests/other_pythons.sh 3.12 3.13

lint: $(VENV)/.installed-test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make bench DATA=mine=rows.csv TEXT=question LABEL=intent: on rows of your own.
BENCH = HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA)) $(if $(TEXT),--text $(TEXT)) \
	$(if $(LABEL),--label $(LABEL)) $(if $(MAX_LENGTH),--max-length $(MAX_LENGTH)) $(if $(MODEL),--model $(MODEL)) \
	$(if $(ONLY),--only $(ONLY))

bench: $(VENV)/.installed ## measure beside its peers, in half an hour; see benchmarks/RESULTS.md and DATA= in its README
	$(BENCH)

bench-full: $(VENV)/.installed ## the same at length and with whole sweeps of a larger model, in hours
	$(BENCH) --full

bench-gpu: $(VENV)/.installed ## the same of one GPU and a model of BERT-base's size, in at most eight minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.gpu

clean: ## remove the environment and the caches; results/ stays
	rm -rf $(VENV) $(VENV)-3.* build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests search_spaces -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "finesweep needs Python 3.11 or newer; none was found. Install one, or name it: make PYTHON=/path/to/python3"; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV); the first time, PyTorch and its like take a few minutes."
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV), with what the tests need; the first time, this takes a few minutes."
	$(PIP_INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed
