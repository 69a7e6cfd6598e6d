#!/usr/bin/env bash
# Tries every interleaving of the small models in tests/loom_*.rs: how a loop falls asleep, is woken, and is closed.
#   ci/loom.sh [arguments for the test binaries]
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom CARGO_PROFILE_DEV_DEBUG=0

for model in tests/loom_*.rs; do
  cargo test --quiet --test "$(basename "$model" .rs)" -- "$@"
done
