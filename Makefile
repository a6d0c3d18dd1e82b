# Everything runs in .venv, which the first target makes. PYTHON picks the interpreter (>= 3.11).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# The tests start hundreds of processes: none of them compiles the package again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint types mypy pyright layers bench bench-runs kill kill-cluster mutants faults soak fuzz test-cluster notebooks notebooks-build clean

demo: .venv/.demo        ## run the main job on this repository's own files
	$(BIN)/roost demo .

test: $(STAMP)           ## all tests
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

test-cluster: $(STAMP)   ## those that use the shared server, on a cluster of three and logs with three copies
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --roost-cluster

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: mypy pyright
mypy: $(STAMP)
	$(BIN)/mypy
pyright: $(STAMP)
	$(BIN)/pyright

layers: $(STAMP)
	$(BIN)/lint-imports

bench: $(STAMP)          ## speed beside an equal floor, as ratios
	$(BIN)/python -m benchmarks.spine

bench-runs: $(STAMP)     ## memory and resumption of a run of 100,000 tasks
	$(BIN)/python -m benchmarks.runs

kill: $(STAMP)           ## the long kill test
	$(BIN)/python -m pytest -q -s tests/kill --long --ignore tests/kill/test_leader_kills.py

kill-cluster: $(STAMP)   ## three servers, the leader killed every 20 s for 3 minutes; its figures are kept
	$(BIN)/python -m pytest -q -s tests/kill/test_leader_kills.py --long

mutants: $(STAMP)        ## breaks one promise at a time and expects the kill test to notice
	$(BIN)/python tests/kill/mutants.py

faults: $(STAMP)         ## the fault matrix, on one server and on three; results in docs/reliability.md
	cd tests && ../$(BIN)/python -m faults.matrix

soak: $(STAMP)           ## 30 minutes of random faults at 500 tasks/s, pruning on; its figures are kept in docs/soak.json
	cd tests && ../$(BIN)/python -m faults.soak

fuzz: $(STAMP)           ## 100,000 malformed messages at live agents; its figures are kept in docs/fuzz.json
	cd tests && ../$(BIN)/python -m faults.fuzz

notebooks: $(STAMP)      ## the course in JupyterLab; its options with LAB="--no-browser --port 9000"
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB) notebooks

notebooks-build: $(STAMP) ## executes the notebooks again; name some with NAMES="03-subjects 05-queue-groups"
	$(BIN)/python -m notebooks.build $(NAMES)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Roost needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[all]'
	touch $@

$(STAMP): .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/.demo

clean:
	rm -rf .venv roost-demo
