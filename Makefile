# The two commands of the README are `make run` and `make test`; both do all their set-up on a fresh Debian or Ubuntu.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
MANIFEST ?= deploy/kubernetes/sandbox-toolbox.yaml

.PHONY: run test test-images test-kubernetes fuzz check format bench stress gallery manifests bundle images install dev oldest sdks system-packages clean

run: install  ## start the sandboxes API and print what a client needs
	@exec $(BIN)/toolboxd up

test: dev oldest sdks system-packages  ## everything that can be tested on this machine
	$(BIN)/pytest -n $(WORKERS) $(TESTS)

fuzz: dev system-packages  ## random requests, messages and archives: many more of them than `test` has, new ones each time
	FUZZ_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/pytest -n $(WORKERS) --timeout 3600 tests/fuzz

check: dev  ## lint, format, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

stress: dev system-packages  ## a quarter of an hour of mixed load, with budgets; build/stress has the report
	$(BIN)/python -m stress $(STRESS)

bench: dev system-packages  ## the speed card of a daemon started for it: bench/results/card.json, .svg and .html
	$(BIN)/python -m bench.card --save card

gallery: dev  ## one picture of the plots that charts are tested with, and what each is read as
	$(BIN)/python -m tests.charts.sheet build/gallery.png

manifests:  ## deploy/kubernetes from the Helm chart; in the cluster the first replica makes the keys
	@helm=$$(./tests/engines/helm) && eval "$$helm" && $$HELM template sandbox-toolbox deploy/helm/sandbox-toolbox \
	  --namespace sandbox-toolbox --set keys.create=false > $(MANIFEST)

bundle: build/bundle/LICENSE  ## the daemon with its own Python, loader and libc, in one folder for any Linux

images:  ## the container images: daemon, sandbox (the default) and desktop
	./images/build daemon sandbox desktop

test-images: dev system-packages  ## all tests of the images, those of the desktop's too
	TEST_DESKTOP_IMAGE=1 $(BIN)/pytest tests/image

test-kubernetes: dev system-packages  ## the tests on a real cluster of one node, which takes minutes to build once
	TEST_KUBERNETES=1 $(BIN)/pytest $(or $(TESTS),tests/kubernetes)

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev
oldest: $(VENV)-oldest/.installed  ## the oldest libraries that charts are taken out of
sdks: $(patsubst tests/sdk/matrix/%.txt,build/sdks/%/.installed,$(wildcard tests/sdk/matrix/*.txt))  ## older Python SDKs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed (PYTHON=...)'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./tests/engines/apt-install python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c requirements-dev.txt -e '.[controlplane,interpreter]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -r requirements-dev.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)-oldest/.installed: tests/charts/requirements-oldest.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(VENV)-oldest
	$(BIN)/python -m pip --python $(VENV)-oldest install -q --only-binary :all: -r $<
	@touch $@

build/sdks/%/.installed: tests/sdk/matrix/%.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D) install -q -r $<
	@touch $@

# What the bundle is made of.
SOURCES := pyproject.toml requirements-dev.txt README.md LICENSE NOTICE \
  $(shell find bundle charts controlplane toolbox -type f ! -path '*/__pycache__/*')

build/bundle/LICENSE: $(SOURCES) | $(BIN)/python
	@command -v cc >/dev/null || ./tests/engines/apt-install gcc libc6-dev
	$(BIN)/python -m bundle build/bundle
	@touch $@

system-packages:
	@./tests/engines/apt-install $$(cat tests/apt-packages.txt)

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist *.egg-info
