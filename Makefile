# njitnet: what a newcomer, a developer and the gate run. It needs Python 3.11 to 3.13, nothing else.
# Everything is installed into .venv, once, and again when pyproject.toml has changed.
#
#   make train ARGS="--iterations 1000"     arguments for the program that a target runs
#   make test PYTHON=python3.13             the Python that .venv is made with

PYTHON ?= python3
ARGS ?=

VENV = .venv
# asv and the tests find the programs of the environment first, as if it had been activated.
RUN = PATH="$$PWD/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m
INSTALL = $(RUN) pip --disable-pip-version-check install --editable

# What the history measures of each commit: two minutes' worth of the suite.
HISTORY = -b "bench_(affine|activations|softmax).*\((100|10000), 'float32', '1'" \
	-b "bench_network.*\('float32'(, '1'|\))" -b "track_ratio\('numpy', 'float32'" \
	-b "Correctness.*'float32'" -b bench_startup
MACHINE = $$(uname -n)
COMMITS = 10

.PHONY: help train test lint bench bench-check bench-pages bench-history clean
.NOTPARALLEL:

help:
	@echo "make train   train the network on MNIST"
	@echo "make test    run the tests"
	@echo "make lint    check style and types"
	@echo "make bench   measure this commit with airspeed velocity"
	@echo "make bench-check     is the working tree slower than the last commit?"
	@echo "make bench-history   measure the last commits that changed the product"
	@echo "make bench-pages     pages of all that was measured, in .asv/html"
	@echo "make clean   remove .venv and what was built"

train: $(VENV)/.njitnet
	$(RUN) net $(ARGS)

test: $(VENV)/.njitnet-dev
	$(RUN) pytest $(ARGS)

lint: $(VENV)/.njitnet-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

bench: $(VENV)/.njitnet-dev
	$(RUN) asv machine --yes
	$(RUN) asv run $(ARGS) 'HEAD^!'

bench-check: $(VENV)/.njitnet-dev
	$(RUN) asv machine --yes
	$(RUN) benchmarks.tracking.check $(ARGS)

bench-history: $(VENV)/.njitnet-dev
	$(RUN) asv machine --yes --machine $(MACHINE) --os "$$(uname -s)"
	git log -$(COMMITS) --format=%H -- kernels net | $(RUN) asv run $(HISTORY) --machine $(MACHINE) $(ARGS) HASHFILE:-
	$(RUN) benchmarks.tracking.history $(MACHINE)

bench-pages: $(VENV)/.njitnet-dev
	$(RUN) asv publish
	$(RUN) benchmarks.tracking.pages
	@echo "To look at them: $(VENV)/bin/asv preview"

clean:
	rm -rf $(VENV) build dist

# Editable: what runs is what is in this folder, after a `git pull` too.
$(VENV)/.njitnet: $(VENV)/.created pyproject.toml
	$(INSTALL) .
	touch $@

$(VENV)/.njitnet-dev: $(VENV)/.created pyproject.toml
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.njitnet

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and "njitnet: expected Python 3.11 to 3.13, got %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	touch $@
