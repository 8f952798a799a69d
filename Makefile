# Everything is made here; .ci/run calls nothing else.

# Also where the shell is no login shell and does not know rustup's folder.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# The program, as tests that measure throughput need it. All others test the
# one that cargo builds beside them.
export SESSIONIP := $(abspath $(or $(CARGO_TARGET_DIR),target))/release/sessionip

# The same for Windows: the folder of what the tests run under Wine.
export SESSIONIP_WINDOWS := $(abspath $(or $(CARGO_TARGET_DIR),target))/x86_64-pc-windows-gnu/debug
# What goes into 32-bit programs.
WINDOWS32_BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))/i686-pc-windows-gnu/debug
# Not the benches of what only Linux has.
WINDOWS_TARGETS := --lib --bins --tests --bench packet --bench engine --bench socket_table --bench windivert
WINDOWS_TESTED := -p sessionip -p sessionip-hook -p sessionip-hook-dll
WINDOWS32_TESTED := -p sessionip-hook -p sessionip-hook-dll

.PHONY: help setup build lab test bench windows windows-reproducible windows-setup windows-build

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' Makefile | expand -t 29

setup: ## Install what building and testing need (Debian; does nothing if it is there)
	@.ci/setup

build: ## Build target/release/sessionip, and libnss_sessionip.so.2 beside it
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs' >&2; exit 1; }
	cargo build --release --locked --package sessionip --package sessionip-names
	cp $(dir $(SESSIONIP))libnss_sessionip.so $(dir $(SESSIONIP))libnss_sessionip.so.2

lab: setup build ## Run the product on a network of its own and print the figures (root)
	$(SESSIONIP) lab

windows-setup: ## Install the Windows toolchain, Wine and WinDivert (Debian; does nothing if they are there)
	@.ci/setup-windows

windows: windows-setup ## Make dist/sessionip-windows-x64.zip, all that a Windows server needs
	@.ci/bundle

windows-reproducible: windows-setup ## Make it twice, from two clean clones, and compare (commit first)
	@.ci/bundle --check

windows-build: windows-setup ## Build for Windows, with debug assertions
	. .ci/windows-env && cargo build $$WINDOWS --workspace --locked
	. .ci/windows-env && cargo build $$WINDOWS32 -p sessionip-hook-dll -p sessionip-hook-inject --locked
	@.ci/name-hooks $(SESSIONIP_WINDOWS) $(WINDOWS32_BUILT) $(SESSIONIP_WINDOWS)
	@# An unoptimized executable imports it, and who starts one passes no path on.
	@. .ci/windows-env && cp "$$WINDIVERT_PATH/WinDivert.dll" $(SESSIONIP_WINDOWS)/deps/
	@$(MAKE) --no-print-directory -C tests/windows/victims

test: setup build windows-setup windows-build ## Check style and documentation, then run every test (root)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-Dwarnings -Arustdoc::private-intra-doc-links' cargo doc --workspace --no-deps --document-private-items --locked
	cargo test --workspace --lib --bins --tests --locked --no-fail-fast
	. .ci/windows-env && cargo clippy $$WINDOWS --workspace $(WINDOWS_TARGETS) --locked -- -D warnings
	. .ci/windows-env && cargo test $$WINDOWS $(WINDOWS_TESTED) --lib --tests --no-fail-fast --locked
	. .ci/windows-env && cargo clippy $$WINDOWS32 $(WINDOWS32_TESTED) -p sessionip-hook-inject --lib --bins --tests --locked -- -D warnings
	@# Wine cannot walk the stack of a 32-bit thread to its end.
	. .ci/windows-env && RUST_BACKTRACE=0 cargo test $$WINDOWS32 $(WINDOWS32_TESTED) --lib --tests --no-fail-fast --locked

bench: ## Measure the packet path
	cargo bench --locked
