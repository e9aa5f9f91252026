# Everything a contributor or a reader runs. `make help` lists the targets.
#
# The first target that needs it makes $(VENV) from the locked requirements.txt, with
# Python, pip and make alone; later ones re-use it. It is made anew when the lock or
# the Python version changes, and the package is installed again when pyproject.toml
# does.

PYTHON ?= python3
VENV ?= .venv
# Passed on to the command behind a target: make train ARGS="--preset best"
ARGS ?=

# Python's X.Y, or nothing where $(PYTHON) does not run or is older than 3.11.
version := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; print("%d.%d" % v[:2] if v >= (3, 11) else "")' 2>/dev/null)
locked := $(VENV)/.locked-$(version)
installed := $(VENV)/.installed-$(version)
compared := $(VENV)/.compared-$(version)
documented := $(VENV)/.documented-$(version)
bin := $(VENV)/bin

# What the interop tests were last run with. Not in requirements.txt: the right torch
# wheel depends on the machine (on Linux the default one brings CUDA, gigabytes).
interop_packages := keras==3.15.1 torch==2.13.0

# For whoever changes a line: every cell's step, with its gradients four ways, numbered
# lines, chunks, what arguments are refused, what imports what.
quick_tests := $(addprefix tests/,cells test_cell.py test_cells.py test_chunks.py \
	test_doors.py test_identities.py test_jaxprs.py test_numbered.py test_odd_arguments.py \
	test_repository.py test_step.py) \
	tests/test_gradcheck.py::test_one_step_of_every_cell_is_right_four_ways

# A worker runs whole files: what one compiles, or a fixture of it prepares, it uses.
workers := -n logical --maxprocesses 8 --dist loadfile

compile = $(bin)/uv pip compile pyproject.toml --quiet \
	--universal --python-version 3.11 --generate-hashes \
	--no-config --no-header --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv train experiments bench test test-quick test-all test-gpu test-interop docs lint format types check wheel lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=python3.13 picks the interpreter, VENV=folder the environment,'
	@echo '  ARGS="..." is passed on: make train ARGS="--help", make test ARGS="-k lstm".'

venv: $(installed) ## Make the virtual environment (the other targets do so themselves)

train: $(installed) ## Train the IMDB sentiment classifier
	$(bin)/python -m experiments.imdb $(ARGS)

experiments: $(installed) ## Run all experiments and print their results
	$(bin)/python -m experiments.everything $(ARGS)

bench: $(installed) ## Measure against other libraries
	$(bin)/python -m benchmarks $(ARGS)

test: $(installed) ## Run the tests, the slow ones left out
	$(bin)/python -m pytest $(workers) $(ARGS)

test-quick: $(installed) ## Run tests for about a minute: steps, gradients, arguments
	$(bin)/python -m pytest $(workers) $(quick_tests) $(ARGS)

test-all: $(installed) ## Run every test
	$(bin)/python -m pytest $(workers) --slow $(ARGS)

test-gpu: $(installed) ## Run what needs a GPU (jax[cuda] in the environment)
	JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_PREALLOCATE=false \
		$(bin)/python -m pytest -m gpu $(ARGS)

test-interop: $(compared) ## Compare with torch and Keras, added to the environment
	$(bin)/python -m pytest $(workers) -m interop $(ARGS)

docs: $(documented) ## Build the site into build/docs, warnings as errors
	PATH="$(abspath $(bin)):$$PATH" $(bin)/python -m sphinx \
		--fail-on-warning --fresh-env --quiet docs build/docs $(ARGS)
	@echo 'The site is in build/docs/index.html.'

lint: $(installed) ## Check style and format
	$(bin)/ruff check .
	$(bin)/ruff format --check .

format: $(installed) ## Repair style and format where that can be done
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

types: $(installed) ## Check types
	$(bin)/ty check --python $(VENV)

check: lint types test ## Lint, types and tests

wheel: $(installed) ## Build the wheel, and try it alone in a new environment
	.ci/try_wheel $(bin)/python

lock: $(locked) ## Write requirements*.txt from pyproject.toml (ARGS=--upgrade: newest)
	$(compile) --output-file requirements.txt \
		--extra flax --extra imdb --extra tfds --extra experiments \
		--extra tensorboard --extra bench --extra dev $(ARGS)
	$(compile) --output-file requirements-docs.txt \
		--extra docs --constraint requirements.txt $(ARGS)

clean: ## Remove the environments and caches, not the results under runs/
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .hypothesis build dist docs/cells docs/reference
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(locked): requirements.txt
ifeq ($(version),)
	$(error lstm_jax needs Python 3.11 or newer, and PYTHON=$(PYTHON) is not one. \
		Name one that is: make $(MAKECMDGOALS) PYTHON=python3.13)
endif
	@test ! -e $(VENV) || test -e $(VENV)/pyvenv.cfg || \
		{ echo "VENV=$(VENV) exists and is no virtual environment: not touched." >&2; exit 1; }
	@echo 'Making $(VENV) for Python $(version) from requirements.txt: minutes, 1.5 GB.'
	$(PYTHON) -m venv --clear $(VENV)
	$(bin)/python -m pip install --disable-pip-version-check -qq \
		--require-hashes --requirement requirements.txt
	@touch $@

$(installed): $(locked) pyproject.toml
	$(bin)/python -m pip install --disable-pip-version-check -qq \
		--no-deps --no-build-isolation --editable .
	@$(bin)/python -m pip check || { echo 'Is the lock old? Run `make lock`.' >&2; exit 1; }
	@touch $@

$(compared): $(installed) Makefile
	$(bin)/python -m pip install --disable-pip-version-check -qq $(interop_packages)
	@$(bin)/python -m pip check
	@touch $@

# Beside what is there: the site's lock agrees with requirements.txt.
$(documented): $(installed) requirements-docs.txt
	$(bin)/python -m pip install --disable-pip-version-check -qq \
		--require-hashes --requirement requirements-docs.txt
	@$(bin)/python -m pip check
	@touch $@
