#!/usr/bin/env bash
# Builds the book in docs/guide with mdBook, into target/guide, and follows its links: between chapters, to files of the crate
# and to pages of the documentation, which is built for that. That its programs run is tested by `cargo test --doc`.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh
MDBOOK=0.4.52

# Whichever mdBook is there will do; else one is built, without its server and its search, and without optimization: a minute
# on two cores, once.
tools=$PWD/target/tools
mdbook=$(command -v mdbook || echo "$tools/bin/mdbook")
if ! "$mdbook" --version >/dev/null 2>&1; then
  CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=0 timeout 1200 \
    cargo install --quiet --locked --debug --no-default-features --root "$tools" mdbook --version "$MDBOOK" ||
    skip "mdBook can neither be found nor built"
  rm -rf "$tools/build"
fi

# It says of what it does not understand no more than a warning.
said=$("$mdbook" build docs/guide 2>&1) || { printf '%s\n' "$said"; exit 1; }
if grep -E '\[?(WARN|ERROR)' <<<"$said"; then exit 1; fi
for chapter in docs/guide/*.md; do
  name=$(basename "$chapter" .md)
  [ "$name" = SUMMARY ] || [ -s "target/guide/$name.html" ] || { echo "$name is not in the book"; exit 1; }
done

RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --all-features
ROUNDELAY_DOC=target/doc cargo test --quiet --test guide
