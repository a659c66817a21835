# `make repro` and `make test` are all that a fresh machine needs: python3 (3.11 to 3.13), git, a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Many containers set it; each stage would then compile TensorFlow's modules again: 10 s of CPU time.
unexport PYTHONDONTWRITEBYTECODE
# One thread for each pytest worker and each process that it starts: with more they wait for each other's cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

# The tests write tens of thousands of small files, which is many times as fast in memory. They use it where it has 6 GB
# and may run programs.
IN_MEMORY := $(shell grep -qs ' /dev/shm .*noexec' /proc/mounts || \
  df -Pm /dev/shm 2> /dev/null | awk 'NR == 2 && $$4 > 6000 { print "TMPDIR=/dev/shm" }')

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

repro: $(VENV)/run ## Run the pipeline (the embedded sample by default) and print the results
	dvc repro
	biopsy results

check: $(VENV)/dev ## Format, lint, types and the tests that start no process and train nothing
	ruff format --check .
	ruff check .
	mypy
	$(ONE_THREAD) pytest -n 2 --dist loadfile -m "not slow" tests/core tests/images tests/tables tests/sources tests/evaluation tests/project/test_conf.py tests/project/test_rooms.py

test: $(VENV)/dev ## Format, lint, types, tests
	ruff format --check .
	ruff check .
	$(MAKE) --no-print-directory -j types tests

types: $(VENV)/dev
	mypy

tests: $(VENV)/dev
	$(IN_MEMORY) $(ONE_THREAD) pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 12

coverage: $(VENV)/dev ## Run the tests and measure their coverage, which takes half as long again
	$(IN_MEMORY) $(ONE_THREAD) pytest -n 3 --dist loadfile --no-loadscope-reorder --cov

bench: $(VENV)/dev ## Measure speed and memory, a quick look, into docs/benchmarks.md
	python benchmarks/run.py

bench-full: $(VENV)/dev ## The same at full length, about two hours
	python benchmarks/run.py --full

lock: $(VENV)/dev ## Pin the newest versions in requirements.txt and requirements-dev.txt from pyproject.toml
	$(BIN)/python -m pip install -q uv
	uv pip compile -q --universal --upgrade --no-annotate --custom-compile-command "make lock" pyproject.toml --extra pipeline -o requirements.txt
	uv pip compile -q --universal --upgrade --no-annotate --custom-compile-command "make lock" pyproject.toml --extra pipeline --extra dev -c requirements.txt -o requirements-dev.txt

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: Biopsy needs Python 3.11 to 3.13; $(PYTHON) is another. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Compiling all modules would take as long as installing them, and few are ever imported. Python compiles those at their
# first import and keeps the result: here, on two cores, and not in the first stages.
PIP_INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile

$(VENV)/run: requirements.txt pyproject.toml $(VENV)/python
	$(PIP_INSTALL) -r requirements.txt
	@$(BIN)/python -c "import biopsy.networks.backend, tf2onnx" 2> /dev/null & \
	  $(BIN)/python -c "import dvc.cli, dvc.commands.repro, dvclive, hydra, pandera.pandas, seaborn, sklearn.metrics" 2> /dev/null; \
	  $(PIP_INSTALL) --no-deps -e . && wait
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/run
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

.PHONY: help repro check test types tests coverage bench bench-full lock
