#!/usr/bin/env bash
# The sanitizers' share of CI: data races in what crosses threads, memory errors and leaks in everything.
set -euo pipefail
cd "$(dirname "$0")/.."

ci/tsan.sh --quiet
ci/asan.sh --quiet --lib --tests
