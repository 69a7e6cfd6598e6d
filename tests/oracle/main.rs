//! The same scenarios on asyncio and here, traces compared line by line.
//!
//! `scenarios.py` runs a scenario on Python's asyncio (3.11 or newer) and prints what happened. The test of the same
//! name runs it on this crate's loop, on every selector, asking the selector in each turn as asyncio does. The traces
//! must be equal, except where `differences.md` names a difference that is meant.
//!
//! `ROUNDELAY_ORACLE_PYTHON` names the interpreter (`python3` otherwise); `ROUNDELAY_ORACLE_REPEAT` lets each scenario
//! run so many times, on both sides. Without an interpreter that is new enough the comparison is skipped, and stderr
//! says so. The scenarios with TLS are compared where the crate has it.

#![allow(unreachable_pub)]

#[cfg(feature = "__tls")]
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/collector.rs"]
mod collector;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/signals.rs"]
mod dispositions;
#[path = "../common/pipes.rs"]
mod ends;

mod bodies;
mod combining;
mod datagrams;
mod debugging;
mod descriptors;
mod eager;
mod endings;
mod executors;
mod flow;
mod futures;
mod generators;
mod graceful;
mod groups;
mod oracle;
mod order;
mod pipes;
mod protocols;
mod reading;
mod runs;
mod sendfile;
mod servers;
mod signal_handlers;
mod signals;
mod sockets;
mod streams;
mod subprocesses;
mod support;
mod tasks;
mod timers;
#[cfg(feature = "__tls")]
mod tls;
#[cfg(feature = "__tls")]
mod tls_ends;
#[cfg(feature = "__tls")]
mod tls_flow;
#[cfg(feature = "__tls")]
mod tls_peer;
#[cfg(feature = "__tls")]
mod tls_start;
#[cfg(feature = "__tls")]
mod tls_streams;
mod unix;
