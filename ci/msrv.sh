#!/usr/bin/env bash
# Checks that the library compiles with the oldest Rust that is supported: rustup's if it is installed, else Debian's, which
# is unpacked here and leaves the machine's own alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh
VERSION=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
export CARGO_TARGET_DIR=target/msrv
# What an old compiler warns of is no concern, only what it refuses.
export RUSTFLAGS="--cap-lints=allow"

if rustup run "$VERSION" rustc --version >/dev/null 2>&1; then
  exec rustup run "$VERSION" cargo check --quiet --lib --all-features
fi

unpacked=$PWD/target/debian-rust-$VERSION
unpack() {
  local deb found libraries packages=()
  for package in rustc-web cargo-web libstd-rust-web-dev "libstd-rust-web-$VERSION"; do
    found=$(apt-cache madison "$package" | awk -v version="$VERSION" '$3 ~ "^"version"\\." { print $3; exit }')
    [ -n "$found" ] || return 1
    packages+=("$package=$found")
  done
  mkdir -p "$unpacked.part"
  (cd "$unpacked.part" && apt-get -o APT::Sandbox::User=root download -qq "${packages[@]}") || return 1
  for deb in "$unpacked.part"/*.deb; do dpkg -x "$deb" "$unpacked.part" || return 1; done
  # What they need beside each other is taken from the machine.
  mapfile -t libraries < <(apt-cache depends --important "${packages[@]}" |
    sed -n 's/^ *Depends: \(lib[^<]*\)$/\1/p' | grep -v '^libstd-rust' | sort -u)
  packages "${libraries[@]}" || return 1
  rm "$unpacked.part"/*.deb
  mv "$unpacked.part" "$unpacked"
}

if [ ! -d "$unpacked" ]; then
  rm -rf "$unpacked.part"
  unpack || { apt-get update -qq && unpack; } ||
    timeout 600 rustup toolchain install "$VERSION" --profile minimal --no-self-update ||
    skip "neither Debian nor rustup has Rust $VERSION for us"
fi
if [ ! -d "$unpacked" ]; then
  exec rustup run "$VERSION" cargo check --quiet --lib --all-features
fi
# The compiler finds its own library, and its standard library, by where it was loaded from.
LD_LIBRARY_PATH=$(dirname "$(find "$unpacked/usr/lib" -name 'librustc_driver-*.so' -print -quit)")
export LD_LIBRARY_PATH RUSTC=$unpacked/usr/bin/rustc
exec "$unpacked/usr/bin/cargo" check --quiet --lib --all-features
