# Each command sets up what it needs. `make help` prints this list.
PYTHON ?= python3
KILLS ?= 200
SEED ?= 1
# Tests wait for other processes a third of their time: three at once suit two cores.
WORKERS ?= 3
# Without PASSIVE, two torch processes on the same cores wait for each other by spinning, and take 100 times longer.
export OMP_WAIT_POLICY = PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install serve demo test chaos fuzz check format clean

help:  ## Print this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## Make .venv with everything in it (PYTHON=python3.12 chooses another Python)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "Setting up .venv. It takes a few minutes, once; nothing is said meanwhile."
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[api,worker,dev]'
	@touch $@

serve: install  ## Start the service on this machine and stay (see: .venv/bin/regrow serve --help)
	.venv/bin/regrow serve

demo: install  ## Do the whole job once on drawn X-rays: leaves a zip and a contact sheet in demo/
	.venv/bin/python -m samples.demo

# Processes that the tests start would compile all our code again each, were they not to keep what they compiled.
test: install  ## Run all tests, those against a real Redis and a real PostgreSQL included
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

chaos: install  ## Kill whatever runs a job, at random, 200 times (KILLS=1000 for more), and see that nothing is lost
	OMP_NUM_THREADS=1 .venv/bin/python tests/faults/chaos.py --kills $(KILLS) --seed $(SEED)

fuzz: install  ## Feed the readers of labels, and the API, with rubbish for an hour or so
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 tests/fuzz tests/api/test_schema.py --hypothesis-profile long

check: install  ## Formatting, lint, types, import contracts
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: install  ## Format the code
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean:  ## Remove what the commands above made
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
