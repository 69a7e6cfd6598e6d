//! Sockets of the application's, used directly: `sock_recv` and its kin.
//!
//! A call is tried first. Only if it would have blocked the socket is registered, until the operation is done or dropped.

pub(crate) mod backoff;
mod connect;
mod destination;
pub(crate) mod file;
mod receive;
mod send;
pub(crate) mod sendfile;

pub use connect::SockConnecting;
pub use destination::Destination;
pub use send::SockSendingTo;

use std::io;

use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::event_loop::wait::Wait;
use crate::os::fd::AsFd;
use crate::os::socket::is_nonblocking;
use crate::reactor::slot::Direction;

/// An operation that is about to be tried.
fn begin<S: AsFd>(el: &EventLoop, method: &'static str, direction: Direction, sock: S) -> io::Result<Wait<S>> {
    let wait = Wait::new(&el.core, method, direction, sock);
    check(el, &wait)?;
    Ok(wait)
}

/// In debug mode, that the socket will not block the loop.
fn check<S: AsFd>(el: &EventLoop, wait: &Wait<S>) -> io::Result<()> {
    if el.debug() && !is_nonblocking(wait.io())? {
        let text = format!("EventLoop::{}(): the socket must be non-blocking", wait.method());
        return Err(invalid_input(text));
    }
    Ok(())
}
