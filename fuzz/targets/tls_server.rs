//! A server, and somebody who need not speak TLS: the input is what they say.

#![no_main]

#[path = "../../tests/common/certificates.rs"]
mod certificates;
#[path = "../../tests/common/tls_configs.rs"]
mod tls_configs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| roundelay::fuzzing::tls_server(tls_configs::configs(), input));
