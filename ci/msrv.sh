#!/usr/bin/env bash
# Checks that everything compiles with the oldest Rust that is supported, 1.85: rustup's if it is installed, else Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=target/msrv
if rustup run 1.85 rustc --version >/dev/null 2>&1; then
  exec rustup run 1.85 cargo check --quiet --all-targets --all-features
fi
need() { dpkg -s "$1" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$1" >/dev/null; }; }
need rustc-web; need cargo-web
RUSTC=$(dpkg -L rustc-web | grep -m1 -x /usr/bin/rustc); export RUSTC
exec "$(dpkg -L cargo-web | grep -m1 -x /usr/bin/cargo)" check --quiet --all-targets --all-features
