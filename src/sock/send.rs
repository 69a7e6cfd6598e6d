//! Sending.

use std::future::{Future, poll_fn};
use std::io;

use crate::event_loop::EventLoop;
use crate::os::address::Address;
use crate::os::fd::AsFd;
use crate::os::socket::{send, send_to, would_block};
use crate::reactor::slot::Direction;
use crate::sock::backoff::Backoff;
use crate::sock::begin;

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
                el.core.spend_bytes(n);
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
    pub fn sock_sendto<S: AsFd, D: AsRef<[u8]>, A: Into<Address>>(
        &self,
        sock: S,
        data: D,
        address: A,
    ) -> impl Future<Output = io::Result<usize>> + use<S, D, A> {
        let (el, address) = (self.clone(), address.into());
        async move {
            let mut wait = begin(&el, "sock_sendto", Direction::Write, sock)?;
            let data = data.as_ref();
            let n = match address {
                Address::Ip(_) => wait.io_loop(|fd| send_to(fd, data, &address)).await?,
                Address::Unix(_) => {
                    let mut backoff = Backoff::default();
                    loop {
                        match poll_fn(|cx| wait.poll_try(cx, |fd| send_to(fd, data, &address))).await {
                            Err(error) if would_block(&error) => poll_fn(|cx| backoff.poll(cx)).await,
                            result => break result?,
                        }
                    }
                }
            };
            el.core.spend_bytes(n);
            Ok(n)
        }
    }
}
