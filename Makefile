# Everything a reader or an instructor runs. Each target does its own set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := mrcnn_edu tests benchmarks figures tools notebooks
# Two processes with one thread each: threads of two processes on two cores wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
CHAPTERS := $(wildcard notebooks/*.ipynb)

.PHONY: help quickstart test lint format book test-book lab notebooks figures course-weights \
  benchmarks tables clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# One stamp for each set of extras, so that `quickstart` does not install what only tests need.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "mrcnn_edu needs Python 3.11 to 3.14: make PYTHON=/path/to/python3.13 …"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "Cannot create $(VENV): on Debian and Ubuntu install python3-venv"; exit 1; }
	@echo "Installing mrcnn_edu into $(VENV) (PyTorch is large: a few minutes, 6 GB) …"
	@$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.%: $(VENV)/.base
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@

quickstart: $(VENV)/.base  ## train a small Mask R-CNN from scratch, measure it, draw what it sees
	@$(BIN)/mrcnn-edu quickstart

test: $(VENV)/.test  ## lint, types, the library's tests, then every chapter with its outputs
	@$(MAKE) --no-print-directory lint
	@$(ONE_THREAD) $(BIN)/python -m pytest --quiet -n 2 --dist loadfile --durations 10
ifneq ($(CHAPTERS),)
	@$(BIN)/python -m pytest --quiet -n 2 --dist loadfile --nbval --nbval-current-env \
	  -p tools.nbval_chapters --nbval-sanitize-with tools/nbval_sanitise.cfg $(CHAPTERS)
endif

lint: $(VENV)/.test  ## ruff, mypy, and whether the notebooks are normalised
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/python -m tools.notebooks --check

format: $(VENV)/.test  ## format the sources
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/python -m tools.notebooks

book: $(VENV)/.book  ## run every chapter and render the course to book/_build/html
	@$(BIN)/python -m tools.book

test-book: $(VENV)/.book  ## open every page of the book in a browser; drag every widget
	@test -f book/_build/html/index.html || $(MAKE) --no-print-directory book
	@$(BIN)/python -m tools.check_book

lab: $(VENV)/.course  ## open the course in JupyterLab
	@GOMP_SPINCOUNT=$${GOMP_SPINCOUNT-10000} $(BIN)/jupyter lab --ip 127.0.0.1 --notebook-dir . \
	  --LabApp.news_url=None --LabApp.default_url=/lab/tree/notebooks/00_the_whole_machine.ipynb

notebooks: $(VENV)/.test  ## run every chapter again and store its text outputs
	@$(BIN)/python -m tools.notebooks --execute

figures: $(VENV)/.test  ## redraw the figures of the course
	@$(BIN)/python -m figures

course-weights: $(VENV)/.test  ## train the model that ships with the course again
	@$(BIN)/mrcnn-edu quickstart
	@$(BIN)/python -m benchmarks.course_weights

benchmarks: $(VENV)/.test  ## measure against torchvision; writes results/
	@for script in roi nms paste evaluate model loader "train --size 320 --steps 6 --images 16"; do \
	  $(BIN)/python -m benchmarks.$$script || exit 1; done

tables: $(VENV)/.test  ## write the tables of book/measured.md from results/
	@$(BIN)/python -m benchmarks.tables

clean:  ## remove the environment, all runs and the built book
	rm -rf $(VENV) runs book/_build
