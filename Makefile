# Everything sets itself up: a virtual environment in .venv, with this checkout installed in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH_CORE := benchmarks/core/.venv
PACKAGES := -e .[test,broker] -e mappers/modbus[sunspec] -e mappers/opcua -e mappers/coap -e mappers/lora[codecs] -e mappers/ble[bumble,vendors] -e simulators
C_SOURCES := $(wildcard devicemesh/_core/*.c devicemesh/_core/*.h devicemesh/_core/windows/*.c devicemesh/_core/windows/*.h)

.PHONY: demo test dtls kube-assets lint sanitize machines fuzz test-free-threaded wheels bench bench-core bench-kubernetes clean dev

demo: $(VENV)/.demo  ## live table; FOR=20 stops by itself
	@$(BIN)/devicemesh demo $(if $(FOR),--for $(FOR))

test: $(VENV)/.demo  ## everything that needs no network
	@$(BIN)/pytest -q

kube-assets:  ## kube-apiserver and etcd, for the tests of the store on an API server
	@sh tests/e2e/kubernetes/assets.sh .kube-assets

dtls: $(VENV)/.demo  ## coaps:// as well; needs autoconf and automake
	@$(BIN)/pip install --quiet --disable-pip-version-check -e 'mappers/coap[dtls]'

dev: $(VENV)/.dev

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed. Try: apt install python3 python3-venv python3-dev"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing. Try: apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(VENV)/bin/python setup.py pyproject.toml mappers/modbus/pyproject.toml mappers/opcua/pyproject.toml mappers/coap/pyproject.toml mappers/lora/pyproject.toml mappers/ble/pyproject.toml simulators/pyproject.toml $(C_SOURCES)
	@echo "Installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check $(PACKAGES) 'rich>=13'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .[dev]
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheels: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	$(BIN)/python -m build --wheel --outdir dist mappers/modbus >/dev/null
	$(BIN)/python -m build --wheel --outdir dist mappers/opcua >/dev/null
	$(BIN)/python -m build --wheel --outdir dist mappers/coap >/dev/null
	$(BIN)/python -m build --wheel --outdir dist mappers/lora >/dev/null
	$(BIN)/python -m build --wheel --outdir dist mappers/ble >/dev/null
	$(BIN)/python -m build --wheel --outdir dist simulators >/dev/null
	ls -l dist

sanitize: $(VENV)/.dev
	PYTHON=$(CURDIR)/$(BIN)/python sh tests/core/sanitize.sh

machines: $(VENV)/.dev  ## the core for ARM and others, under emulation
	PYTHON=$(CURDIR)/$(BIN)/python sh tests/core/machines.sh

fuzz:  ## RUNS inputs to each libFuzzer target
	sh tests/core/fuzz.sh $(or $(RUNS),100000)

test-free-threaded:  ## the core's tests on CPython without the GIL
	sh tests/core/free_threaded.sh

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

$(VENV)/.bench: $(VENV)/.demo
	@$(BIN)/pip install --quiet --disable-pip-version-check orjson psutil
	@touch $@

bench-kubernetes: $(VENV)/.bench kube-assets  ## 10,000 devices on an API server; OPTIONS="--devices 1000"
	@$(BIN)/pip install --quiet --disable-pip-version-check aiohttp
	$(BIN)/python benchmarks/kubernetes.py $(OPTIONS)

bench-core: $(BENCH_CORE)/.done  ## the window engine beside its bound and its peers; OPTIONS="--samples 1000000"
	$(BENCH_CORE)/bin/python benchmarks/core/run.py $(OPTIONS)

$(BENCH_CORE)/.done: $(VENV)/bin/python setup.py pyproject.toml benchmarks/core/requirements.txt $(C_SOURCES)
	@$(PYTHON) -m venv $(BENCH_CORE)
	@$(BENCH_CORE)/bin/pip install --quiet --disable-pip-version-check -e . -r benchmarks/core/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_CORE) .free-threaded build dist *.egg-info
