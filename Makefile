PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# Tests and benchmarks open real windows, on screens that nobody sees. Debian's names of what they need:
SCREEN := xvfb-run --auto-servernum --server-args="-screen 0 1280x800x24"
SCREEN_PACKAGES := xvfb xauth libegl1 libgl1 libopengl0 libxkbcommon0 libxkbcommon-x11-0 libdbus-1-3 \
	libfontconfig1 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 \
	libxcb-render-util0 libxcb-shape0 libxcb-sync1 libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1 libglib2.0-0

# A half-made environment must not pass for a made one.
.DELETE_ON_ERROR:

.PHONY: demo test gui lint bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/sparseseg demo --out demo_output

test: lint
	command -v xvfb-run || (apt-get update && apt-get install --yes $(SCREEN_PACKAGES))
	# One thread each: several pools of threads on few cores wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/npe2 validate napari-sparseseg

gui: $(VENV)/gui.stamp
	$(BIN)/python -m napari_sparseseg.widgets

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/sparse_labels.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/boxes.py
	$(BIN)/python benchmarks/cam.py
	$(BIN)/python benchmarks/ssl/measure.py --jigsaw
	$(BIN)/python benchmarks/batch/measure.py
	$(SCREEN) $(BIN)/python benchmarks/interaction.py

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
	$(INSTALL) --editable .[all,dicom,distributed,dev]
	touch $@

$(VENV)/gui.stamp: $(VENV)/demo.stamp
	$(INSTALL) --editable .[all]
	touch $@
