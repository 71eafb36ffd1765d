# The two commands: `make` runs a quick leaderboard, `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS := 1

leaderboard: .venv/ready
	$(BIN)/hacontrol run quick

test: .venv/ready
	$(BIN)/python -m pytest -n 2

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

.PHONY: leaderboard test
