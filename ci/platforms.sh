#!/usr/bin/env bash
# Checks that the library compiles, without a warning, for the other systems that the README names. It is type-checked with
# their own standard library, which is built for it; nothing is run. TLS is without its ciphers, which are partly C and need
# those systems' compilers.
#   ci/platforms.sh [arguments of cargo check]
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
std_source

export CARGO_TARGET_DIR=target/platforms RUSTFLAGS="-D warnings"
for target in ${TARGETS:-aarch64-apple-darwin x86_64-unknown-freebsd}; do
  echo "== $target"
  "$STD_CARGO" check -Zbuild-std=std,panic_unwind --target "$target" --lib --features __tls,process-pool,inspector,test-util,tokio,hyper,async-io,tokio-rt "$@"
done
