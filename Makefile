# What one does with Tidegate, each in one command. `make` alone lists them.
#
# Arguments are passed on:   make demo ARGS="--for 20s --json"     make bench ONLY=crossing

SHELL := /bin/bash
CARGO ?= cargo
# Payloads recorded from real devices; tests that use them say plainly when they are not there.
export TIDEGATE_VECTORS ?= $(abspath ../shared/vectors)

.DEFAULT_GOAL := help
.PHONY: help demo rules test check bench torture fuzz swaps traps clean-data

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## a simulated plant, a broker, rules and a live view, from nothing (ARGS="--for 20s --json")
	@deploy/dev/setup.sh wasm
	@deploy/dev/build-rules.sh
	@$(CARGO) build --release --package tidegate
	@target/release/tidegate demo $(ARGS)

rules: ## builds all rules to target/rules/<name>.wasm
	@deploy/dev/setup.sh wasm
	@deploy/dev/build-rules.sh

test: ## all tests, with real servers (ARGS="-p tidegate-sources" for some)
	@deploy/dev/test.sh $(ARGS)

check: ## formatting, clippy, tidiness and licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet --workspace --test suite -- tidy:: architecture:: licences::

bench: ## measures, prints a table, writes target/bench/results.json (ONLY=<part of a name>, ARGS=--full)
	@deploy/dev/setup.sh test
	@deploy/dev/build-rules.sh
	@TIDEGATE_MODULES="$(CURDIR)/target/guests" deploy/dev/build-rules.sh tests/bench/guests/*/ tests/guests/*/
	@ONLY="$(ONLY)" $(CARGO) run --release --package tidegate-bench -- $(ARGS)

torture: ## kills host, broker and database under load, then accounts for every message (KILLS=200 SECONDS=3600 SEED=n RATE=n MESSAGES=n BROKER=spared)
	@deploy/dev/setup.sh test
	@deploy/dev/build-rules.sh
	@$(CARGO) build --workspace --bins
	@KILLS="$(KILLS)" SECONDS="$(SECONDS)" SEED="$(SEED)" RATE="$(RATE)" MESSAGES="$(MESSAGES)" BROKER="$(BROKER)" \
		target/debug/torture

fuzz: ## what comes from outside, changed at random: filters, modules, their test cases, guests' results, saved state (SECONDS=180 each)
	@deploy/dev/build-rules.sh
	@$(CARGO) build --workspace --bins
	@tests/fuzz/run.sh "$(or $(SECONDS),180)"

swaps: ## 1,000 changes of a rule by the API under load, then accounts for every message (SWAPS=n)
	@deploy/dev/setup.sh test
	@deploy/dev/build-rules.sh
	@TIDEGATE_MODULES="$(CURDIR)/target/guests" deploy/dev/build-rules.sh tests/guests/*/
	@$(CARGO) build --workspace --bins
	@TIDEGATE_REQUIRE_SERVERS=1 TIDEGATE_SWAPS="$(or $(SWAPS),1000)" $(CARGO) test --workspace --test suite -- many_swaps_by_the_api --nocapture

traps: ## 100,000 traps of one rule, alone and on the lanes, then what memory they left (TRAPS=n)
	@deploy/dev/setup.sh wasm
	@deploy/dev/build-rules.sh
	@TIDEGATE_MODULES="$(CURDIR)/target/guests" deploy/dev/build-rules.sh tests/guests/*/
	@TIDEGATE_TRAPS="$(or $(TRAPS),100000)" $(CARGO) test --workspace --test traps -- --nocapture

clean-data: ## removes what runs have stored here (data/), nothing that was built
	rm -rf data
