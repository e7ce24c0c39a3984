# `make` lists the tasks. `make check` is exactly what CI runs.

.DEFAULT_GOAL := help
.PHONY: help run build test simulate faults mutants fuzz schemathesis check fmt fmt-check clippy doc deny advisories typos bench tools clean

# So that warnings are errors in every check, and in no other build.
WARNINGS := -D warnings

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start the server on http://127.0.0.1:8080 with an SQLite file
	cargo run -- serve

build: ## build the program as it is released: target/release/loms
	cargo build --release --locked

test: tools ## run all tests, with a private PostgreSQL beside them; installs what they need
	tests/with-postgres.sh cargo nextest run --locked
	cargo test --doc --locked

# Compiled with little optimisation: what it links to is, and that is where the time goes.
simulate: ## run many simulations: SEEDS=100000 of them, from FIRST=1 where the first is given
	LOMS_SEEDS=$(or $(SEEDS),10000) $(if $(FIRST),LOMS_FIRST_SEED=$(FIRST)) \
	cargo --config profile.dev.package.loms.opt-level=1 test --locked --test simulation nothing_is_lost -- --nocapture

# The same tests as in `make test`, one after another, with the rounds of docs/RELIABILITY.md.
faults: tools ## try every fault in full, which takes hours: SHARE=0.1 of it, ONLY=kills some tests of it
	LOMS_FAULTS=$(or $(SHARE),1) LOMS_FAULTS_REPORT=$(CURDIR)/target/faults.md \
	tests/with-postgres.sh cargo nextest run --locked --profile faults --no-capture --test integration $(ONLY)
	@cat target/faults.md

# Not a part of `check`: each of them builds the program anew.
mutants: tools ## plant every bug of tests/mutants/ alone, and see its test fail: ONLY=timer some of them
	tests/with-postgres.sh tests/run-mutants.sh $(ONLY)

# Needs a C++ compiler, and no other Rust than the tests.
fuzz: ## give parsers bytes that nobody would send, each for SECONDS=60: TARGET=message one of them
	fuzz/run $(or $(SECONDS),60) $(TARGET)

schemathesis: ## ask the program CASES=3000 times what its OpenAPI document allows, and what not; needs Python
	tests/schemathesis.sh $(CASES)

check: fmt-check clippy doc deny typos test ## everything that CI runs

fmt: ## format the code
	cargo fmt

fmt-check: ## is the code formatted?
	cargo fmt --check

clippy: ## the lints of Cargo.toml, on the tests too
	cargo clippy --locked --all-targets -- $(WARNINGS)

doc: ## build the documentation of the code
	RUSTDOCFLAGS="$(WARNINGS)" cargo doc --locked --no-deps --document-private-items

deny: ## licences, banned crates and sources; skipped where cargo-deny is not installed
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny --locked)"; fi

# Not a part of `check`: an advisory published tonight must not make yesterday's commit fail.
advisories: ## known vulnerabilities in what we depend on; needs cargo-deny and the network
	cargo deny check advisories

typos: ## misspelt words; skipped where typos is not installed
	@if command -v typos >/dev/null; then typos; \
	else echo "skipped: typos is not installed (cargo install typos-cli --locked)"; fi

bench: ## measure the figures of load/RESULTS.md on this machine; needs oha, wrk, PostgreSQL and RabbitMQ
	load/bench

tools: ## install what the tests need: programs of PostgreSQL and RabbitMQ, an SMTP server, cargo-nextest
	@tests/install-tools.sh

clean: ## remove what was built
	cargo clean
