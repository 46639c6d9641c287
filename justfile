# Each recipe is a plain cargo command; `just` only remembers it. The times are those of two cores, compilation of
# the dependencies included where it says "first".

target := "x86_64-unknown-linux-gnu"
peers := "benches/peers/Cargo.toml"
models := "cargo test --release --lib models -- --nocapture --test-threads 2"
shuttles := "cargo test --release --lib shuttles -- --nocapture --test-threads 2"

# What there is.
default:
    @just --list --unsorted

# Everything a change has to pass. 6 minutes from a clean clone.
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

# The example with metrics, to be looked at in a browser: http://127.0.0.1:9464/.
metrics-server *args:
    cargo run --release --features prometheus --example metrics_server -- {{args}}

# A picture of its page for docs/metrics.md. Needs `apt-get install chromium chromium-driver`.
screenshot:
    TURBOSTREAM_REQUIRE_SERVERS=1 TURBOSTREAM_SCREENSHOT=docs/metrics-page.png cargo test --all-features --test live_page

# The minimum Rust version, for real: needs that toolchain installed. 1 minute first.
msrv:
    cargo +1.85 check --all-features

# The documentation, links checked. 10 seconds.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --all-features

# What is public that docs/public-api.txt does not list, and the other way round; `just public-api --write` writes it
# anew. Half a minute first.
public-api *args:
    CARGO_TARGET_DIR=target/public-api cargo run --manifest-path tools/public-api/Cargo.toml -- {{args}}

# Licences, bans and sources of all dependencies: needs cargo-deny. Seconds.
deny:
    cargo deny --all-features check bans licenses sources

# The loom models within the bound that each one names. 4 minutes first, then 2 and a half.
loom:
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" {{models}}

# One model, or all, with more preemptions: minutes to hours, by model.
loom-deep model="models" preemptions="3":
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" LOOM_MAX_PREEMPTIONS={{preemptions}} cargo test --release --lib {{model}} -- --nocapture --test-threads 2

# End-to-end runs under shuttle, in random schedules. 3 minutes first, then half a minute.
shuttle:
    CARGO_TARGET_DIR=target/shuttle RUSTFLAGS="--cfg turbostream_shuttle" {{shuttles}}

# The same with many more schedules: 36,000 times `effort`. A quarter of an hour.
shuttle-deep effort="30":
    TURBOSTREAM_EFFORT={{effort}} CARGO_TARGET_DIR=target/shuttle RUSTFLAGS="--cfg turbostream_shuttle" {{shuttles}}

# Random operations against a plain queue: 30,000 times `effort`. 3 minutes.
state-machine effort="50":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test state_machine -- --nocapture

# Storms of cancellations: some 15,000 times `effort`. 10 minutes.
cancel-storm effort="80":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test cancel_storm -- --nocapture

# Puts faults into a copy of the code, one at a time, and tells which suite notices: needs Python 3.11. Hours.
faults *args:
    faults/inject.py {{args}}

# The test suite under AddressSanitizer, leaks included. 4 minutes first, then 2. No backtraces, as the tests panic
# hundreds of times on purpose.
asan *args:
    CARGO_TARGET_DIR=target/asan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=5 RUSTFLAGS=-Zsanitizer=address cargo test --target {{target}} --all-features --tests --no-fail-fast {{args}}

# The test suite under ThreadSanitizer: `just tsan --test conservation`. Needs a C compiler. The standard library comes
# compiled without it, so the crate and tokio are built with other locks; see tests/tsan.supp and tests/tsan.c. 5 minutes
# first, then 10.
tsan *args="--tests":
    mkdir -p target/tsan
    cc -O1 -Wall -Werror -c tests/tsan.c -o target/tsan/tsan.o
    CARGO_TARGET_DIR=target/tsan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=10 TSAN_OPTIONS="suppressions={{justfile_directory()}}/tests/tsan.supp" RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg turbostream_tsan -Clink-arg=-Wl,--wrap=__tsan_atomic64_fetch_sub -Clink-arg={{justfile_directory()}}/target/tsan/tsan.o" cargo test --target {{target}} --features tracing-writer --no-fail-fast {{args}}

# The examples under valgrind: no invalid access, nothing lost. Needs valgrind. Minutes.
memcheck:
    tests/memcheck.sh

# The test suite on one core, where a spin that waits for another thread would crawl. A minute once built.
one-core *args:
    taskset -c 0 cargo test --all-features {{args}}

# 64 threads: `just many-threads 20`. Prints how long a turn was waited for.
many-threads effort="1":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test many_threads -- --nocapture --test-threads 1

# One message at a time, under criterion: `just bench --quick`, `just bench one_by_one`. 4 minutes; with --quick half a minute.
bench *args:
    cargo bench --bench channel -- {{args}}

# Instructions per message, counted by valgrind, against a bound. A minute first, then seconds.
instructions:
    benches/instructions.sh

# Side by side with other channels. 15 minutes, the first build 2 more.
peers *args:
    cargo run --release --manifest-path {{peers}} -- {{args}}

# The same in short. 2 minutes.
peers-quick:
    cargo run --release --manifest-path {{peers}} -- --quick
