#!/usr/bin/env bash
# Tries each bench for a moment, to see that it compiles and runs, and that its output can be drawn. It is not optimized, and
# the figures are nothing to go by.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --quiet --profile dev --no-run
cargo bench --quiet --profile dev --bench compare -- --test >/dev/null
cargo bench --quiet --profile dev --bench sendfile -- --rounds 1 >/dev/null

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo bench --quiet --profile dev --bench scale -- --quick --output "$scratch/scale.csv" >/dev/null
if command -v python3 >/dev/null; then
  python3 benches/plot.py --input "$scratch/scale.csv" --output "$scratch" >/dev/null
fi
