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
