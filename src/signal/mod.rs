//! Signals of the operating system, as callbacks and as streams.

mod dump;
mod handler;
mod kind;
mod service;
mod stream;

pub use kind::SignalKind;
pub use stream::{Signals, signal};

pub(crate) use service::Interrupts;
