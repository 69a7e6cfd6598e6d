//! What only Unix systems have.

pub(crate) mod activation;
pub(crate) mod child;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
pub(crate) mod fork;
mod orphans;
mod pidfd;
pub(crate) mod pipe;
pub(crate) mod signal;
pub(crate) mod spawn;
