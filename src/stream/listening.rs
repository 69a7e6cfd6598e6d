//! What the plain listeners are made of: a registered socket, and whoever waits for its connections.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use socket2::Socket;

use crate::event_loop::EventLoop;
use crate::event_loop::source::Source;
use crate::event_loop::waiters::{Waiter, Waiters};
use crate::net::{Domain, SocketOptions};
use crate::os::address::Address;
use crate::os::fd::AsFd;
use crate::os::socket::{accept, is_lost_connection};
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};
use crate::stream::tcp_listener::TcpListener;

/// A connection, registered, with the peer's address where accepting has told it.
pub(super) type Accepted = (Source<Socket>, Option<Address>);

pub(super) struct Listening {
    source: Source<Socket>,
    waiters: Waiters,
    /// What its connections have, too.
    options: SocketOptions,
    domain: Domain,
}

impl Listening {
    pub(super) fn new(el: &EventLoop, socket: Socket, options: SocketOptions) -> io::Result<Self> {
        let domain = Domain::of(&socket);
        let source = Source::with_interest(&el.core, socket, Interest::READABLE, Readiness::READABLE)?;
        Ok(Self { source, waiters: Waiters::new(), options, domain })
    }

    pub(super) fn socket(&self) -> &Socket {
        self.source.io()
    }

    /// The socket, unwatched.
    pub(super) fn into_socket(self) -> Socket {
        let (registration, socket) = self.source.into_parts();
        drop(registration);
        socket
    }

    pub(super) fn join(&self) -> Waiter {
        self.waiters.join()
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        let waiter = self.join();
        poll_fn(|cx| self.poll_for(&waiter, cx)).await
    }

    /// For one who has joined.
    pub(super) fn poll_for(&self, waiter: &Waiter, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        // With the task's own waker, which is woken at once where the budget is used up.
        std::task::ready!(self.source.core().poll_budget(cx));
        waiter.poll(cx, |cx| self.poll_source(cx))
    }

    /// For whoever polls.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        std::task::ready!(self.source.core().poll_budget(cx));
        self.waiters.poll(cx, |cx| self.poll_source(cx))
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let accepted = self.source.poll_io(Direction::Read, cx, |listener| {
            loop {
                match accept(listener.as_fd()) {
                    Err(error) if is_lost_connection(&error) => {}
                    result => return result,
                }
            }
        });
        let (socket, peer_addr) = std::task::ready!(accepted)?;
        self.options.apply_to_accepted(&socket, self.domain);
        Poll::Ready(Ok((Source::new(self.source.core(), socket)?, peer_addr)))
    }
}

/// The stream of [`TcpListener::incoming`] and of [`UnixListener::incoming`](crate::UnixListener::incoming).
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<'a, L = TcpListener> {
    pub(super) listener: &'a L,
    pub(super) waiter: Waiter,
}

impl<L: fmt::Debug> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", &self.listener).finish()
    }
}

/// What listeners of every kind have beside how they are made: a `listening`.
macro_rules! impl_listener {
    ($name:ident, $stream:ident, $address:ty, $of_kind:path, $std:ty) => {
        impl $name {
            /// Waits for a connection. May be dropped before: no connection is lost. Several tasks may accept at once.
            ///
            /// # Errors
            ///
            /// The operating system's, most often a shortage of descriptors, after which waiting a while helps. A
            /// connection that was given up before it was accepted is skipped.
            pub async fn accept(&self) -> io::Result<($stream, $address)> {
                Self::open(self.listening.accept().await?)
            }

            /// As [`accept`](Self::accept), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`accept`](Self::accept).
            pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<($stream, $address)>> {
                self.listening.poll(cx).map(|accepted| Self::open(accepted?))
            }

            fn open((source, peer): Accepted) -> io::Result<($stream, $address)> {
                let peer = match peer.and_then(|peer| $of_kind(peer).ok()) {
                    Some(peer) => peer,
                    None => $of_kind(peer_addr(source.io())?)?,
                };
                Ok(($stream::over(source), peer))
            }

            /// Gives the socket away, unwatched; connections that wait to be accepted stay with it. It stays non-blocking. An
            /// `OwnedFd` can be made of it.
            pub fn into_std(self) -> $std {
                self.listening.into_socket().into()
            }

            /// The connections as a stream that never ends.
            pub fn incoming(&self) -> Incoming<'_, Self> {
                Incoming { listener: self, waiter: self.listening.join() }
            }

            /// The address that it listens on.
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn local_addr(&self) -> io::Result<$address> {
                $of_kind(local_addr(self.listening.socket())?)
            }
        }

        impl Stream for Incoming<'_, $name> {
            type Item = io::Result<$stream>;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let accepted = self.listener.listening.poll_for(&self.waiter, cx);
                accepted.map(|accepted| Some(accepted.map(|(source, _)| $stream::over(source))))
            }
        }

        impl From<$name> for OwnedFd {
            fn from(listener: $name) -> Self {
                listener.into_std().into()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.listening.socket().as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.listening.socket().as_raw_fd()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let local = self.local_addr().ok();
                f.debug_struct(stringify!($name)).field("local", &local).field("fd", &self.as_raw_fd()).finish()
            }
        }
    };
}
pub(super) use impl_listener;
