#!/usr/bin/env bash
# Runs the tests that cross threads under ThreadSanitizer, which finds data races. The standard library is instrumented,
# too: otherwise it would give false alarms.
#   ci/tsan.sh [arguments of cargo test]      without any: the unit tests and the files named below
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
std_source
nightly

# Test files in which what crosses threads is what is tested. Others have a thread here or there, which does the same.
# Those with tokio's threads are not among them: a race is seen within tokio, which the kernel's epoll rules out.
CROSS_THREADS=(
  async_io closing_races closing_wakers destructors executor executor_reports executor_set exits_threads futures
  lost_tasks process_pool remote remote_post remote_task remote_waking sendfile_disk signals signals_threads spin
  subprocess_load subprocess_watch timeline two_loops
)

# Tests that cannot run here, each with the reason. Those that fork belong on this list, for the sanitizer's own thread is
# missing in the child; so do those that put a seccomp filter on, for the sanitizer makes system calls of its own. Which
# thread wakes a loop is a question of how quick the loop is.
SKIPPED=(in_a_child no_wake_up_comes_from_the_helper)

# Debian's compiler has no sanitizer runtime of its own. It looks for one under the name of its release channel.
runtime=$(find "$(rustc +nightly --print sysroot)" -name 'librustc-*_rt.tsan.a' -print -quit)
[ -n "$runtime" ] || skip "the nightly toolchain has no runtime for ThreadSanitizer"
libraries=$("$RUSTC" --print sysroot)/lib/rustlib/$TARGET/lib
for channel in "" -stable -nightly; do
  ln -sf "$runtime" "$libraries/librustc${channel}_rt.tsan.a" || skip "$libraries cannot be written"
done

export RUSTFLAGS="-Zsanitizer=thread" RUSTDOCFLAGS="-Zsanitizer=thread"
export CARGO_TARGET_DIR=target/tsan
# By default every program waits for a second when it ends.
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1 second_deadlock_stack=1 atexit_sleep_ms=0}

if [ $# = 0 ]; then
  set -- --features process-pool,async-io --lib "${CROSS_THREADS[@]/#/--test=}"
  [ ${#SKIPPED[@]} = 0 ] || set -- "$@" -- "${SKIPPED[@]/#/--skip=}"
fi
exec "$STD_CARGO" test "${BUILD_STD[@]}" --target "$TARGET" "$@"
