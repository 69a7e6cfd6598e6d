//! Sockets of the application's, used directly: `sock_recv` and its kin.
//!
//! A call is tried first. Only if it would have blocked the socket is registered, until the operation is done or dropped.

pub(crate) mod backoff;
mod connect;
mod destination;
mod receive;
mod send;

pub use destination::Destination;

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
    if el.debug() && !is_nonblocking(wait.io())? {
        return Err(invalid_input(format!("EventLoop::{method}(): the socket must be non-blocking")));
    }
    Ok(wait)
}
