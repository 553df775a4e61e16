# Everything a fresh machine (Rust, CPython with pip) needs: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Nothing asks the terminal for anything, so that CI and people run the same commands.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(shell find crates python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name Cargo.toml) \
           Cargo.toml Cargo.lock pyproject.toml
WHEEL := .build/wheel.stamp

.PHONY: run build docs test test-rust test-loom test-python test-pythons wheels lint lint-python bench bench-parser bench-gateway fuzz clean

## Build, install into .venv and serve the example on 127.0.0.1:8000.
run: build
	$(BIN)/oxicorn --bind 127.0.0.1:8000 --chdir examples/hello app:application

## Leave .venv/bin/oxicorn as the release build of the tree.
build: $(WHEEL)

$(BIN)/maturin:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'maturin>=1.9,<2'

$(WHEEL): $(SOURCES) $(BIN)/maturin
	mkdir -p .build
	rm -rf .build/wheels
	$(BIN)/maturin build --quiet --release --locked --interpreter $(BIN)/python --out .build/wheels
	$(PIP) install --force-reinstall --no-deps .build/wheels/oxicorn-*.whl
	touch $@

## Every test: Rust (pure crates, rings under loom, gateway with scripted peers), then real processes.
test: lint lint-python docs test-rust test-loom test-python

lint:
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --locked -- --deny warnings
	cargo dev tidy
	cargo dev generate-all --check

## cargo-nextest where it is installed, else cargo's own runner.
test-rust:
	@if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --workspace --locked --exclude oxicorn-python; \
	else \
	  cargo test --workspace --locked --exclude oxicorn-python; \
	fi

test-loom:
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
	  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  cargo test --quiet --package oxicorn-link --release --locked --test loom

.build/tests.stamp: tests/requirements.txt $(BIN)/maturin
	mkdir -p .build
	$(PIP) install -r tests/requirements.txt
	touch $@

## Style and types of the Python side; the stub is held against the built module.
lint-python: build .build/tests.stamp
	$(BIN)/ruff check python tests examples
	$(BIN)/ruff format --check python tests examples
	$(BIN)/mypy
	$(BIN)/stubtest oxicorn._native --allowlist tests/stubtest-allowlist.txt

# Most of a test is waiting for processes to start and end, so more of them run at once than there are processors. The
# tests of a file run one after the other, in one process, since they may share a server.
JOBS ?= $(shell expr $$(nproc) + 1)

test-python: build .build/tests.stamp
	$(BIN)/python -m pytest tests -m 'not alone' --numprocesses $(JOBS) --dist loadfile
	$(BIN)/python -m pytest tests -m alone
	$(BIN)/python -m unittest discover --start-directory bench

.build/docs.stamp: docs/requirements.txt $(BIN)/maturin
	mkdir -p .build
	$(PIP) install -r docs/requirements.txt
	touch $@

## The pages of docs/ as a site, in .build/site; a link that leads nowhere is an error.
docs: .build/docs.stamp
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs .build/site

## What `test-pythons` and `wheels` are for, beside the machine's own CPython.
PYTHONS ?= 3.13 3.14 3.15

## Build, install and run the end-to-end tests on each of PYTHONS (Debian's; needs root, see tests/pythons/run.sh).
test-pythons:
	tests/pythons/run.sh test $(PYTHONS)

## A wheel for each of PYTHONS and for the machine's own CPython, in dist/.
wheels: build
	mkdir -p dist
	cp .build/wheels/oxicorn-*.whl dist/
	tests/pythons/run.sh wheels $(PYTHONS)

## The figures of bench/README.md, beside the peers.
bench: build
	bench/setup.sh
	$(BIN)/python bench/run.py

## Instructions from head to checked request, beside httparse (needs valgrind).
bench-parser:
	cargo bench --quiet --package oxicorn-proto --bench instructions

## Instructions of the gateway for a request, a WebSocket message and 1 MiB, and memory of a connection at rest (needs
## valgrind); fails where it is more than bench/gateway-instructions.toml says, which RECORD=1 writes anew.
bench-gateway:
	cargo bench --quiet --package oxicorn-gateway --bench instructions -- $(if $(RECORD),--record)

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= request_head chunked_body connection_ops proxy_protocol header_trust uwsgi_packet fastcgi_records \
  websocket_frames scgi_head pool_frames

## The fuzz targets under libFuzzer (fuzz/README.md); `make test` replays them without it.
fuzz:
	@cargo fuzz --version >/dev/null 2>&1 || { echo 'cargo-fuzz is missing: cargo install cargo-fuzz' >&2; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || { echo 'a nightly Rust is missing: rustup toolchain install nightly' >&2; exit 1; }
	cargo run --quiet --package oxicorn-fuzz --bin fuzz-corpus -- unpack fuzz/corpus
	cd fuzz && for target in $(FUZZ_TARGETS); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=2048 || exit 1; done

clean:
	rm -rf target .build $(VENV)
