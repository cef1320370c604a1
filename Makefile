PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# A half-made environment must not pass for a made one.
.DELETE_ON_ERROR:

.PHONY: demo test gui lint bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/sparseseg demo --out demo_output

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/npe2 validate napari-sparseseg

gui: $(VENV)/gui.stamp
	$(BIN)/napari

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/sparse_labels.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf $(VENV) demo_output build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || (apt-get update && apt-get install --yes python3-venv && $(PYTHON) -m venv --clear $(VENV))

# torch first: a range would let pip take a build with gigabytes of CUDA libraries.
$(VENV)/demo.stamp: $(BIN)/python setup.cfg constraints.txt
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(INSTALL) --editable .[dev]
	touch $@

$(VENV)/gui.stamp: $(VENV)/demo.stamp
	$(INSTALL) --editable .[all]
	touch $@
