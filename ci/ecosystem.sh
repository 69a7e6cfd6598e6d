#!/usr/bin/env bash
# Runs the tests of examples/ecosystem: libraries, servers and loops of others beside this one. Their servers are installed
# where that can be done; the tests of one that is missing are skipped, and say so.
#   ci/ecosystem.sh [arguments of cargo test]
#   ci/ecosystem.sh --lint                       clippy, which compiles all of it once more; not in CI for that
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh

wanted=(curl nghttp2-client python3-websockets postgresql redis-server dbus libglib2.0-dev pkg-config)
packages "${wanted[@]}" || for package in "${wanted[@]}"; do
  packages "$package" || echo "!! no $package: what needs it will be skipped"
done

features=()
if pkg-config --exists "glib-2.0 >= 2.66" 2>/dev/null; then
  features=(--features glib)
else
  echo "!! no headers of GLib: the feature glib is skipped"
fi

cd examples/ecosystem
# There are many libraries in it, and nobody looks into them with a debugger.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
cargo fmt --check
if [ "${1:-}" = --lint ]; then
  exec cargo clippy --quiet --all-targets "${features[@]}" -- -D warnings
fi
# The programs first, for the tests run them.
cargo build --quiet --examples "${features[@]}"
cargo test --quiet --tests "${features[@]}" "$@"
