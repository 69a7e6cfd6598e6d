//! Connecting and accepting.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, SockRef, Socket};

use crate::dns::addr::{Family, Host, Port};
use crate::dns::hints::{Hints, SocketType};
use crate::dns::resolve;
use crate::error::{AddressError, LoopClosed};
use crate::event_loop::EventLoop;
use crate::os::address::{Address, UnixAddr};
use crate::os::fd::{AsFd, BorrowedFd};
use crate::os::socket::{self, accept, is_lost_connection, would_block};
use crate::reactor::slot::Direction;
use crate::sock::backoff::Backoff;
use crate::sock::begin;
use crate::sock::destination::{Destination, DestinationKind};

impl EventLoop {
    /// Connects a socket that must be non-blocking. See [`sock_recv`](Self::sock_recv) for what a socket may be.
    ///
    /// A name is looked up off the loop, for addresses of the socket's own family, and the first one is connected to.
    /// Dropping the future leaves a connection under way to itself; connecting anew waits for that one. Where the queue of a
    /// unix listener is full this tries again until it no longer is, of which the system does not tell.
    ///
    /// # Errors
    ///
    /// The resolver's; the operating system's, naming the address: for one of the internet's with an
    /// [`AddressError`]. Otherwise as [`sock_sendall`](Self::sock_sendall).
    ///
    /// ```
    /// use socket2::{Domain, Socket, Type};
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    ///     listener.set_nonblocking(true)?;
    ///     let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    ///     el.sock_connect(&client, listener.local_addr()?).await?;
    ///     let (server, peer) = el.sock_accept(&listener).await?;
    ///     assert_eq!(peer.as_ip(), client.local_addr()?.as_socket());
    ///     el.sock_sendall(&server, "hello").await?;
    ///     assert_eq!(el.sock_recv(&client, 100).await?, b"hello");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn sock_connect<'a, S: AsFd + 'a>(&self, sock: S, destination: impl Into<Destination>) -> SockConnecting<'a> {
        let (el, destination) = (self.clone(), destination.into());
        let future = async move {
            let mut wait = begin(&el, "sock_connect", Direction::Write, sock)?;
            let address = match destination.kind {
                DestinationKind::Host(host, port) => {
                    let hints = hints_of(wait.io())?;
                    resolved(&el, &host, &port, hints).await?
                }
                DestinationKind::Address(address) => address.to_sock_addr()?,
                DestinationKind::System(address) => address,
            };
            let (mut is_under_way, mut backoff) = (false, Backoff::default());
            loop {
                let connected = wait.io_loop(|fd| {
                    if is_under_way {
                        return match socket::connect_result(fd) {
                            Err(error) if would_block(&error) => Err(error),
                            result => Ok(result),
                        };
                    }
                    match socket::connect(&SockRef::from(&fd), &address) {
                        Ok(true) => Ok(Ok(())),
                        Ok(false) => {
                            is_under_way = true;
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                        // Also that a listener's queue is full: that the descriptor is ready would say nothing about it.
                        Err(error) => Ok(Err(error)),
                    }
                });
                match connected.await? {
                    Err(error) if would_block(&error) && address.is_unix() => {
                        backoff.pause();
                        poll_fn(|cx| backoff.poll_pause(cx)).await;
                    }
                    result => return result.map_err(|error| failed(&address, error)),
                }
            }
        };
        SockConnecting { future: Box::pin(future) }
    }

    /// Accepts a connection of a listening socket that must be non-blocking; the connection is non-blocking, too. See
    /// [`sock_recv`](Self::sock_recv) for what a socket may be.
    ///
    /// Dropping the future loses no connection. One that was given up before it was accepted is skipped. The peer of a unix
    /// socket has most often no address: [`UnixAddr::is_unnamed`].
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv), most often a shortage of descriptors. `Unsupported`, and the connection is closed,
    /// if the peer's address is of a family that [`Address`] does not know.
    ///
    /// See [`sock_connect`](Self::sock_connect) for an example.
    pub fn sock_accept<S: AsFd>(&self, sock: S) -> impl Future<Output = io::Result<(Socket, Address)>> + use<S> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_accept", Direction::Read, sock)?;
            let (connection, peer) = wait
                .io_loop(|fd| {
                    loop {
                        match accept(fd) {
                            Err(error) if is_lost_connection(&error) => {}
                            result => return result,
                        }
                    }
                })
                .await?;
            match peer {
                Some(peer) => Ok((connection, peer)),
                None if socket::family(connection.as_fd())? == Domain::UNIX => {
                    Ok((connection, UnixAddr::unnamed().into()))
                }
                None => {
                    let text = "EventLoop::sock_accept(): the peer's address is neither of the internet nor a unix one";
                    Err(io::Error::new(io::ErrorKind::Unsupported, text))
                }
            }
        }
    }
}

/// The future of [`EventLoop::sock_connect`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct SockConnecting<'a> {
    future: Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>,
}

impl Future for SockConnecting<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for SockConnecting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SockConnecting")
    }
}

/// What kind of addresses a socket can be connected to.
fn hints_of(socket: BorrowedFd<'_>) -> io::Result<Hints> {
    let family = match socket::family(socket)? {
        Domain::IPV4 => Family::V4,
        Domain::IPV6 => Family::V6,
        _ => Family::Any,
    };
    Ok(Hints { family, ..Hints::of(SocketType::of_raw(socket::kind(socket)?.into())) })
}

/// The first address of a host.
async fn resolved(el: &EventLoop, host: &Host, port: &Port, hints: Hints) -> io::Result<SockAddr> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let addresses = resolve(el, host, port, hints).await?;
    let first = addresses.into_iter().next();
    first.map(SockAddr::from).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The system's error, with the address.
fn failed(address: &SockAddr, error: io::Error) -> io::Error {
    match (address.as_socket(), UnixAddr::of_sock_addr(address)) {
        (Some(address), _) => AddressError::wrap("connect to", address, error),
        (None, Some(address)) => io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")),
        (None, None) => error,
    }
}
