# Everything runs in .venv, which is made here; nothing needs to be set up before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MINUTES := 60
SEED := 0

.PHONY: demo test test-slow torture check format bench costs zoo balance verdicts docs wheel clean

demo: $(READY)          ## train the embedded digits, compare with theory, write a report
	$(BIN)/smd demo

test: $(READY)          ## the tests, under five minutes on two cores
	$(BIN)/pytest -q

test-slow: $(READY)     ## the long ones too
	$(BIN)/pytest -q -m "not gpu"

torture: $(READY)       ## crashes of a recording run, without end: make torture MINUTES=60 SEED=1
	cd tests/records && ../../$(BIN)/python -m crash.torture --minutes $(MINUTES) --seed $(SEED)

check: $(READY)         ## style, types, walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/pytest -q tests/architecture

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)         ## every figure of the README, with machine and spread
	@for script in $(filter-out benchmarks/costs.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

costs: $(READY)         ## the README's table of costs, each figure from two runs; for a machine that does nothing else
	$(BIN)/python benchmarks/costs.py

zoo: $(READY)           ## docs/zoo.md: precision and recall against truth derived by hand; three minutes
	cd benchmarks && ../$(BIN)/python -m zoo.run

balance: $(READY)       ## docs/balance.md: the balance law on nets x optimizers x schedules; half an hour
	cd benchmarks && OMP_NUM_THREADS=1 ../$(BIN)/python -m balance.run

verdicts: $(READY)      ## docs/verdicts.md: verdicts on known faults and healthy runs; half an hour on two cores
	cd benchmarks && OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE ../$(BIN)/python -m verdicts.run

docs: $(READY)          ## pages that are generated from the code
	$(BIN)/python tools/make_cli_docs.py
	$(BIN)/python tools/make_theory_docs.py

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) dist build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
