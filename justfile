# Each recipe is a plain cargo command; `just` only remembers it. The times are those of two cores, compilation of
# the dependencies included where it says "first".

target := "x86_64-unknown-linux-gnu"
peers := "benches/peers/Cargo.toml"
models := "cargo test --release --lib models -- --nocapture --test-threads 2"

# What there is.
default:
    @just --list --unsorted

# Everything a change has to pass. 10 minutes from a clean clone.
gate:
    .ci/run

# All tests, doc tests included. 2 minutes first, then 30 seconds.
test:
    cargo test --all-features

# Format and lints; clippy also checks what the minimum Rust version has. 1 minute first, then seconds.
lint:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings -D clippy::too_many_lines
    cargo clippy --all-targets --no-default-features -- -D warnings -D clippy::too_many_lines

# The minimum Rust version, for real: needs that toolchain installed. 1 minute first.
msrv:
    cargo +1.85 check --all-features

# The documentation, links checked. 10 seconds.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --all-features

# Licences, bans and sources of all dependencies: needs cargo-deny. Seconds.
deny:
    cargo deny --all-features check bans licenses sources

# The loom models within the bound that each one names. 3 minutes first, then 40 seconds.
loom:
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" {{models}}

# The same with one more preemption for the largest models, three for all. TIME_DEEP
loom-deep preemptions="3":
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" LOOM_MAX_PREEMPTIONS={{preemptions}} {{models}}

# The test suite under AddressSanitizer, leaks included. 4 minutes first, then 2.
asan:
    CARGO_TARGET_DIR=target/asan RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --target {{target}} --tests --no-fail-fast

# TIME_TSAN
tsan:
    CARGO_TARGET_DIR=target/tsan RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" cargo test --target {{target}} --tests --no-fail-fast

# The test suite on one core, where a spin that waits for another thread would crawl. TIME_ONE
one-core:
    taskset -c 0 cargo test --all-features

# One message at a time, under criterion: `just bench --quick`, `just bench one_by_one`. 4 minutes; with --quick half a minute.
bench *args:
    cargo bench --bench channel -- {{args}}

# Side by side with other channels. TIME_PEERS
peers *args:
    cargo run --release --manifest-path {{peers}} -- {{args}}

# The same in short. TIME_QUICK
peers-quick:
    cargo run --release --manifest-path {{peers}} -- --quick
