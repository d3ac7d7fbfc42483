# make run     the hub with an embedded MongoDB and a demo conversation, in the foreground
# make test    what CI runs: every test, at reduced counts
# make soak    the same tests at full counts; the result belongs into docs/evidence/
# make bench   the pipeline against a naive handler, as ratios; writes docs/benchmarks.md
# make check   format, lint, types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait for clocks and other processes half of their time: one worker more than cores pays.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: run test soak bench check docs clean

$(BIN)/.run: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all]'
	touch $@

$(BIN)/.dev: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all,dev]'
	touch $@

run: $(BIN)/.run
	$(BIN)/python -m docs.demo.play

test: $(BIN)/.dev
	$(PYTEST) --cov --cov-report=term-missing:skip-covered
	$(BIN)/python tests/coverage_bars.py

soak: $(BIN)/.dev
	mkdir -p docs/evidence
	OMNILINE_SCALE=full $(PYTEST) --timeout 7200 -m soak 2>&1 | tee docs/evidence/soak.txt

bench: $(BIN)/.dev
	$(BIN)/python -m tests.bench $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p hub -p normalizer -p connectors -p plugins

docs: $(BIN)/.dev
	$(BIN)/python -m hub.config > docs/reference/settings.md
	$(BIN)/python -m hub.plugin_host.hooks_page > docs/reference/hooks.md
	$(BIN)/python -m hub.channel_matrix > docs/channels/README.md

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
