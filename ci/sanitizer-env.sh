# What the sanitizers' scripts share. To be sourced, from the project's root.

TARGET=x86_64-unknown-linux-gnu
# Half the size, and reports still name the line.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_INCREMENTAL=0
# Many tests panic on purpose, and a backtrace takes long here.
export RUST_BACKTRACE=0

# A nightly compiler, which comes with the sanitizers' runtimes.
nightly() {
  rustc +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal --no-self-update
}

# A compiler that can build its own standard library: Debian has the source as a package. Names it by STD_CARGO and RUSTC,
# and by BUILD_STD what to build.
std_source() {
  local package
  for package in rustc-web cargo-web rust-web-src; do
    dpkg -s "$package" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$package" >/dev/null; }
  done
  STD_CARGO=$(dpkg -L cargo-web | grep -m 1 -x '.*/bin/cargo')
  RUSTC=$(dpkg -L rustc-web | grep -m 1 -x '.*/bin/rustc')
  RUSTDOC=$(dirname "$RUSTC")/rustdoc
  export RUSTC RUSTDOC RUSTC_BOOTSTRAP=1
  BUILD_STD=(-Zbuild-std=std,panic_unwind,test)
}
