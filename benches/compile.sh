#!/usr/bin/env bash
# What a dependency on the crate costs a clean build, beside tokio's and smol's: how many crates are compiled, and how long that
# takes. Interleaved rounds; seconds of CPU time (user), which other work on the machine changes less than it does the clock,
# and seconds by the clock.
#   benches/compile.sh [ROUNDS] [cargo's options, such as --release]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
shift || true
root=$PWD
work=$root/target/compile
export CARGO_INCREMENTAL=0
names=(roundelay roundelay-tls tokio tokio-full smol)
dependency() {
  case $1 in
    roundelay) echo "roundelay = { path = \"$root\" }" ;;
    roundelay-tls) echo "roundelay = { path = \"$root\", features = [\"tls\"] }" ;;
    # What is comparable: no macros, one thread.
    tokio) echo 'tokio = { version = "1", features = ["rt", "net", "time", "io-util", "io-std", "sync", "process", "signal"] }' ;;
    tokio-full) echo 'tokio = { version = "1", features = ["full"] }' ;;
    smol) echo 'smol = "2"' ;;
  esac
}

for name in "${names[@]}"; do
  mkdir -p "$work/$name/src"
  : > "$work/$name/src/lib.rs"
  printf '[package]\nname = "user"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n%s\n' "$(dependency "$name")" \
    > "$work/$name/Cargo.toml"
  cp Cargo.lock "$work/$name/Cargo.lock"
  cargo fetch --quiet --manifest-path "$work/$name/Cargo.toml"
done

TIMEFORMAT='%U %R'
for ((round = 0; round < rounds; round++)); do
  for name in "${names[@]}"; do
    rm -rf "$work/$name/target"
    { time CARGO_TARGET_DIR=$work/$name/target cargo build --quiet --manifest-path "$work/$name/Cargo.toml" "$@" 2>/dev/null; } \
      2>> "$work/$name/times.new"
  done
done

median() { sort -n | awk '{ all[NR] = $1 } END { print (all[int((NR + 1) / 2)] + all[int(NR / 2) + 1]) / 2 }'; }
printf '| | crates | CPU time, s | of ours | by the clock, s |\n|---|---:|---:|---:|---:|\n'
for name in "${names[@]}"; do
  mv "$work/$name/times.new" "$work/$name/times"
  rm -rf "$work/$name/target"
  crates=$(cargo tree --quiet --manifest-path "$work/$name/Cargo.toml" -e normal,build --prefix none | sed 's/ (\*)$//' | sort -u | grep -vc '^user ')
  cpu=$(cut -d' ' -f1 "$work/$name/times" | median)
  ours=${ours:-$cpu}
  printf '| %s | %s | %.1f | %.2f | %.1f |\n' "$name" "$crates" "$cpu" "$(bc -l <<<"$cpu / $ours")" \
    "$(cut -d' ' -f2 "$work/$name/times" | median)"
done
