//! What the network code makes of system calls that fail, each at each place at which it is made.
//!
//! A scenario is run again and again: first with nothing amiss, to count its system calls; then once for each call and
//! each way in which it may fail. Each run has to end in success or in errors that somebody is told of: without a hang,
//! without a lost or doubled byte, without a descriptor left, and with `connection_lost` once for each `connection_made`.
//!
//! Needs a build of its own, `--cfg roundelay_fault`: `ci/fault.sh` makes it. In any other this is empty.

#![cfg(roundelay_fault)]
#![allow(unreachable_pub)]

mod bridges;
#[cfg(feature = "__tls")]
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod datagrams;
mod pipes;
mod sendfile;
mod sockets;
mod subprocess;
mod sweep;
#[cfg(feature = "__tls")]
mod tls;
mod unix;
