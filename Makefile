# njitnet: what a newcomer, a developer and the gate run. It needs Python 3.11 or later, nothing else.
# Everything is installed into .venv, once, and again when pyproject.toml has changed.
#
#   make train ARGS="--iterations 1000"     arguments for the program that a target runs
#   make test PYTHON=python3.13             the Python that .venv is made with, anew if it was another

PYTHON ?= python3
ARGS ?=

VENV = .venv
# asv and the tests find the programs of the environment first, as if it had been activated.
RUN = PATH="$$PWD/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m
INSTALL = $(RUN) pip --disable-pip-version-check install --editable

# Tells Pythons apart; .venv/.created holds that of the Python that .venv was made with.
IDENTITY = $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3], "in", sys.base_prefix)'

# What the history measures of each commit: a few minutes' worth of the suite.
HISTORY = -b "bench_kernels.Kernel.*\('(affine|relu|sigmoid|softmax).*, 100, 'float32', '1'" \
	-b "bench_network.(Method|Train).*'float32', '1'" -b "track_ratio\('numpy', 'float32'" \
	-b "Correctness.*\('(affine|relu|softmax|conv).*'float32'" -b bench_startup
MACHINE = $$(uname -n)
COMMITS = 10
# To add them to the project's own results: KEEP=--keep.
KEEP =

# asv describes this machine once, and prints what it would ask.
ASV_MACHINE = @$(RUN) asv machine --yes > /dev/null

# Processes that test side by side: one for each core.
WORKERS ?= auto

.PHONY: help train test test-slow test-exhaustive lint docs bench bench-check bench-pages bench-history clean
.NOTPARALLEL:

help:
	@echo "make train   train the network on MNIST"
	@echo "make test    run the tests"
	@echo "make test-slow         run those that compile much, or start processes"
	@echo "make test-exhaustive   run those that take an hour"
	@echo "make lint    check style and types"
	@echo "make docs    make the site of the documentation, in docs/_build/html"
	@echo "make bench   measure this commit with airspeed velocity"
	@echo "make bench-check     is the working tree slower than the last commit?"
	@echo "make bench-history   measure the last commits that changed the product"
	@echo "make bench-pages     pages of all that was measured, in .asv/html"
	@echo "make clean   remove .venv and what was built"

train: $(VENV)/.njitnet
	$(RUN) net $(ARGS)

# A file's tests stay together: they share fixtures and what they compile.
PYTEST = $(RUN) pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

test: $(VENV)/.njitnet-dev
	$(PYTEST) -m "not slow and not exhaustive" $(ARGS)

test-slow: $(VENV)/.njitnet-dev
	$(PYTEST) -m "slow and not exhaustive" $(ARGS)

test-exhaustive: $(VENV)/.njitnet-dev
	$(PYTEST) -m "exhaustive or explores" $(ARGS)

lint: $(VENV)/.njitnet-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

docs: $(VENV)/.njitnet-dev
	$(RUN) sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)
	@echo "To look at it: docs/_build/html/index.html"

bench: $(VENV)/.njitnet-dev
	$(ASV_MACHINE)
	$(RUN) asv run $(ARGS) 'HEAD^!'

bench-check: $(VENV)/.njitnet-dev
	$(ASV_MACHINE)
	$(RUN) benchmarks.tracking.check $(ARGS)

bench-history: $(VENV)/.njitnet-dev
	$(ASV_MACHINE) --machine $(MACHINE) --os "$$(uname -s)"
	git log -$(COMMITS) --format=%H -- kernels net | $(RUN) asv run $(HISTORY) --machine $(MACHINE) $(ARGS) HASHFILE:-
	$(RUN) benchmarks.tracking.history $(MACHINE) $(KEEP)

bench-pages: $(VENV)/.njitnet-dev
	$(RUN) benchmarks.tracking.pages $(ARGS)
	@echo "To look at them: $(VENV)/bin/asv preview"

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference/generated

# Editable: what runs is what is in this folder, after a `git pull` too.
$(VENV)/.njitnet: $(VENV)/.created pyproject.toml
	$(INSTALL) .
	touch $@

$(VENV)/.njitnet-dev: $(VENV)/.created pyproject.toml
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.njitnet

# Another Python than before is taken where one is named, on the command line or by the environment.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(IDENTITY)),$(shell cat $(VENV)/.created 2>/dev/null))
.PHONY: $(VENV)/.created
endif
endif

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "njitnet: expected Python 3.11 or later, got %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	@test ! -f $@ || echo "njitnet: $(VENV) was made with Python $$(cat $@), and is made anew"
	$(PYTHON) -m venv --clear $(VENV)
	@$(IDENTITY) > $@
