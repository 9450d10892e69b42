# `make demo` from a fresh clone is all that is needed. PYTHON picks the interpreter, IBC_DEVICE=cpu|cuda overrides the
# GPU check, IBC_TORCH_INDEX names a mirror of PyTorch's CPU wheel index.
PYTHON ?= python3
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo browser test test-fast faults faults-long lint config docs bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup:  ## build .venv with everything in it; a second call does nothing
	@$(PYTHON) scripts/setup.py

demo: setup  ## all of it on a tiny subject: two layers
	$(VENV)/ibc run run=demo experiment=demo

browser:  ## Chromium for the browser test, where root and apt are there
	@$(PYTHON) scripts/browser.py

# One process per core, one thread each; a file's tests stay together, as they share fixtures.
# Files in their order: by number of tests, long files with few tests would come last, on one core.
FAST := OMP_NUM_THREADS=1 $(VENV)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

# While commands of the tutorial use one core, the tests of other files use the second.
SLOW := OMP_NUM_THREADS=1 $(VENV)/python -m pytest -m slow --numprocesses 2 --dist loadfile

test: setup browser  ## all tests: the fast ones first, then those that start real servers
	@stock=$$(mktemp -d) && trap 'rm -rf "$$stock"' EXIT && export IBC_TEST_STOCK="$$stock" && \
		set -x && $(FAST) && $(SLOW)

test-fast: setup  ## the tests that need no server
	$(FAST) -x

faults: setup  ## a tenth of the campaign of faults; IBC_FAULTS_SEED=N repeats one
	IBC_FAULTS=tenth OMP_NUM_THREADS=1 $(VENV)/python -m pytest tests/faults -s

faults-long: setup  ## all of it: hours
	IBC_FAULTS=all OMP_NUM_THREADS=1 $(VENV)/python -m pytest tests/faults -s

lint: setup  ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

config: setup  ## make the files of conf/ that hold defaults anew, from the dataclasses
	@$(VENV)/python -m interp_by_construction.config

docs: setup config  ## write docs/stages.md, docs/settings.md and conf/ anew, from the code
	@$(VENV)/python scripts/write_docs.py

bench: setup  ## speed of the labeler on this machine
	@for script in scripts/bench_*.py; do echo "== $$script"; $(VENV)/python $$script || exit 1; done

clean:  ## remove the environment, caches and builds; runs/ and store/ stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
