# Two commands do all of it: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: run test lint clean

run: $(STAMP)
	@$(BIN)/python -m flows.pipeline

test: $(STAMP)
	@$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The stamp is last: a set-up that was interrupted is taken up again. Prefect's database is made here once, not in the first run.
$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[centre,dev]"
	DO_NOT_TRACK=true $(BIN)/prefect server database upgrade -y > /dev/null
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .work .prefect
