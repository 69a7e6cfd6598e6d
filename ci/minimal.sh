#!/usr/bin/env bash
# Checks that the lower bounds of the dependencies are true: the library compiles with exactly those versions, all features
# on. Dependencies of dependencies are the latest, as it is not for us to say what those need.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=$PWD/target/minimal
package=$CARGO_TARGET_DIR/package
mkdir -p "$package"

# The library alone: what tests and benches need has bounds of its own.
awk '/^\[/ { keep = !/dev-dependencies|^\[\[/ } keep' Cargo.toml > "$package/Cargo.toml"
ln -sfn "$PWD/src" "$package/src"
ln -sf "$PWD/README.md" "$package/README.md"
rm -f "$package/Cargo.lock"
cd "$package"
# Cargo keeps the option for its nightly releases.
RUSTC_BOOTSTRAP=1 cargo update --quiet -Z direct-minimal-versions
exec cargo check --quiet --all-features --locked
