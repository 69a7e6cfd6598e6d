#!/usr/bin/env bash
# Checks what `panic = "abort"` does to a program (ci/abort.rs): it works as ever, and ends by its first panic, which is told.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_PROFILE_DEV_PANIC=abort CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$PWD/target/abort
out=$CARGO_TARGET_DIR/debug
cargo build --quiet --lib
rustc --edition 2024 -C panic=abort -L "dependency=$out/deps" --extern "roundelay=$out/libroundelay.rlib" -o "$out/program" ci/abort.rs

# No core files.
ulimit -c 0
said=$(timeout 60 "$out/program")
[ "$said" = $'works\ndestructor\nclosed' ] || { echo "without a panic: $said"; exit 1; }

for place in callback task thread; do
  status=0
  said=$(timeout 60 "$out/program" "$place" 2>"$out/errors") || status=$?
  if [ "$status" != 134 ] || [ "$said" != works ] || ! grep -q "in a $place" "$out/errors"; then
    printf 'a panic in a %s: exit status %s\n%s\n' "$place" "$status" "$said"
    cat "$out/errors"
    exit 1
  fi
done
