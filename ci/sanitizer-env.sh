# shellcheck shell=bash disable=SC2034
# What the sanitizers' scripts share. To be sourced, from the project's root.
. ci/tools.sh

TARGET=x86_64-unknown-linux-gnu
# Half the size, and reports still name the line.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_INCREMENTAL=0
# Many tests panic on purpose, and a backtrace takes long here.
export RUST_BACKTRACE=0

# A nightly compiler, which comes with the sanitizers' runtimes.
nightly() {
  rustc +nightly --version >/dev/null 2>&1 ||
    timeout 600 rustup toolchain install nightly --profile minimal --no-self-update ||
    skip "there is no nightly toolchain, and none can be installed"
}

# A compiler that can build its own standard library: Debian has the source as a package. Names it by STD_CARGO and RUSTC,
# and by BUILD_STD what to build.
std_source() {
  packages rustc-web cargo-web rust-web-src || skip "Debian's rustc-web, cargo-web and rust-web-src cannot be had"
  STD_CARGO=$(dpkg -L cargo-web | grep -m 1 -x '.*/bin/cargo')
  RUSTC=$(dpkg -L rustc-web | grep -m 1 -x '.*/bin/rustc')
  RUSTDOC=$(dirname "$RUSTC")/rustdoc
  export RUSTC RUSTDOC RUSTC_BOOTSTRAP=1
  BUILD_STD=("-Zbuild-std=std,panic_unwind,test")
}
