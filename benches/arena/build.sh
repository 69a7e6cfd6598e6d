#!/bin/sh
# Builds every contestant into $CARGO_TARGET_DIR (default: target/ beside this file).
# build.sh [BIN...] builds only these Rust bins.
set -e
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
if [ $# -gt 0 ]; then
    for b in "$@"; do nice cargo build --release --bin "$b"; done
    exit
fi
nice cargo build --release --bins
if [ -e /usr/include/uv.h ]; then
    nice cc -O3 -Wall -Wextra -o "$CARGO_TARGET_DIR/release/libuv" other/libuv.c -luv -lpthread
else
    echo "libuv left out: apt-get install libuv1-dev" >&2
fi
