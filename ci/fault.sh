#!/usr/bin/env bash
# Lets each system call of the network code fail at each place at which it is made: tests/fault.
#   ci/fault.sh [arguments of cargo test]
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg roundelay_fault" CARGO_TARGET_DIR=target/fault
tests=(cargo test --features tls --test fault)
"${tests[@]}" --quiet --no-run
# One test runs at a time, and so one for each selector.
ROUNDELAY_FAULT_SELECTOR=epoll "${tests[@]}" "$@" &
ROUNDELAY_FAULT_SELECTOR=level "${tests[@]}" "$@"
wait $!
