# Each recipe is a plain cargo command; `just` only remembers it. The times are those of two cores, compilation of
# the dependencies included where it says "first".

target := "x86_64-unknown-linux-gnu"
peers := "benches/peers/Cargo.toml"
listing := "tools/public-api/Cargo.toml"
servers := "tests/servers/Cargo.toml"
criterion := "benches/criterion/Cargo.toml"
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

# Metrics against real servers; those that are not installed are skipped. 2 minutes first, then 10 seconds.
test-servers:
    CARGO_TARGET_DIR=target/servers cargo test --manifest-path {{servers}}

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
    TURBOSTREAM_REQUIRE_SERVERS=1 TURBOSTREAM_SCREENSHOT={{justfile_directory()}}/docs/metrics-page.png CARGO_TARGET_DIR=target/servers cargo test --manifest-path {{servers}} --test live_page

# The minimum Rust version, for real: needs that toolchain installed. 1 minute first.
msrv:
    cargo +1.85 check --all-features

# The tests with the lowest versions that Cargo.toml allows. 6 minutes first.
minimal-versions:
    tools/minimal-versions.sh

# The documentation, links checked. 10 seconds.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --all-features

# What is public that docs/public-api.txt does not list, and the other way round; `just public-api --write` writes it
# anew. Half a minute first.
public-api *args:
    CARGO_TARGET_DIR=target/public-api cargo run --manifest-path {{listing}} -- {{args}}

# What is public since the last version that was tagged, or since `baseline`, and what no longer is: a line taken out breaks users.
public-api-since baseline=`git describe --tags --abbrev=0 --match 'v*' HEAD^`:
    git diff --unified=0 {{baseline}} -- docs/public-api.txt

# What a change breaks for users of the last version that was tagged, or of `baseline`: needs cargo-semver-checks. 2 minutes.
semver baseline=`git describe --tags --abbrev=0 --match 'v*' HEAD^`:
    cargo semver-checks --all-features --baseline-rev {{baseline}}

# Licences, bans and sources of all dependencies, those of the crates apart too: needs cargo-deny. Seconds.
deny:
    cargo deny --locked --all-features check bans licenses sources
    cargo deny --locked --all-features --exclude-dev check -D duplicate bans
    cargo deny --locked --manifest-path {{peers}} --config deny.toml --all-features check -A banned -A duplicate -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{servers}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{criterion}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{listing}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources

# Known vulnerabilities: needs cargo-deny, and RustSec's database, which it fetches. Seconds.
advisories:
    cargo deny --locked --all-features check advisories
    cargo deny --locked --manifest-path {{peers}} --config deny.toml --all-features check advisories
    cargo deny --locked --manifest-path {{servers}} --config deny.toml check advisories
    cargo deny --locked --manifest-path {{criterion}} --config deny.toml check advisories
    cargo deny --locked --manifest-path {{listing}} --config deny.toml check advisories

# Lints for every combination of features: needs cargo-hack. 2 minutes.
features:
    cargo hack --locked clippy --feature-powerset --exclude-features default --lib -- -D warnings -D clippy::incompatible_msrv

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

# Cases chosen by what they reach: `state_machine`, or `byte_streams`. Needs `cargo install cargo-fuzz` and a C++ compiler;
# a nightly toolchain it does not need. 2 minutes first, then as long as it is told.
fuzz name="state_machine" seconds="300":
    mkdir -p fuzz/found/{{name}}
    ASAN_OPTIONS=detect_stack_use_after_return=0 RUSTC_BOOTSTRAP=1 cargo fuzz run {{name}} fuzz/found/{{name}} fuzz/corpus/{{name}} -- -max_total_time={{seconds}} -max_len=1024 -timeout=300

# Takes of what it has found into fuzz/corpus as few cases as reach all that the others do. A minute.
fuzz-keep name="state_machine":
    rm -rf fuzz/found/{{name}}.kept && mkdir -p fuzz/found/{{name}}.kept
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{name}} fuzz/found/{{name}}.kept fuzz/found/{{name}} fuzz/corpus/{{name}} -- -set_cover_merge=1 -use_counters=0 -max_len=1024
    rm -rf fuzz/corpus/{{name}} && mv fuzz/found/{{name}}.kept fuzz/corpus/{{name}}

# Full load with every message checked, and what is hard on memory: half an hour, or as many `minutes`, and 2 minutes more.
soak minutes="30":
    cargo run --release --manifest-path tools/soak/Cargo.toml -- --minutes {{minutes}}

# Puts faults into a copy of the code, one at a time, and tells which suite notices: needs Python 3.11. Hours.
faults *args:
    faults/inject.py {{args}}

# Changes the code of a file in every small way there is, and tells which changes no test notices: `just mutants -f
# src/wake.rs`, `just mutants -f src/pool.rs --shard 0/4`. Needs `cargo install cargo-mutants`. 10 to 20 seconds for each
# mutant; lost wakeups run into the time limit.
mutants *args:
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env RUSTC_BOOTSTRAP=1" cargo mutants --output target {{args}}

# The same for all files, in one build with a switch for each change: `just mutants-all build`, `just mutants-all run`,
# `just mutants-all report`. Needs Python 3.11 too. Some minutes to build, half an hour for most, hours for all.
mutants-all *args:
    faults/mutants.py {{args}}

# The test suite under AddressSanitizer, leaks included. 4 minutes first, then 2. No backtraces, as the tests panic
# hundreds of times on purpose.
asan *args:
    CARGO_TARGET_DIR=target/asan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=5 RUSTFLAGS=-Zsanitizer=address cargo test --target {{target}} --all-features --tests --no-fail-fast {{args}}

# The test suite under ThreadSanitizer: `just tsan --test conservation`. The standard library is compiled along, as its locks
# would not be seen otherwise: needs its source, `rustup component add rust-src`. 10 minutes first, then 10.
tsan *args="--tests":
    CARGO_TARGET_DIR=target/tsan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=10 TSAN_OPTIONS="suppressions={{justfile_directory()}}/tests/tsan.supp" RUSTFLAGS=-Zsanitizer=thread cargo test -Zbuild-std --target {{target}} --all-features --no-fail-fast {{args}}

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
    CARGO_TARGET_DIR=target/criterion-benches cargo bench --manifest-path {{criterion}} -- {{args}}

# Instructions per message, counted by valgrind, against a bound. A minute first, then seconds.
instructions:
    benches/instructions.sh

# Side by side with other channels. 15 minutes, the first build 2 more.
peers *args:
    cargo run --release --manifest-path {{peers}} -- {{args}}

# The same in short. 2 minutes.
peers-quick:
    cargo run --release --manifest-path {{peers}} -- --quick
