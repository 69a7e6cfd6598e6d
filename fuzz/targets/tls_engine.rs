//! A client and a server, between which anything may happen: the input is a script of that.

#![no_main]

#[path = "../../tests/common/certificates.rs"]
mod certificates;
#[path = "../../tests/common/tls_configs.rs"]
mod tls_configs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| roundelay::fuzzing::tls_engine(tls_configs::configs(), input));
