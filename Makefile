# Every target needs nothing but Python: it makes .venv first when that is missing or out of date.
# `make demo` and `make test` are each enough on their own after a clone.

PYTHON ?= python3
# Arguments for the program that a target runs, for example: make demo ARGS="--fast"
ARGS ?=
# Processes that share the tests; each holds a torch of its own (2.5 GB in the end), so not one for every core of a large
# machine
WORKERS ?= 2
# Arguments for pip, for example an index with CPU or CUDA builds of torch
PIP_ARGS ?=
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
# The demo's folder
OUTPUT ?= demo-output

BENCHMARKS := stage1 stage2 prediction growth serving
, := ,
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.glotprompt-installed
DOCS_STAMP := $(VENV)/.docs-installed
# Images often forbid bytecode; without it each process compiles what it imports anew, which takes longer than many tests
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/pytest
# A file's tests stay together: its fixtures are made once, and not by every process
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow test-ci test-long coverage record check types words docs bench gpu gpu-wheels release-check clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

venv: $(STAMP) ## make .venv with the exact versions of constraints.txt

demo: $(STAMP) ## classify Chichewa with English labels in every way there is (ARGS="--fast": short form)
	$(BIN)/glotprompt demo --output $(OUTPUT) $(ARGS)

test: $(STAMP) ## the fast test suite, about a minute
	$(PYTEST) -m "not slow and not long and not gpu" $(SPREAD) $(ARGS)

test-slow: $(STAMP) ## what takes longer, about five minutes: trainings, processes, real corpora
	$(PYTEST) -m "slow and not long and not gpu" $(SPREAD) $(ARGS)

# Some slow tests wait, so that on two cores a third process has work, too
test-ci: WORKERS = 3
test-ci: $(STAMP) ## both at once, which imports, collects and prepares once
	$(PYTEST) -m "not long and not gpu" $(SPREAD) $(ARGS)

test-long: $(STAMP) ## what takes longest, and what needs a GPU, Ray or a browser
	$(PYTEST) -m "long or gpu" --timeout 1800 $(ARGS)

coverage: $(STAMP) ## lines and branches that the fast suite runs
	$(PYTEST) -m "not slow and not long and not gpu" $(SPREAD) --cov --cov-report=term:skip-covered $(ARGS)

record: $(STAMP) ## regenerate golden losses, black-box records and tables of the docs (CONTRIBUTING.md says when; ARGS="-k refusals": some)
	$(PYTEST) tests/test_golden.py tests/test_records.py tests/blackbox tests/grid/test_experiment.py tests/cli/test_options.py --record $(ARGS)

check: $(STAMP) ## lint, format, spelling, types, imports between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory -j 2 -O types words

types:
	$(BIN)/pyright

words:
	$(BIN)/codespell
	$(BIN)/lint-imports

docs: $(DOCS_STAMP) ## the documentation as a site: site/index.html, readable from disk; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP) ## speed and memory beside others, a line each into benchmarks/history.jsonl (ARGS="--rounds 1 ...")
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --history benchmarks/history.jsonl $(ARGS); done

# Not in .venv: on a machine without a network it cannot be made
gpu: ## check and measure everything on a machine with one GPU, in 9 minutes (DRY=1: on the CPU, tiny)
	$(GPU_PYTHON) benchmarks/gpu/run.py --output $(or $(OUT),gpu-output) $(if $(DRY),--dry) $(ARGS)

gpu-wheels: $(STAMP) ## fetch what such a machine lacks (HAS=its `pip freeze`, ARGS="--python 3.12") into .gpu
	$(BIN)/python benchmarks/gpu/wheels.py $(if $(HAS),--has $(HAS)) $(ARGS)

release-check: ## before a release: build, twine, offline install, tutorial, notebook; 15 to 20 minutes, needs a network
	PYTHON=$(PYTHON) PIP_ARGS="$(PIP_ARGS)" .ci/release-check

clean: ## remove caches, builds and the demo's output; .venv stays
	rm -rf build dist site $(OUTPUT) .coverage .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# uv takes a quarter of pip's time. It reads none of pip's settings (a mirror, a folder of wheels), so it is given them; what
# it cannot do is left to pip. Neither compiles: of 19,000 files most are never imported.
define install
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt uv
	@eval "$$($(BIN)/python -m pip config list | sed -nE -e 's/\\n/ /g' \
		-e "s/^[^=]*\.index-url=/export UV_DEFAULT_INDEX=/p" -e "s/^[^=]*\.extra-index-url=/export UV_EXTRA_INDEX_URL=/p" \
		-e "s/^[^=]*\.find-links=/export UV_FIND_LINKS=/p" -e "s/^[^=]*\.cert=/export SSL_CERT_FILE=/p")"; \
	export UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=180; \
	$(BIN)/uv pip install --python $(BIN)/python $(PIP_ARGS) -c constraints.txt $(1) \
		|| $(BIN)/python -m pip install --no-compile $(PIP_ARGS) -c constraints.txt $(1)
endef

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("glotprompt needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(call install,-e ".[demo$(,)dev]")
	$(BIN)/python -c "import glotprompt.protocol" # compiles what every command needs
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(call install,-e ".[docs]")
	@touch $@
