# The commands of this repository; `make` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CARGO ?= cargo
PYTHON ?= python3
ARGS ?=
RELEASE = $(or $(CARGO_TARGET_DIR),target)/release/fieldseal

# The mongod of the demo, the tests and the benches: the one you name, else the
# one on PATH, else the one that `make mongod` installs.
FIELDSEAL_MONGOD ?= $(or $(shell command -v mongod 2>/dev/null),$(CURDIR)/.mongod/mongod)
export FIELDSEAL_MONGOD

VENV := $(CURDIR)/.venv
VENV_READY := $(VENV)/.ready
SUITES_READY := $(VENV)/.ready-suites
DEPLOY_READY := $(VENV)/.ready-deploy
# Tools that cargo builds for this repository alone.
TOOLS := $(CURDIR)/.tools
CSFLE_READY := $(VENV)/.ready-csfle
NODE := tests/drivers/node
NODE_READY := $(NODE)/node_modules/.ready

.PHONY: help mongod build demo test rust-test driver-test deploy-test suites failures soak idle differential fmt lint \
	bench bench-parts bench-counts bench-life bench-perimeter check fuzz fuzz-quick licences deny sbom optimised deb docs clean toolchains node

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

mongod: $(FIELDSEAL_MONGOD) ## install a mongod in .mongod/, unless there is one
	@echo "mongod: $(FIELDSEAL_MONGOD)"

build: ## build fieldseal, optimised
	$(CARGO) build --locked --release

demo: mongod ## a guided tour, with its own mongod; ARGS=--exit ends it by itself, TLS=1 is over TLS
	$(CARGO) run --locked --quiet -- demo $(if $(TLS),--tls) $(ARGS)

# The random tests take another road with each commit, and the same one for whoever runs that commit again.
SEED = $(or $(shell commit=$$(git rev-parse HEAD 2>/dev/null) && printf %d 0x$${commit:0:8}),1)
test: export FIELDSEAL_SEED ?= $(SEED)
test: export PROPTEST_RNG_SEED ?= $(SEED)
test: $(if $(filter true,$(CI)),toolchains) ## everything: lint, unit and integration tests, drivers, what is deployed, a little fuzzing
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory rust-test
	@$(MAKE) --no-print-directory driver-test
	@$(MAKE) --no-print-directory deploy-test

rust-test: mongod ## the Rust tests, those against a real mongod included
	$(CARGO) test --locked $(ARGS)

# Built as the Rust tests build it, so that no dependency is compiled twice.
driver-test: mongod $(VENV_READY) $(SUITES_READY) node ## the drivers of other languages, through the proxy
	$(CARGO) build --locked --tests
	$(VENV)/bin/python tests/drivers/run.py $(ARGS)
	$(if $(ARGS),,$(VENV)/bin/python tests/drivers/run.py --tls)
	$(if $(ARGS),,$(VENV)/bin/python tests/suites/run.py --quick)
	$(if $(ARGS),,$(VENV)/bin/python tests/failures/run.py --quick)

deploy-test: mongod $(VENV_READY) $(DEPLOY_READY) node ## what is in deploy/, run and checked without containers
	$(CARGO) build --locked --tests
	$(VENV)/bin/python tests/deploy/run.py $(ARGS)

suites: mongod $(SUITES_READY) ## PyMongo's own tests, directly and through the proxy; takes about 20 minutes
	$(CARGO) build --locked
	$(VENV)/bin/python tests/suites/run.py $(ARGS)

failures: mongod $(VENV_READY) node ## break a replica set and the proxy while four drivers write; ARGS='--scenario frozen python'
	$(CARGO) build --locked
	$(VENV)/bin/python tests/failures/run.py $(ARGS)

soak: mongod $(VENV_READY) ## 500 connections, rotations, reloads: does memory stay, is all closed; MINUTES=10. Allocator as in the unit
	$(CARGO) build --locked --release
	MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=262144 \
	$(VENV)/bin/python tests/soak/run.py --minutes $(or $(MINUTES),10) --fieldseal $(RELEASE) $(ARGS)

idle: mongod $(VENV_READY) ## what each of many idle connections costs; CONNECTIONS=9900
	$(CARGO) build --locked --release
	ulimit -n "$$(ulimit -Hn)"; $(VENV)/bin/python tests/soak/run.py --idle $(or $(CONNECTIONS),9900) --fieldseal $(RELEASE)

differential: mongod ## the differential test for long: an hour, or SECONDS=n
	FIELDSEAL_DIFFERENTIAL_SECONDS=$(or $(SECONDS),3600) $(CARGO) test --locked --test it -- differential --nocapture

fmt: ## format the code
	$(CARGO) fmt

lint: ## is it formatted, does clippy agree
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: mongod $(VENV_READY) $(CSFLE_READY) build ## against HAProxy, and against client-side encryption, with pass or short; ARGS=--only memory is of the first alone
	ulimit -n "$$(ulimit -Hn)"; $(CARGO) bench --locked --bench relay -- $(ARGS)
	$(if $(ARGS),,$(VENV)/bin/python benches/csfle.py)

