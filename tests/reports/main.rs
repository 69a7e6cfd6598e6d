//! Every kind of report, and of warning, on its text: what it says, what it is about, which place it names (behaviours EH,
//! RW), and in which context it is made.

#![allow(unreachable_pub)]

#[cfg(feature = "__tls")]
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/collector.rs"]
mod collector;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/signals.rs"]
mod signals;

mod callbacks;
mod contexts;
mod left_open;
mod support;
mod tasks;
mod transports;
