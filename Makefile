# Two commands do everything on a fresh machine: `make demo` and `make test`. `make install` only installs; `make bench`
# measures, beside other engines, and rewrites its parts of README.md and docs/benchmarks.md. `make test-fast` answers
# while one works: the linters but mypy, and the tests that train, capture and start nothing.
PYTHON ?= python3
# Processes of the tests; each takes about 3 GB.
WORKERS ?= 2
VENV := .venv
DEVICE := .venv-device
SERVE := .venv-serve
NAMES := .venv-names
BIN := $(VENV)/bin
PIP := pip install --quiet --constraint constraints.txt

# Hundreds of processes of the tests would compile edgeft anew where Python may not keep what it compiled.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: install demo test test-fast check sanitize bench clean

install: $(VENV)/.ready

demo: $(VENV)/.ready
	$(BIN)/edgeft pipeline demo

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/side_by_side.py

test: check $(VENV)/.ready $(DEVICE)/.ready $(SERVE)/.ready $(NAMES)/.ready
	$(NAMES)/bin/pytest tests/cleaning/test_cleaning_names.py
	EDGEFT_DEVICE_PYTHON=$(CURDIR)/$(DEVICE)/bin/python EDGEFT_SERVE_PYTHON=$(CURDIR)/$(SERVE)/bin/python \
		$(PYTEST) --durations=30

test-fast: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(PYTEST) -m 'not slow' -q

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The kernels under the address and undefined-behaviour sanitizers, a part of `make test`; the log is build/asan.log.
sanitize: $(VENV)/.ready
	$(BIN)/pytest tests/runtime/test_kernels_sanitized.py

# Everything: to train, to compress, to serve, to test. torch goes first, so that its pinned build is the one taken.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeft needs Python 3.11 or later")'
	@echo 'installing torch and the rest, about 2.5 GB: a few minutes'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) torch==2.13.0
	$(BIN)/$(PIP) --editable '.[cpu,serve,report,train,augment,single,sign,qlora,demo,dev]'
	touch $@

# What a device has: the runtime alone, or with the server; no torch.
$(DEVICE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/$(PIP) --editable '.[cpu]'
	touch $@

$(SERVE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/$(PIP) --editable '.[cpu,serve]'
	touch $@

# Names and places in texts are found by presidio and spaCy; they bring the full phonenumbers, which shares its folder
# with the light one of the other environments.
$(NAMES)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(NAMES)
	$(NAMES)/bin/$(PIP) --editable '.[names]' hypothesis pytest pytest-timeout
	touch $@

clean:
	rm -rf $(VENV) $(DEVICE) $(SERVE) $(NAMES) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
