#!/usr/bin/env bash
# Builds and tests a copy of the crate with the lowest version of each dependency that Cargo.toml allows. This verifies the
# lower bounds. The resolver option is unstable, so RUSTC_BOOTSTRAP enables it.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
target=$PWD/target/minimal-versions
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$copy"

cd "$copy"
RUSTC_BOOTSTRAP=1 cargo update -Zdirect-minimal-versions
cargo check --locked --no-default-features --target-dir "$target"
cargo test --locked --all-features --lib --tests --target-dir "$target"

cd tests/servers
RUSTC_BOOTSTRAP=1 cargo update -Zdirect-minimal-versions
cargo test --locked --target-dir "$target/servers"
