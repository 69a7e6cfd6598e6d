#!/usr/bin/env bash
# Says what a release would break: holds the public interface against that of an earlier one.
#   ci/semver.sh REVISION      such as the tag of the latest release
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh
baseline=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
[ -n "$baseline" ] || skip "there is no release yet: name a revision to compare with"
cargo_tool cargo-semver-checks
exec cargo semver-checks --all-features --baseline-rev "$baseline"
