# Everything is made here; .ci/run calls nothing else.

# Also where the shell is no login shell and does not know rustup's folder.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# The program, as tests that measure throughput need it. All others test the
# one that cargo builds beside them.
export SESSIONIP := $(abspath $(or $(CARGO_TARGET_DIR),target))/release/sessionip

.PHONY: help setup build lab test bench

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' Makefile | expand -t 16

setup: ## Install what building and testing need (Debian; does nothing if it is there)
	@.ci/setup

build: ## Build target/release/sessionip
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs' >&2; exit 1; }
	cargo build --release --locked

lab: setup build ## Run the product on a network of its own and print the figures (root)
	$(SESSIONIP) lab

test: setup build ## Check style and documentation, then run every test (root)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-Dwarnings -Arustdoc::private-intra-doc-links' cargo doc --workspace --no-deps --document-private-items --locked
	cargo test --workspace --lib --bins --tests --locked --no-fail-fast

bench: ## Measure the packet path
	cargo bench --locked
