#!/usr/bin/env bash
# Counts the instructions that an operation takes, which depend on no machine's mood, and holds them against
# benches/instructions.txt: more or less than a tenth off is a failure.
#   ci/instructions.sh             all cases
#   ci/instructions.sh CASE...     some of them
#   ci/instructions.sh --record    writes the file anew
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh
RECORD=benches/instructions.txt
OPERATIONS=2000
TOLERANCE=10 # per cent

command -v valgrind >/dev/null || packages valgrind || skip "valgrind cannot be had"

record=false
[ "${1:-}" != --record ] || { record=true; shift; }
[ $# = 0 ] || ! $record || { echo "the file is recorded as a whole"; exit 2; }

# A build of its own, for which Cargo.toml leaves out what it can.
program=$(RUSTFLAGS="--cfg roundelay_count" CARGO_TARGET_DIR=target/count \
  cargo bench --quiet --no-run --bench instructions --message-format=json |
  sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
if [ $# = 0 ]; then
  mapfile -t cases < <("$program" --list)
else
  cases=("$@")
fi

# The instructions within `counted`, by operation, to a tenth.
count() {
  local log total
  log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
    --toggle-collect='*instructions::counted*' "$program" "$1" "$OPERATIONS" 2>&1) || { echo "$log" >&2; return 1; }
  total=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' <<<"$log")
  [ "${total:-0}" != 0 ] || { echo "$log" >&2; return 1; }
  awk -v total="$total" -v operations="$OPERATIONS" 'BEGIN { printf "%.1f\n", total / operations }'
}

tools="$(uname -m), $(rustc --version), $(valgrind --version)"
if $record; then
  {
    echo "# Instructions per operation in user space, as ci/instructions.sh --record counted them."
    echo "# $tools"
  } >"$RECORD.new"
  for case in "${cases[@]}"; do
    printf '%-22s %s\n' "$case" "$(count "$case")" | tee -a "$RECORD.new"
  done
  mv "$RECORD.new" "$RECORD"
  exit
fi

case $(sed -n '2s/^# \([^,]*\),.*/\1/p' "$RECORD") in
  "$(uname -m)") ;;
  *) skip "the figures were recorded on another architecture" ;;
esac
recorded_by=$(sed -n '2s/.*\(rustc [0-9.]*\).*/\1/p' "$RECORD")
case $(rustc --version) in
  "$recorded_by "*) ;;
  *) skip "the figures were recorded with $recorded_by, and instructions depend on the compiler" ;;
esac
failed=0
printf '%-22s %10s %10s\n' "" recorded now
for case in "${cases[@]}"; do
  now=$(count "$case")
  recorded=$(awk -v name="$case" '$1 == name { print $2 }' "$RECORD")
  verdict=$(awk -v now="$now" -v recorded="${recorded:-0}" -v tolerance="$TOLERANCE" 'BEGIN {
    if (!recorded) { print "not recorded"; exit }
    change = 100 * (now - recorded) / recorded
    verdict = change > tolerance ? "  MORE" : change < -tolerance ? "  LESS: well done, record it" : ""
    printf "%+.1f %%%s\n", change, verdict
  }')
  printf '%-22s %10s %10s %s\n' "$case" "${recorded:--}" "$now" "$verdict"
  case $verdict in *MORE | *LESS* | not*) failed=1 ;; esac
done
if [ $failed = 1 ]; then
  echo "More than $TOLERANCE % off, or not recorded. Where that is meant: ci/instructions.sh --record."
  sed -n '2s/^# /The record was made on /p' "$RECORD"
  echo "This is $tools"
  exit 1
fi
