#!/usr/bin/env bash
# Builds the fuzz targets, runs what their corpus has, and looks for more.
#   ci/fuzz.sh              half a minute for each
#   ci/fuzz.sh SECONDS      so many
#   ci/fuzz.sh --minimize   looks for nothing: fuzz/corpus becomes the few inputs of all that were found that reach as far
# What is found is kept in target/fuzz/corpus, and what fails in target/fuzz/failures.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/sanitizer-env.sh
nightly
command -v c++ >/dev/null || packages g++ || skip "libFuzzer is C++, and there is no compiler for it"

TARGETS=(tls_engine tls_server)
# An input that takes a minute is one that does not end. ci/asan.sh looks for leaks, which costs too much here.
LIMITS=(-timeout=60 -rss_limit_mb=2048 -max_len=4096 -len_control=20 -detect_leaks=0)

export CARGO_TARGET_DIR=$PWD/target/fuzz
RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
  cargo +nightly build --quiet --release --manifest-path fuzz/Cargo.toml --target "$TARGET"

for target in "${TARGETS[@]}"; do
  program=$CARGO_TARGET_DIR/$TARGET/release/$target
  found=$CARGO_TARGET_DIR/corpus/$target failures=$CARGO_TARGET_DIR/failures/$target
  mkdir -p "$found" "$failures"
  log=$CARGO_TARGET_DIR/$target.log
  if [ "${1:-}" = --minimize ]; then
    kept=$CARGO_TARGET_DIR/kept/$target
    rm -rf "$kept" && mkdir -p "$kept"
    # As far in the code, however often.
    "$program" -set_cover_merge=1 -use_counters=0 "${LIMITS[@]}" "$kept" "$found" "fuzz/corpus/$target" 2>"$log"
    rm -rf "fuzz/corpus/$target" && mv "$kept" "fuzz/corpus/$target"
    du -sh --apparent-size "fuzz/corpus/$target"
    continue
  fi
  # The panics that are caught on purpose say nothing here.
  "$program" "${LIMITS[@]}" -max_total_time="${1:-30}" -artifact_prefix="$failures/" "$found" "fuzz/corpus/$target" \
    >"$log" 2>&1 || { tail -n 60 "$log"; exit 1; }
  grep -E '^#[0-9]+.*DONE|^Done' "$log"
done
