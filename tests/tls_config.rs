//! Who is trusted, who one is: the configurations of TLS.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;

use certificates::tls_pair;

#[test]
fn a_pair_can_be_made() {
    let _ = tls_pair();
}
