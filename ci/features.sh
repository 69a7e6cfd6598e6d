#!/usr/bin/env bash
# Checks that the library compiles without a warning with each feature and with each pair of them.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh
cargo_tool cargo-hack
export RUSTFLAGS="-D warnings" CARGO_INCREMENTAL=0

# What is below `tls` and `aws-lc-rs` is nobody's to name, and those two differ in a dependency alone, of which the second one
# takes long to compile: the other checks have it, with all features. Features that touch little of the source go together.
half() {
  CARGO_TARGET_DIR=target/features-$1 cargo hack check --lib --quiet --feature-powerset --depth 2 --partition "$1/2" \
    --exclude-features default,__tls,aws-lc-rs --group-features inspector,macros,process-pool
}
half 1 &
half 2
wait $!
