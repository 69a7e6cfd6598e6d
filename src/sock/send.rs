//! Sending.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::event_loop::EventLoop;
use crate::event_loop::wait::Wait;
use crate::os::address::Address;
use crate::os::datagram::send_to;
use crate::os::fd::AsFd;
use crate::os::socket::{send, would_block};
use crate::reactor::slot::Direction;
use crate::sock::backoff::Backoff;
use crate::sock::{begin, check};

impl EventLoop {
    /// Sends all of `data` over a connected socket that must be non-blocking. See [`sock_recv`](Self::sock_recv) for what a
    /// socket may be.
    ///
    /// Dropping the future leaves unsent what was not sent yet: how much that is, is not known. On a datagram socket all of
    /// it is one datagram.
    ///
    /// # Errors
    ///
    /// The operating system's. `ResourceBusy` while another operation waits to send over the same descriptor, and
    /// `AlreadyExists` if it has a callback of [`add_writer`](Self::add_writer), or belongs to a transport or stream of
    /// this loop; otherwise as [`sock_recv`](Self::sock_recv).
    pub fn sock_sendall<S: AsFd, D: AsRef<[u8]>>(
        &self,
        sock: S,
        data: D,
    ) -> impl Future<Output = io::Result<()>> + use<S, D> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_sendall", Direction::Write, sock)?;
            let data = data.as_ref();
            let mut sent = 0;
            loop {
                let n = wait.io_loop(|fd| send(fd, &data[sent..])).await?;
                el.core.sent(n);
                sent += n;
                // Nothing at all is sent once, too: it is a datagram.
                if sent >= data.len() {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a datagram to an address, and gives how many bytes it had. Otherwise as [`sock_sendall`](Self::sock_sendall).
    ///
    /// Names are not looked up. Where the queue of a unix socket is full the system does not tell when there is room: it is
    /// tried again in the next turn, and then after a few milliseconds each.
    ///
    /// # Errors
    ///
    /// As [`sock_sendall`](Self::sock_sendall); `InvalidInput` for what is no address.
    ///
    /// See [`sock_recvfrom`](Self::sock_recvfrom) for an example.
    pub fn sock_sendto<S: AsFd, D: AsRef<[u8]>>(
        &self,
        sock: S,
        data: D,
        address: impl Into<Address>,
    ) -> SockSendingTo<S, D> {
        let wait = Wait::new(&self.core, "sock_sendto", Direction::Write, sock);
        SockSendingTo {
            el: self.clone(),
            wait,
            checked: false,
            data,
            address: address.into(),
            backoff: Backoff::default(),
        }
    }
}

/// The future of [`EventLoop::sock_sendto`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct SockSendingTo<S, D> {
    el: EventLoop,
    wait: Wait<S>,
    /// Whether the socket was looked at.
    checked: bool,
    data: D,
    address: Address,
    /// Where the receiver is a unix socket whose queue is full.
    backoff: Backoff,
}

// Nothing in it is pinned.
impl<S, D> Unpin for SockSendingTo<S, D> {}

impl<S: AsFd, D: AsRef<[u8]>> Future for SockSendingTo<S, D> {
    type Output = io::Result<usize>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { el, wait, checked, data, address, backoff } = self.get_mut();
        if !std::mem::replace(checked, true) {
            check(el, wait)?;
        }
        let data = data.as_ref();
        let n = match address {
            Address::Ip(_) => std::task::ready!(wait.poll_io(cx, |fd| send_to(fd, data, address)))?,
            Address::Unix(_) => loop {
                std::task::ready!(backoff.poll_pause(cx));
                match std::task::ready!(wait.poll_try(cx, |fd| send_to(fd, data, address))) {
                    Err(error) if would_block(&error) => backoff.pause(),
                    result => break result?,
                }
            },
        };
        el.core.sent(n);
        Poll::Ready(Ok(n))
    }
}

impl<S, D> fmt::Debug for SockSendingTo<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SockSendingTo").field("address", &self.address).finish_non_exhaustive()
    }
}
