//! What only Unix systems have.

#[cfg(target_os = "linux")]
pub(crate) mod epoll;
pub(crate) mod fork;
