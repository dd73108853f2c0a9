# Everything runs from .venv; `make setup` makes it. Needs Python 3.11 or newer and nothing else.
#
#   TG_WHEELS   a folder with a CPU build of PyTorch; without it the index's build is taken (several GB with CUDA)
#   PYTHON      the interpreter to make .venv with
#   ENGINE      what keeps the demo's ledger: sqlite, or kafka (starts what that needs: Java 17 and, once, Maven)
#   WORKERS     how many files of tests run side by side: one more than two cores, since many wait for servers

PYTHON    ?= python3
TG_WHEELS ?=
ENGINE    ?= sqlite
SEEDS     ?= 50
WORKERS   ?= 3

VENV  := .venv
BIN   := $(VENV)/bin
CODE  := schemas producers processors projections api edge sdk/tensorguard sdk/tg_tinker examples
LINKS := $(if $(TG_WHEELS),--find-links $(TG_WHEELS))
DEMO_kafka := --kafka
STAMP := $(VENV)/.installed

# A start reads some four thousand modules, and most of its time is their compilation where nobody keeps what it made.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench soak serve clean

help:
	@echo "make setup   install everything into .venv"
	@echo "make demo    the main job, end to end, on real input (under four minutes); ENGINE=kafka on Kafka"
	@echo "make test    the whole suite"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   benchmarks: ratios against a named baseline in the same run"
	@echo "make soak    the long tests (SEEDS=$(SEEDS) kill moments)"
	@echo "make serve   a server on ./data, http://127.0.0.1:8080"

setup: $(STAMP)

$(STAMP): pyproject.toml sdk/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(LINKS) --constraint constraints.txt torch
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(LINKS) --constraint constraints.txt \
		--editable ./sdk --editable . --group dev
	touch $@

demo: setup
	$(BIN)/tensorguard demo $(if $(filter sqlite kafka,$(ENGINE)),$(DEMO_$(ENGINE)),$(error ENGINE is sqlite or kafka))

test: setup
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.bench

soak: setup
	TG_SOAK_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q -m soak --timeout 7200 tests

serve: setup
	$(BIN)/tensorguard server --data-dir ./data --host 127.0.0.1 --port 8080

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
