#!/usr/bin/env bash
# Runs the tests with a standard library that has its own debug assertions on: they catch broken preconditions of unsafe
# functions.
#   ci/careful.sh [arguments of cargo test]      without any: everything, documentation included
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
std_source

export RUSTFLAGS="-Cdebug-assertions=on -Zextra-const-ub-checks -Zstrict-init-checks" CARGO_TARGET_DIR=target/careful
exec "$STD_CARGO" test "${BUILD_STD[@]}" --target "$TARGET" "$@"
