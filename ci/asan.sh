#!/usr/bin/env bash
# Runs the tests under AddressSanitizer, which finds uses of freed memory, overflows, and whatever leaked by the end.
#   ci/asan.sh [arguments of cargo test]      without any: everything, documentation included
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
nightly

# A size that no allocator has is refused, as it is everywhere else; there are tests of that.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
export RUSTFLAGS="-Zsanitizer=address" RUSTDOCFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan
exec cargo +nightly test --features tls,process-pool --target "$TARGET" "$@"
