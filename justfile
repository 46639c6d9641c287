# Each recipe is a plain cargo command. The times are for two cores. "First" includes the compilation of the dependencies.

target := "x86_64-unknown-linux-gnu"
peers := "benches/peers/Cargo.toml"
forwarding := "benches/forward/Cargo.toml"
listing := "tools/public-api/Cargo.toml"
servers := "tests/servers/Cargo.toml"
criterion := "benches/criterion/Cargo.toml"
kafka := "kafka/Cargo.toml"
soak := "tools/soak/Cargo.toml"
models := "cargo test --release --lib tests::loom -- --nocapture --test-threads 2"
shuttles := "cargo test --release --lib tests::shuttle -- --nocapture --test-threads 2"

# Lists all recipes.
default:
    @just --list --unsorted

# All checks that a change must pass. 22 minutes from a clean clone.
gate:
    .ci/run

# All tests, doc tests included. 2 minutes first, then 30 seconds.
test:
    cargo test --all-features

# The tests on one core, where spinning for another thread is slow. Needs taskset. 1 minute.
one-core *args="--test it --test state_machine":
    taskset --cpu-list 0 cargo test --all-features {{args}}

# Metrics against real servers; tests without their server are skipped. 2 minutes first, then 10 seconds.
test-servers:
    CARGO_TARGET_DIR=target/servers cargo test --manifest-path {{servers}}

# Format and lints. Clippy also rejects APIs newer than the minimum Rust version. 1 minute first, then seconds.
lint:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings -D clippy::too_many_lines
    cargo clippy --all-targets --no-default-features -- -D warnings -D clippy::too_many_lines

# The metrics example, with a page at http://127.0.0.1:9464/.
metrics-server *args:
    cargo run --release --features forward,prometheus --example metrics_server -- {{args}}

# The screenshot of its page in docs/metrics.md. Needs `apt-get install chromium chromium-driver`.
screenshot:
    TURBOSTREAM_REQUIRE_SERVERS=1 TURBOSTREAM_SCREENSHOT={{justfile_directory()}}/docs/metrics-page.png CARGO_TARGET_DIR=target/servers cargo test --manifest-path {{servers}} --test live_page

# `nats` needs Rust 1.89, as async-nats does. Needs the toolchain of the minimum Rust version.
# A build with that version. 1 minute first.
msrv:
    cargo +1.85 check --locked --features forward,otel,prometheus,tracing,tracing-writer

# The tests with the lowest dependency versions that Cargo.toml allows. 6 minutes first.
minimal-versions:
    tools/minimal-versions.sh

# The documentation, with all links checked. 10 seconds.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --all-features

# `just public-api --write` updates the file.
# Differences between the public API and docs/public-api.txt. Half a minute first.
public-api *args:
    CARGO_TARGET_DIR=target/public-api cargo run --manifest-path {{listing}} -- {{args}}

# Changes of the public API since the last tagged version, or since `baseline`. A removed line breaks users.
public-api-since baseline=`git describe --tags --abbrev=0 --match 'v*' HEAD^`:
    git diff --unified=0 {{baseline}} -- docs/public-api.txt

# Breaking changes since the last tagged version, or since `baseline`. Needs cargo-semver-checks. 2 minutes.
semver baseline=`git describe --tags --abbrev=0 --match 'v*' HEAD^`:
    cargo semver-checks --all-features --baseline-rev {{baseline}}

# Licences, bans and sources of all dependency trees. Needs cargo-deny. Seconds.
deny:
    cargo deny --locked --all-features check bans licenses sources
    cargo deny --locked --all-features --exclude-dev check -D duplicate bans
    cargo deny --locked --manifest-path {{peers}} --config deny.toml --all-features check -A banned -A duplicate -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{servers}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{criterion}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{forwarding}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{kafka}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources
    cargo deny --locked --manifest-path {{listing}} --config deny.toml check -A unmatched-skip -A license-not-encountered bans licenses sources

