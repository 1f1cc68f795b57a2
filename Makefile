# `make table1` and `make test` are all a fresh machine needs: each sets up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs
TABLE_FLAGS ?=
ARENA_FLAGS ?=
ARENA := --methods mvtokenflow,rivals --scenes quadruped-01,crab-01 $(ARENA_FLAGS)

.PHONY: help setup table1 arena test suite nightly clusters lint style types kernels bench docs clean

help:
	@echo "make table1   Table 1 on the embedded benchmark, with a report page"
	@echo "make arena    tables 1, 2 and 4 of the method and all published ones on two scenes, with report pages"
	@echo "make test     install and run the tests (minutes)"
	@echo "make nightly  the slow tests as well, and 2000 damaged files for every reader"
	@echo "make clusters the tests on a SLURM and a Ray cluster of this machine, slow ones too (root)"
	@echo "make lint     ruff and mypy --strict"
	@echo "make docs     these documents and the Python interface as pages, build/docs/index.html"
	@echo "make bench    speed, printed against the floor and the peer"

$(STAMP): pyproject.toml constraints.txt
	@echo "[1/3] creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[2/3] installing the locked packages (torch is large; 2-6 minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip -c constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt -e ".[dev]"
	@echo "[3/3] ready"
	@touch $(STAMP)

setup: $(STAMP)

# Without network the weights stay missing, and the tests that need them skip, saying so.
# Types are checked beside the tests: alone they would leave a core idle for a minute.
test: $(STAMP) style
	@$(MAKE) --no-print-directory -j 2 types suite

suite: kernels
	-$(BIN)/mvtf-eval weights fetch lpips-alex lpips-vgg i3d-kinetics400
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

nightly: lint $(DOCS_STAMP)
	$(BIN)/mvtf-eval weights fetch lpips-alex lpips-vgg i3d-kinetics400
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow or not slow" --fuzz-count 2000
	$(BIN)/mvtf-eval regress --against eval/regression/toy4d-known.json --device cpu --markdown runs/regress.md --junit runs/regress.xml
	$(BIN)/mvtf-eval regress --against eval/regression/toy4d-mini.json --device cpu --runs runs/regress-mini --markdown runs/regress-mini.md --junit runs/regress-mini.xml

# Both clusters have two nodes on this machine; tests without root, the Debian packages or Ray skip.
clusters: kernels
	$(BIN)/pytest -ra -m "slow or not slow" tests/eval/test_slurm_cluster.py tests/eval/test_ray_cluster.py

lint: style types

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Compiled before the tests; two test processes would each compile the same.
kernels: $(STAMP)
	@$(BIN)/python tests/builders/kernels.py

$(DOCS_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $(DOCS_STAMP)

# A link to nowhere, or a docstring that cannot be read, is an error.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs: build/docs/index.html"

bench: $(STAMP)
	$(BIN)/python benchmarks/score.py
	$(BIN)/python benchmarks/toy4d.py
	$(BIN)/python benchmarks/raster.py

table1: $(STAMP)
	$(BIN)/mvtf-eval table1 --fetch-weights --site site $(TABLE_FLAGS)

# Interrupted, it goes on where it stopped: every command completes what is missing, the last one only reads.
arena: $(STAMP)
	$(BIN)/mvtf-eval table1 --fetch-weights $(ARENA)
	$(BIN)/mvtf-eval table2 --fetch-weights $(ARENA)
	$(BIN)/mvtf-eval table4 $(ARENA)
	$(BIN)/mvtf-eval report $(ARENA) --tables table1,table2,table4 -o site/arena

clean:
	rm -rf $(VENV) build *.egg-info
