# Two commands do everything on a fresh machine with Rust, make and a C compiler:
#   make demo   a guided tour: a lab, the kinds of Service, real traffic, a verdict per row
#   make test   every test, lint and format check
# On Debian, as root:
#   make test-kernels   the cases and the churn on other kernels, in QEMU

CARGO ?= cargo
DAYMARK = target/debug/daymark

.PHONY: build demo test test-kernels unit lint cases peers alerts conformance bench bench-peers mutants release images help

help: ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

build: ## the binary, with optimised dependencies
	$(CARGO) build --locked -p daymark

demo: build ## a lab with real packets, one verdict a row
	$(DAYMARK) demo

test: build lint unit cases ## everything that runs in minutes

test-kernels: build ## the cases and the churn on other kernels, in QEMU (docs/kernels.md)
	kernels/test

unit: ## unit, property and integration tests
	$(CARGO) test --locked --workspace

lint: ## formatting, clippy, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) fetch --locked --quiet && $(CARGO) deny --offline check bans licenses sources; \
	 else echo "skipped: cargo deny is not installed (cargo install --locked cargo-deny)"; fi

cases: build ## every case before every judge
	$(DAYMARK) case cases cases/unseen --judge model
	$(DAYMARK) case cases cases/unseen --judge trace --dataplane nft
	$(DAYMARK) case cases --judge lab --dataplane nft

PEERS = target/peers/bin
PARTS ?= kubernetes etcd
# bench-peers: RUNS=1 for a first look, ONLY=churn,connections for a part, OUTPUT=markdown for docs/benchmarks.md.
RUNS ?= 3
ONLY ?=
OUTPUT ?= text
CLUSTERS ?= 200
# Where these programs are missing nothing is held beside anything: it is said, and is no failure.
WITH_PEERS = peers/need.sh go nft curl || { [ $$? = 3 ] && exit 0 || exit 1; }; peers/build.sh $(PEERS) $(PARTS)

peers: ## the real kube-proxy, API server, controllers, kubectl and etcd, from their Go modules
	@peers/need.sh go && peers/build.sh $(PEERS) $(PARTS)

alerts: ## the alerts of docs/metrics.md, tried with the real promtool, from its Go module
	@peers/need.sh go && peers/build.sh $(PEERS) prometheus && peers/prometheus/run.sh $(PEERS)

conformance: build ## daymark beside the real kube-proxy, under the real API server
	@$(WITH_PEERS) && $(DAYMARK) conformance --peers $(PEERS) --clusters $(CLUSTERS) && \
	 $(DAYMARK) lab run --peers $(PEERS) examples/e2e && peers/kubectl/run.sh $(DAYMARK) $(PEERS) && \
	 peers/move/run.sh $(DAYMARK) $(PEERS)

MUTANTS ?=
CARGO_MUTANTS = 27.1.0

mutants: ## one-line faults in model, one by one: which does no case and no property see (an hour; docs/testing.md)
	@command -v cargo-mutants >/dev/null || $(CARGO) install --locked cargo-mutants --version $(CARGO_MUTANTS)
	@CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=debuginfo \
	 PROPTEST_CASES=32 PROPTEST_RNG_SEED=1 PROPTEST_MAX_SHRINK_ITERS=0 \
	 $(CARGO) mutants -p daymark-model --output target --timeout 60 $(MUTANTS) -- --test model; \
	 code=$$?; [ $$code = 0 ] || [ $$code = 2 ] || exit $$code
	@sed -E 's/:[0-9]+:[0-9]+: /: /' target/mutants.out/missed.txt | \
	 { new=0; while read -r line; do grep -qF "$$line" docs/testing.md || { new=1; echo "not in docs/testing.md: $$line"; }; done; exit $$new; }

release: ## the optimised binary
	$(CARGO) build --locked --release -p daymark

BUILDER ?= docker
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

images: release ## the images of deploy/, by docker; BUILDER=podman or BUILDER=buildah by those
	$(BUILDER) build --file deploy/Dockerfile --tag daymark:$(VERSION) .
	$(BUILDER) build --file deploy/Dockerfile --target cleanup --tag daymark-cleanup:$(VERSION) .

bench: release ## measurements as JSON
	target/release/daymark bench

bench-peers: release ## measurements beside the real kube-proxy, as root
	@$(WITH_PEERS) && target/release/daymark bench --peers $(PEERS) --runs $(RUNS) $(ONLY:%=--only %) \
	  --output $(OUTPUT)
