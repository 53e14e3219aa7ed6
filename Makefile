# make demo   the whole way on real digits      make test   the tests
# make check  ruff, mypy, the import rule        make bench  the figures in the README
# make soak   hours of faults and fuzzing        make clean  remove what make made
# A soak that was stopped goes on when it is called again; soak.json tells how it went.
# The first Python from 3.11 on that works is taken; PYTHON=… names another.
PYTHON ?=
STORE  ?= demo/store
BIN    := .venv/bin
SETUP  := .venv/.complete
RIVALS := .venv/.rivals

.PHONY: demo test check bench soak clean setup
.DEFAULT_GOAL := demo

# One stamp, renewed only when the requirements change: a second run of any target does not install anything.
$(SETUP): pyproject.toml constraints.txt
	@python=$$(.ci/find-python $(PYTHON)) && echo "$$python -m venv .venv" && $$python -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(SETUP)

demo: $(SETUP)
	$(BIN)/digitrec fetch sample --to demo/data
	$(BIN)/digitrec --store $(STORE) ingest demo/data/train.csv
	$(BIN)/digitrec --store $(STORE) train --preset quick --promote
	$(BIN)/digitrec --store $(STORE) score demo/data/test.csv
	$(BIN)/digitrec --store $(STORE) verify
	@$(BIN)/python bench/answers.py demo/data/answers.csv $(STORE)
	@echo "Everything lies under $(STORE): datasets/, models/, predictions/."

test: $(SETUP)
	$(BIN)/pytest

check: $(SETUP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_import_rule.py

bench: $(RIVALS)
	$(BIN)/python bench/ingest.py
	$(BIN)/python bench/training.py
	for what in compete workers memory fixed orchestration; do $(BIN)/python bench/scoring.py $$what || exit; done
	$(BIN)/python bench/end_to_end.py
	$(BIN)/python bench/overheads.py

$(RIVALS): $(SETUP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

soak: $(SETUP)
	$(BIN)/python -m pytest -p tests.soak -m soak --timeout 0

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis soak.json
