# make demo          finds landmarks on a real CT and draws them
# make test          runs every test
# make bench         measures speed and memory beside what one would otherwise run, and writes Resources/Benchmarks
# make evaluate      measures the shipped weights on annotated scans and prints the report; see Resources/Evaluation
# make screenshot    runs the demo and puts its picture into the README
# make mutants       changes the code by one small error after the other, and says which ones no test notices
# make demo TORCH=cuda   the same with the CUDA build of PyTorch (several GB); the default is the CPU build
PYTHON ?= python3
TORCH ?= $(if $(wildcard .venv/.torch-cuda),cuda,cpu)
TORCH_VERSION := 2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= out/demo
TESTS ?= Testing
SCREENSHOT := Resources/Screenshots/demo.png

# Steps install into the same environment, and must not run beside each other (make -j).
.NOTPARALLEL:
.PHONY: demo screenshot bench evaluate fuzz mutants test lint clean

demo: $(VENV)/.demo
	$(BIN)/python Testing/demo/demo.py --out $(OUT)

screenshot: $(VENV)/.dev
	$(BIN)/python Testing/demo/demo.py --out $(OUT) --picture $(SCREENSHOT)

# Options of the program, for example: make bench BENCH="--quick --only 1 2"
bench: $(VENV)/.dev
	$(BIN)/python Testing/benchmarks $(BENCH)

# Annotated scans of your own: make evaluate DATA=/path/to/data EVALUATE="--baselines body-box affine bspline"
DATA ?= Resources/SampleData
REPORT ?= out/evaluation
EVALUATE ?= --baselines body-box affine bspline
evaluate: $(VENV)/.evaluate
	$(BIN)/ape-localizer evaluate $(DATA) --out $(REPORT) $(EVALUATE)
	@cat $(REPORT)/report.md

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest $(TESTS)

# Damaged files of every kind, this many of each: 20,000 in all
EXAMPLES ?= 2000
fuzz: $(VENV)/.dev
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest Testing/core/test_fuzz.py Testing/core/test_fuzz_own_files.py

# So many mutants, drawn by this seed; 0 for all, which takes hours. Parts of the code: make mutants TARGETS=core/library
MUTANTS ?= 120
SEED ?= 1
mutants: $(VENV)/.dev
	$(BIN)/python Testing/mutants --mutants $(MUTANTS) --seed $(SEED) $(TARGETS)

lint: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m codespell_lib APELocalizer Testing Resources .github *.md CITATION.cff CMakeLists.txt Makefile pyproject.toml

clean:
	rm -rf out build dist

# An environment without a working pip (venv stopped halfway, or its Python is gone) is made anew.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(BIN)/python -c 'import pip' 2>/dev/null && echo whole),whole)
$(info $(VENV) is incomplete (an earlier run was stopped?) and is made anew.)
$(shell rm -rf $(VENV))
endif
endif

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and \
	  "Python 3.10 to 3.13 is needed. Name one: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python lacks its venv package. On Debian or Ubuntu: sudo apt-get install" \
	    "$$($(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])') (or python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The CPU build by its exact name, where the configured package index has it; else from PyTorch's own CPU index.
$(VENV)/.torch-cpu: | $(VENV)/bin/python
	$(PIP) install "torch==$(TORCH_VERSION)+cpu" \
	  || $(PIP) install "torch==$(TORCH_VERSION)" --index-url https://download.pytorch.org/whl/cpu
	rm -f $(VENV)/.torch-*
	touch $@

$(VENV)/.torch-cuda: | $(VENV)/bin/python
	-$(PIP) uninstall --yes torch
	$(PIP) install "torch==$(TORCH_VERSION)"
	rm -f $(VENV)/.torch-*
	touch $@

$(VENV)/.demo: pyproject.toml setup.py $(VENV)/.torch-$(TORCH)
	$(PIP) install --editable ".[slicer]"
	touch $@

$(VENV)/.evaluate: pyproject.toml setup.py $(VENV)/.torch-$(TORCH)
	$(PIP) install --editable ".[evaluate]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --editable ".[slicer,train,dev]"
	touch $@
