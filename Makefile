# `make test` and `make train` do all the set-up on a machine that has Python 3.11 with venv, then their job.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: setup test train train-digits check docs clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt perceiver_agents/__init__.py
	@echo "== Set-up 1 of 2: a virtual environment in $(VENV), with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	@echo "== Set-up 2 of 2: about 130 packages (7 GB with CUDA) are installed, which takes minutes; later runs skip this"
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@
	@echo "== Set up. The simulator's kernels are compiled at their first use, for about a minute"

# One torch thread a test process: two processes share the two cores of the smallest supported machine.
test: $(INSTALLED)
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 $(BIN)/python -m pytest -n 2 --dist loadfile

# Trains on 3m with Ray for about three minutes on two cores, evaluates and writes the report into a new folder of runs/.
train: $(INSTALLED)
	$(BIN)/perceiver-train-agent --preset 3m

train-digits: $(INSTALLED)
	$(BIN)/python -m examples.train_digits --out runs/digits

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in build/site; a warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) build *.egg-info
