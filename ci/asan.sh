#!/usr/bin/env bash
# Runs the tests under AddressSanitizer, which finds uses of freed memory, overflows, and whatever leaked by the end.
#   ci/asan.sh [arguments of cargo test]      without any: the unit tests and the files named below
# Files that use a crate which Cargo.toml leaves out under a sanitizer (benches, terminals, hyper) do not compile here.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
nightly

# Test files that reach what is unsafe, or that let go of memory and descriptors in ways of their own. The others go the same
# ways once more.
MEMORY=(
  async_fd callbacks cancellation close closing_races closing_wakers compat destructor_panics destructors eager_tasks
  embedding executor outliving pipes process_pool reentrancy remote remote_post remote_task remote_waking sendfile
  sendfile_foreign signals sock_io stdio subprocess subprocess_streams task_factory task_group_panics tasks tcp_stream
  tls_hostile tls_sendfile transport_write udp unfinished unix_datagram unix_stream
)

# A size that no allocator has is refused, as it is everywhere else; there are tests of that.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
export RUSTFLAGS="-Zsanitizer=address" RUSTDOCFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan
[ $# != 0 ] || set -- --lib "${MEMORY[@]/#/--test=}"
exec cargo +nightly test --features tls,process-pool,test-util --target "$TARGET" "$@"
