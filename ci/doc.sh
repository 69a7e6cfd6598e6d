#!/usr/bin/env bash
# Builds the documentation as docs.rs does, into target/doc: with the features that items need at the items.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/tools
# What says so is for nightly releases of rustdoc. It alone is told to be one: nothing has to be compiled anew for that.
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "%s" "$@"\n' "$(rustc --print sysroot)/bin/rustdoc" > target/tools/rustdoc
chmod +x target/tools/rustdoc
RUSTDOC=$PWD/target/tools/rustdoc RUSTDOCFLAGS="--cfg docsrs -D warnings" cargo doc --quiet --no-deps --all-features

said=$(grep -rhoE 'Available on <strong>[^.]*</strong> only' target/doc/roundelay --include='*.html' | sed -E 's/<[^>]*>//g' | sort | uniq -c | sort -rn)
for feature in tls process-pool inspector test-util tokio hyper async-io macros tokio-rt; do
  grep -qE "\b$feature\b" <<<"$said" || { echo "nothing says that it needs the feature $feature"; exit 1; }
done
if grep __tls <<<"$said"; then echo "a feature that is nobody's to name"; exit 1; fi
