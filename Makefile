# Two commands are enough: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: run test test-production lint clean

run: $(STAMP)
	@$(BIN)/python -m flows

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --durations=25

# Failures of a federation, each tested on a real one on loopback: about half an hour. Prints the table of
# docs/production.md.
test-production: $(STAMP)
	@$(BIN)/python -m pytest -m production

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The stamp is written last, so that an interrupted set-up is continued. Prefect's database is created here once, not
# in the first run.
$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[centre,dicom,he,dev]"
	DO_NOT_TRACK=true $(BIN)/prefect server database upgrade -y > /dev/null
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .work .prefect
