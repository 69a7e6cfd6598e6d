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
  async_fd bridges buffered callbacks cancellation close closing_races closing_wakers compat connect connect_cancel
  connect_stream contextvars copy destructor_panics destructors eager_tasks embedding executor fatal futures gather
  happy_eyeballs memory_transports names outliving outliving_streams pipes process_pool readuntil reentrancy
  remote remote_post remote_task remote_waking sendfile sendfile_foreign server server_ending signals sock_cancel sock_io
  spin stdio stream_reader stream_writer subprocess subprocess_data subprocess_streams task_factory task_group_panics tasks
  tcp_stream timers tls_ends tls_hostile tls_sendfile tls_stream_ends transport_close transport_write udp udp_unix unfinished
  unix_datagram unix_stream unread watch
)

# A size that no allocator has is refused, as it is everywhere else; there are tests of that.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
export RUSTFLAGS="-Zsanitizer=address" RUSTDOCFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan
[ $# != 0 ] || set -- --lib "${MEMORY[@]/#/--test=}"
exec cargo +nightly test --features tls,process-pool,test-util --target "$TARGET" "$@"
