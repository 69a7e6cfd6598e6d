//! Transports over descriptors: the implementations behind [`Transport`](crate::Transport).

pub(crate) mod actions;
pub(crate) mod address;
pub(crate) mod at_work;
pub(crate) mod datagram;
pub(crate) mod flow;
pub(crate) mod lifecycle;
pub(crate) mod queue;
pub(crate) mod stream;
