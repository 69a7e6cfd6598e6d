# shellcheck shell=bash
# How the scripts get what they need, and what they do without it. To be sourced.

# Ends the script with 77: not a failure, but not a pass either. .ci/run lists such steps at its end.
skip() {
  printf '\n!! SKIPPED: %s: %s\n' "${0##*/}" "$1"
  exit 77
}

# True if these packages of Debian's are installed, or could be.
packages() {
  dpkg -s "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$@" >/dev/null; }
}

# Has one of cargo's tools at hand: the machine's, or one that is built under target/, as fast as that goes.
cargo_tool() {
  PATH=$PATH:$PWD/target/tools/bin
  command -v "$1" >/dev/null || CARGO_TARGET_DIR=target/tools/build CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --debug --locked --root target/tools "$@" ||
    skip "$1 cannot be had"
}