# Known vulnerabilities. Needs cargo-deny, which fetches RustSec's database. Seconds.
advisories:
    cargo deny --locked --all-features check advisories
    cargo deny --locked --manifest-path {{peers}} --config deny.toml --all-features check advisories
    cargo deny --locked --manifest-path {{servers}} --config deny.toml check advisories
    cargo deny --locked --manifest-path {{criterion}} --config deny.toml check advisories
    cargo deny --locked --manifest-path {{listing}} --config deny.toml check advisories

# Lints for every combination of features. Needs cargo-hack. 2 minutes.
features:
    cargo hack --locked clippy --feature-powerset --exclude-features default --lib -- -D warnings -D clippy::incompatible_msrv

# The loom models, each with its own preemption bound. 4 minutes first, then 2 and a half.
loom:
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" {{models}}

# One model, or all, with a larger preemption bound. Minutes to hours, depending on the model.
loom-deep model="tests::loom" preemptions="3":
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg turbostream_loom" LOOM_MAX_PREEMPTIONS={{preemptions}} cargo test --release --lib {{model}} -- --nocapture --test-threads 2

# End-to-end runs under shuttle, with random schedules. 3 minutes first, then half a minute.
shuttle:
    CARGO_TARGET_DIR=target/shuttle RUSTFLAGS="--cfg turbostream_shuttle" {{shuttles}}

# The same with more schedules: 36,000 times `effort`. 15 minutes.
shuttle-deep effort="30":
    TURBOSTREAM_EFFORT={{effort}} CARGO_TARGET_DIR=target/shuttle RUSTFLAGS="--cfg turbostream_shuttle" {{shuttles}}

# Random operations, compared with a plain queue: 30,000 times `effort`. 3 minutes.
state-machine effort="50":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test state_machine -- --nocapture

# Random cancellations: about 15,000 times `effort`. 10 minutes.
cancel-storm effort="80":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test cancel_storm -- --nocapture

# Needs `cargo install cargo-fuzz` and a C++ compiler, but no nightly toolchain.
# Coverage-guided fuzzing of `state_machine` or `byte_streams`. 2 minutes first, then `seconds`.
fuzz name="state_machine" seconds="300":
    mkdir -p fuzz/found/{{name}}
    ASAN_OPTIONS=detect_stack_use_after_return=0 RUSTC_BOOTSTRAP=1 cargo fuzz run {{name}} fuzz/found/{{name}} fuzz/corpus/{{name}} -- -max_total_time={{seconds}} -max_len=1024 -timeout=300

# Minimizes fuzz/corpus and the new cases: keeps the fewest cases with the same coverage. A minute.
fuzz-keep name="state_machine":
    rm -rf fuzz/found/{{name}}.kept && mkdir -p fuzz/found/{{name}}.kept
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{name}} fuzz/found/{{name}}.kept fuzz/found/{{name}} fuzz/corpus/{{name}} -- -set_cover_merge=1 -use_counters=0 -max_len=1024
    rm -rf fuzz/corpus/{{name}} && mv fuzz/found/{{name}}.kept fuzz/corpus/{{name}}

# Full load with every message checked, then memory stress. `minutes`, plus 2 minutes.
soak minutes="30":
    cargo run --release --manifest-path {{soak}} --bin soak -- --minutes {{minutes}}

# Needs `apt-get install nats-server`.
# The forwarder into a JetStream server that is killed every minute, then a check of the stream. `minutes`, plus a few.
soak-forward minutes="60":
    cargo run --release --manifest-path {{soak}} --features nats --bin forward -- --minutes {{minutes}}

# Injects faults into a copy of the code, one at a time, and records which suite detects each. Needs Python 3.11. Hours.
faults *args:
    tools/faults/inject.py {{args}}

# `just mutants -f src/queue/ring.rs`, `just mutants -f src/queue/ring.rs --shard 0/4`. Needs `cargo install cargo-mutants`. A
# lost wakeup takes until the time limit.
# Mutates a file and lists the mutants that no test detects. 10 to 20 seconds per mutant.
mutants *args:
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env RUSTC_BOOTSTRAP=1" cargo mutants --output target {{args}}

