# Leveret's commands. Each makes what it needs first: `make run` in a fresh clone is enough.
# `PYTHON=python3.13 make test` chooses the Python; everything made for it is in .venv/3.13.
PYTHON  ?= python3
SECONDS ?= 60

FLAVOUR := $(shell $(PYTHON) -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))' \
                   2> /dev/null || echo none)
ORIGIN  := $(shell $(PYTHON) -c 'import os, sys; print(os.path.realpath(sys._base_executable))' 2> /dev/null)
VENV    := .venv/$(FLAVOUR)
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip -q --disable-pip-version-check
C_BUILD := $(VENV)/c

# What ends up in the installed package.
PACKAGE := $(shell find include src python meson.build meson.options pyproject.toml README.md \
                   -type f ! -name '*_test.c' ! -name '*.pyc')

.PHONY: run test bench soak fuzz lint format sanitize clean help install python c again

run: install  ## build, install, and run the examples under plain Python and under Leveret
	@$(BIN)/python tools/run_examples.py

test: install c $(VENV)/.test  ## all tests, C and Python; PYTEST_ARGS='-k lock -x'
	LEVERET_C_BUILD=$(C_BUILD) $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: install $(VENV)/.bench  ## measure beside the standard library; BENCH_ARGS='--rivals' or '--help'
	$(BIN)/python -m bench $(BENCH_ARGS)

soak: install  ## kill random processes of a group at work; SECONDS=60 SEED=1
	$(BIN)/python tests/stress/soak.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: install c $(VENV)/.lint  ## form, types, spelling, headers and exported symbols
	tools/lint.sh $(BIN) $(C_BUILD)

format: $(VENV)/.lint  ## put C and Python into form
	tools/format.sh $(BIN)

fuzz: install  ## libFuzzer over the decoder, under ASan and UBSan; SECONDS=60
	tools/fuzz.sh $(BIN) $(SECONDS)

sanitize: install $(VENV)/.test  ## C and Python tests under ASan and UBSan, C tests under TSan; or JOBS=valgrind
	tools/sanitize.sh $(BIN) $(JOBS)

clean:  ## remove all that these commands made in the tree
	rm -rf .venv build

help:
	@echo 'make TARGET [PYTHON=python3.13]'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

# Where the Python is that all of this is installed for.
python: install
	@echo '$(abspath $(BIN))/python'

install: $(VENV)/.installed

c: $(VENV)/.made
	@[ -f $(C_BUILD)/build.ninja ] || $(BIN)/meson setup $(C_BUILD) -Dpython=disabled > /dev/null
	@$(BIN)/meson compile -C $(C_BUILD)

# An environment made by another interpreter of the same version is made again.
ifneq ($(ORIGIN),$(shell cat $(VENV)/.made 2> /dev/null))
$(VENV)/.made: again
endif
$(VENV)/.made: tools/make_venv.sh tools/requirements-build.txt
	@echo 'leveret: making $(VENV) (a virtual environment with the build tools)'
	@tools/make_venv.sh $(PYTHON) $(VENV)
	@echo '$(ORIGIN)' > $@

$(VENV)/.installed: $(VENV)/.made $(PACKAGE)
	@echo 'leveret: building and installing into $(VENV)'
	@$(PIP) install --no-build-isolation --force-reinstall --no-deps -Cbuild-dir=$(VENV)/py .
	@touch $@

$(VENV)/.test: tools/requirements-test.txt $(VENV)/.made
	@$(PIP) install -r tools/requirements-test.txt
	@# apart from the rest: where it is installed, more can be sent than the standard suites expect
	@$(PIP) install --upgrade --target $(VENV)/cloudpickle 'cloudpickle>=3,<4'
	@touch $@

$(VENV)/.bench: tools/requirements-bench.txt tools/requirements-rivals.txt $(VENV)/.made
	@tools/install_bench.sh $(VENV)
	@touch $@

$(VENV)/.lint: tools/requirements-lint.txt $(VENV)/.made
	@$(PIP) install -r tools/requirements-lint.txt
	@touch $@
