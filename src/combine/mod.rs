//! Waiting for several at once.

mod completed;
mod gather;
pub(crate) mod lineup;
mod shield;
mod wait;

pub use completed::{AsCompleted, AsCompletedInTime, as_completed};
pub use gather::{Gather, GatherAll, TryGather, gather, try_gather};
pub use shield::{Shield, shield};
pub use wait::{Wait, Waited, wait};