# `just mutants-all build`, `just mutants-all run`, `just mutants-all report`. Also needs Python 3.11.
# The same for all files, in one build with a switch per mutant. Half an hour for most mutants, hours for all.
mutants-all *args:
    tools/faults/mutants.py {{args}}

# Without backtraces, as the tests panic hundreds of times on purpose.
# The test suite under AddressSanitizer, with leak detection. 4 minutes first, then 2.
asan *args:
    CARGO_TARGET_DIR=target/asan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=5 LSAN_OPTIONS="suppressions={{justfile_directory()}}/tests/lsan.supp" RUSTFLAGS=-Zsanitizer=address cargo test --target {{target}} --all-features --tests --no-fail-fast {{args}}

# Also instruments the standard library, whose locks would be invisible otherwise. Needs `rustup component add rust-src`.
# The test suite under ThreadSanitizer: `just tsan --test conservation`. 10 minutes first, then 10.
tsan *args="--tests":
    CARGO_TARGET_DIR=target/tsan RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0 TURBOSTREAM_PATIENCE=10 TSAN_OPTIONS="suppressions={{justfile_directory()}}/tests/tsan.supp" RUSTFLAGS=-Zsanitizer=thread cargo test -Zbuild-std --target {{target}} --all-features --no-fail-fast {{args}}

# The examples under valgrind: invalid accesses and leaks. Needs valgrind. Minutes.
memcheck:
    tests/memcheck.sh

# Fairness between 64 threads: `just many-threads 20`. Prints the waiting times.
many-threads effort="1":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --test many_threads -- --nocapture --test-threads 1

# Criterion benchmarks of single messages: `just bench one_by_one`, `just bench --quick`. 4 minutes, or half a minute.
bench *args:
    CARGO_TARGET_DIR=target/criterion-benches cargo bench --manifest-path {{criterion}} -- {{args}}

# `just instructions --where recv` lists the locked ones. Needs valgrind, Python 3 and objdump. A minute first, then seconds.
# Instructions and locked instructions per operation, counted by valgrind and compared with bounds.
instructions *args:
    benches/instructions.py {{args}}

# The forwarder against a scripted destination: random scripts, thousands times `effort`. Minutes.
forward effort="100":
    TURBOSTREAM_EFFORT={{effort}} cargo test --release --features forward --test forward -- --nocapture

# 60,000 messages times `effort` for each failure. Needs `apt-get install nats-server`.
# The forwarder against NATS servers that are killed, stopped, cut off and filled. 10 minutes.
nats effort="16":
    TURBOSTREAM_REQUIRE_SERVERS=1 TURBOSTREAM_EFFORT={{effort}} cargo test --release --features nats --test nats --test nats_source -- --nocapture

# `folder` is where a broker is installed. Needs a C compiler, make and Python's pip.
# The tests of the Kafka crate. 3 minutes first, then 1.
kafka folder="target/tansu":
    TURBOSTREAM_TANSU=$(kafka/tests/install-tansu.sh {{folder}}) TURBOSTREAM_REQUIRE_SERVERS=1 CARGO_TARGET_DIR=target/kafka cargo test --manifest-path {{kafka}}

# Comparison with other channels. 15 minutes, plus 2 for the first build.
peers *args:
    cargo run --release --manifest-path {{peers}} -- {{args}}

# A short comparison. 2 minutes.
peers-quick:
    cargo run --release --manifest-path {{peers}} -- --quick

# The same on one core, with the targets for one core. Needs taskset. 5 minutes.
peers-one-core *args:
    taskset --cpu-list 0 cargo run --release --manifest-path {{peers}} -- --quick {{args}}

# Cost of forwarding into JetStream, against loops written by hand. Needs nats-server. 15 minutes, plus 3 for the first build.
forward-bench *args:
    cargo run --release --manifest-path {{forwarding}} -- {{args}}
