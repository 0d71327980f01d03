# The only entry points. `make` lists them. Everything is built with the release profile and for the whole workspace,
# so that RocksDB is compiled once.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/cairn/target
CARGO ?= cargo
BIN := $(CARGO_TARGET_DIR)/release
ALL := --release --workspace

# Where `make run` keeps its data.
DATA ?= $(HOME)/.local/share/cairn

.DEFAULT_GOAL := help
.PHONY: help demo run test test-kube e2e bench compare generate crds deploy fmt lint deps emulators build guest

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Built in $(CARGO_TARGET_DIR) (CARGO_TARGET_DIR). Variables: DATA and ARGS (run), ARGS (demo)."

deps: ## install what the build needs and this machine lacks (Debian: apt)
	@xtask/scripts/deps.sh build

emulators: ## install what the tests against emulated object stores need (npm, into ~/.cache/cairn)
	@xtask/scripts/deps.sh emulators

build: deps ## cairnd, cairn and the test programs, in release mode
	$(CARGO) build $(ALL) --bins

demo: build ## copy a real tree in over NFS, snapshot, break it, restore, kill, fork; every byte compared
	$(BIN)/cairn-demo $(ARGS)

run: build ## cairnd in the foreground with a workspace "main"; DATA=directory, ARGS=flags of cairnd
	@xtask/scripts/run.sh "$(BIN)" "$(DATA)" $(ARGS)

fmt: ## format all sources
	$(CARGO) fmt --all

lint: deps ## formatting, the house rules (xtask tidy), and clippy without a warning
	$(CARGO) fmt --all -- --check
	$(CARGO) run --release --quiet -p cairn-xtask -- tidy
	@xtask/scripts/deps.sh deploy
	$(CARGO) run --release --quiet -p cairn-xtask -- deploy
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings

test: lint build emulators ## lint, and all tests but those of the kernel client; as root also those on file systems that they make
	@xtask/scripts/deps.sh tests
	$(CARGO) test $(ALL)

test-kube: ## the rules of the API server of the tests, held against a real one (builds it with Go on first use)
	assets=$$(xtask/scripts/kubebuilder-assets.sh) && \
	  export KUBEBUILDER_ASSETS=$$assets CAIRN_REAL_KUBE=1 && \
	  $(CARGO) test --release -p cairn-apiserver --test rules -- --nocapture a_real_server && \
	  $(CARGO) test --release -p cairn-crds --test resources -- --nocapture a_real_api_server

guest: ## build the guest of `make e2e` (it does so by itself on first use)
	@xtask/scripts/deps.sh e2e
	e2e/guest/build

e2e: build ## tests with a Linux kernel NFS client in a small virtual machine (needs root)
	@xtask/scripts/deps.sh e2e
	CAIRN_E2E_KERNEL=1 $(CARGO) test $(ALL) --test 'kernel_*' -- --test-threads 1

generate: ## the RPC code and its pages in docs/api, after a change of a file in api/proto
	$(CARGO) run --release --manifest-path api/generate/Cargo.toml

crds: ## the manifests of the Kubernetes resources, after a change in crds/src
	$(CARGO) run --release --quiet -p cairn-crds --bin crdgen

deploy: crds ## what is installed into clusters (kustomize, install.yaml), after a change of the chart or of the resources
	@xtask/scripts/deps.sh deploy
	$(CARGO) run --release --quiet -p cairn-xtask -- deploy --write

bench: deps ## criterion benchmarks of the hot paths
	$(CARGO) bench --workspace --bench '*'

compare: build ## the same work on Cairn and on others of this machine; ARGS=archive, or kernel or directory (both need root)
	@[[ "$(ARGS)" != kernel* ]] || xtask/scripts/deps.sh compare
	@[[ "$(ARGS)" != archive* && "$(ARGS)" != directory* ]] || xtask/scripts/deps.sh compare-archive
	$(BIN)/cairn-compare $(or $(ARGS),transport)
