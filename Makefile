# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
DEVICE := .venv-device
SERVE := .venv-serve
BIN := $(VENV)/bin
PIP := pip install --quiet --constraint constraints.txt

.PHONY: demo test check clean

demo: $(VENV)/.ready
	$(BIN)/edgeft pipeline demo

test: check $(VENV)/.ready $(DEVICE)/.ready $(SERVE)/.ready
	EDGEFT_DEVICE_PYTHON=$(CURDIR)/$(DEVICE)/bin/python EDGEFT_SERVE_PYTHON=$(CURDIR)/$(SERVE)/bin/python $(BIN)/pytest

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything: to train, to compress, to serve, to test. torch goes first, so that its pinned build is the one taken.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeft needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) torch==2.13.0
	$(BIN)/$(PIP) --editable '.[cpu,serve,report,train,qlora,demo,dev]'
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

clean:
	rm -rf $(VENV) $(DEVICE) $(SERVE) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
