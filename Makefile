# make repro   the environment, then the study that params.yaml describes
# make test    the tests
# Needs Python 3.11, make and the package registry; git where there is a clone.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export PATH := $(CURDIR)/$(BIN):$(PATH)
# no telemetry, from any tool that the stages or the tests start
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: repro test test-all lint ui environment lock clean

repro: environment
	dvc repro

test: environment
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadgroup -m "not slow"

test-all: environment
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadgroup

lint: environment
	ruff check .
	ruff format --check .
	mypy

ui: environment
	flatmin ui

environment: $(READY) dvc-without-git

# the environment is stale when the lock or the package's own metadata is newer
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "flatmin needs Python 3.11: install it, or name it with 'make PYTHON=/path/to/python3.11 ...'"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  $$(grep '^uv==' requirements.lock)
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	touch $@

# an unpacked archive has no git, and DVC must be told; a clone must not be
.PHONY: dvc-without-git
dvc-without-git: $(READY)
	@test -e .git || dvc config --local core.no_scm true

# every package pinned, for Python 3.11 on Linux x86-64
lock:
	uv pip compile pyproject.toml --all-extras --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --upgrade -o requirements.lock

clean:
	rm -rf $(VENV) .flatmin runs timings evaluations sharpness data/raw data/prepared mlflow.db* mlruns