bench-parts: ## the criterion benches
	$(CARGO) bench --locked --bench parts $(ARGS)

check: lint licences ## what needs no mongod: lint, licences and unit tests
	$(CARGO) test --locked --lib

licences: ## is every crate under a licence that deny.toml allows; with cargo-deny, if it is installed
	$(PYTHON) packaging/dependencies.py licences
	@if command -v cargo-deny >/dev/null || [ -x $(TOOLS)/bin/cargo-deny ]; then \
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked --offline check licenses bans sources; \
	else echo "cargo-deny is not installed: bans and sources were not checked by it (make deny installs it)"; fi

deny: $(TOOLS)/bin/cargo-deny ## cargo deny, installed if it is not here; the advisories too, where their database is reached
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked check licenses bans sources
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked check advisories \
	|| { echo; echo "THE ADVISORIES WERE NOT CHECKED, or there are some: see above"; echo; }

sbom: ## write target/fieldseal.cdx.json: what the program is built of, as CycloneDX
	@mkdir -p target
	$(PYTHON) packaging/dependencies.py sbom --output target/fieldseal.cdx.json

optimised: mongod $(VENV_READY) ## the fastest build, by what a run of it shows, at target/optimised/fieldseal; needs llvm-profdata
	CARGO=$(CARGO) PYTHON=$(VENV)/bin/python packaging/optimised.sh

deb: build ## make a Debian package of the optimised build, in target/debian
	packaging/debian.sh

fuzz: $(TOOLS)/bin/cargo-fuzz ## fuzz each target for a minute, or SECONDS=n, or TARGET=name alone
	PATH="$(TOOLS)/bin:$$PATH" fuzz/run.sh $(or $(SECONDS),60) $(TARGET)

fuzz-quick: ## the same for three seconds each; says loudly when that cannot be
	@if $(MAKE) --no-print-directory $(TOOLS)/bin/cargo-fuzz; then $(MAKE) --no-print-directory fuzz SECONDS=3; \
	else echo; echo "NOTHING WAS FUZZED: cargo-fuzz could not be installed; the corpora ran in the unit tests"; echo; fi

bench-counts: ## the instructions of each part of the data path, by valgrind; ARGS='seal-32 open-32'
	$(PYTHON) benches/counts.py $(ARGS)

bench-life: mongod $(VENV_READY) build ## what rotating 200,000 documents costs services that go on
	$(VENV)/bin/python benches/life.py $(ARGS)

bench-perimeter: mongod $(VENV_READY) build ## what TLS, roles, audit and limits cost, as ratios
	$(VENV)/bin/python benches/perimeter.py $(ARGS)

docs: ## write docs/operators.md anew, from the table of the tests
	FIELDSEAL_WRITE_DOCS=1 $(CARGO) test --locked --test it -- operators::the_page_says_what_the_table_does

clean: ## remove what was built and installed here
	$(CARGO) clean
	rm -rf .mongod .venv .tools fuzz/target $(NODE)/node_modules

toolchains: ## install, with apt-get, what the driver tests need (CI does)
	@tests/tools/install_toolchains.sh

ifneq ($(FIELDSEAL_MONGOD),$(CURDIR)/.mongod/mongod)
$(FIELDSEAL_MONGOD):
	@echo "there is no mongod at $@, which FIELDSEAL_MONGOD names" >&2; exit 1
endif

$(CURDIR)/.mongod/mongod: | $(VENV_READY)
	@$(VENV)/bin/python tests/tools/install_mongod.py $@

$(TOOLS)/bin/cargo-%:
	@echo "building cargo-$*, for this repository alone"
	$(CARGO) install --quiet --locked --root $(TOOLS) cargo-$*

$(VENV_READY): tests/tools/requirements.txt
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv module (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(SUITES_READY): tests/suites/requirements.txt $(VENV_READY)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(CSFLE_READY): benches/csfle-requirements.txt $(VENV_READY)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# The check of the Kubernetes manifests needs all schemas of Kubernetes; without it, that test says that it was left out.
$(DEPLOY_READY): tests/deploy/requirements.txt tests/deploy/requirements-kubernetes.txt $(VENV_READY)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/deploy/requirements-kubernetes.txt \
	|| echo "pip failed: the Kubernetes manifests are not checked against Kubernetes' schemas"
	@touch $@

# Without npm, or when it fails, the driver tests say that Node was left out.
node:
	@if ! command -v npm >/dev/null; then echo "npm is not here: no Node packages"; \
	else $(MAKE) --no-print-directory $(NODE_READY) || echo "npm failed: no Node packages"; fi

$(NODE_READY): $(NODE)/package.json $(NODE)/package-lock.json
	@echo "installing the Node packages"
	@cd $(NODE) && npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error
	@touch $@
