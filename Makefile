# make demo, make test: both create .venv on a fresh machine and cost nothing extra after that.
PYTHON ?= $(shell command -v python3)
BIN := .venv/bin
STAMP := .venv/.stamp
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DIGITS := models/digits
DEMO := build/demo
REPO ?= repo
PORT ?= 8000

.PHONY: help venv demo test test-heavy test-serve serve check format
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile

venv: $(STAMP)  ## create .venv and install mipack into it (another Python: make venv PYTHON=/path/to/python)

# torch goes first and alone: it is by far the largest, so a failed download is met at once.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: name one with PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit("mipack needs Python 3.11 or later: name one with PYTHON=/path/to/python" if sys.version_info < (3, 11) else 0)'
	"$(PYTHON)" -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev,serve]'
	@touch $@

demo: $(STAMP)  ## prune the bundled example, then evaluate and time it beside the original
	@mkdir -p $(DEMO)
	$(BIN)/mipack prune $(DIGITS)/model.onnx --calib $(DIGITS)/calib.npz --keep 0.4 -o $(DEMO)/digits.pruned.onnx --force
	$(BIN)/mipack eval $(DIGITS)/model.onnx $(DEMO)/digits.pruned.onnx --data $(DIGITS)/test.npz --labels $(DIGITS)/labels.npy
	$(BIN)/mipack bench $(DIGITS)/model.onnx $(DEMO)/digits.pruned.onnx

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -m "not heavy" -n 2 --dist loadfile

test-heavy: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m heavy

test-serve: $(STAMP)  ## packages in a real tritonserver, 60 s of load on each model; says why if it cannot run
	MIPACK_LOAD_SECONDS=60 $(BIN)/python -m pytest tests/serve -rs

serve: $(STAMP)  ## run a packaged folder on this machine without Docker: make serve REPO=repo [PORT=8000]
	$(BIN)/python tests/serve/standin.py "$(REPO)" --http-port $(PORT)

check: $(STAMP)  ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## rewrite the files in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
