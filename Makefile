# Every target makes what it needs: Python 3.11 (or later) and make are all a machine must have; the tests' Node.js client
# is compiled, for which they need a C++ compiler, cmake and xz as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check lock schema monitoring picture clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.filled: requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("poller needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

tests/servers/node_modules/.filled: tests/servers/package-lock.json $(VENV)/.filled
	tests/servers/debian.sh
	$(BIN)/python -m tests.servers.npm ci
	touch $@

demo: $(VENV)/.filled  ## records of three sources delivered to local functions, on this machine, without AWS
	$(BIN)/poller demo $(ARGS)

test: $(VENV)/.filled tests/servers/node_modules/.filled  ## all tests
	tests/servers/debian.sh
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

check: $(VENV)/.filled tests/servers/node_modules/.filled  ## format, lint, types, import contracts, instructions, then all tests
	tests/servers/debian.sh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.instructions
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

schema: $(VENV)/.filled  ## write config/schema.json anew
	$(BIN)/poller schema > config/schema.json

monitoring: $(VENV)/.filled  ## write the dashboard and docs/{metrics,logs,settings}.md anew, from their tables
	$(BIN)/python -m tools.monitoring

picture: $(VENV)/.filled  ## take docs/images/status.png anew: sixteen minutes of the demo's traffic, and a record that is poison
	tests/servers/debian.sh
	$(BIN)/python -m tools.status_picture

lock:  ## resolve the dependencies anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' \
		--extra postgres pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' \
		--extra demo --group dev pyproject.toml -o requirements-dev.lock

clean:  ## remove what make made
	rm -rf $(VENV) tests/servers/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: bench bench-quick
bench: $(VENV)/.filled  ## CPU beside other pollers and the floor, all scenarios: a table, and benchmarks/latest.json
	$(BIN)/python -m benchmarks.run --json benchmarks/latest.json $(ARGS)

bench-quick: $(VENV)/.filled  ## three scenarios of it, in less than a minute
	$(BIN)/python -m benchmarks.run --quick $(ARGS)

.PHONY: rules
rules: $(VENV)/.filled  ## write the Prometheus Operator's form of the alert rules anew
	$(BIN)/python deploy/kubernetes/prometheus_rule.py > deploy/kubernetes/prometheus-operator/prometheusrule.yaml
