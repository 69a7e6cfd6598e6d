//! Datagram sockets as streams and sinks.

use std::fmt;
use std::io::{self, ErrorKind::ConnectionRefused};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use crate::os::address::UnixAddr;
use crate::stream::udp::UdpSocket;
use crate::stream::unix_datagram::UnixDatagram;
use Refused::{OfAnEarlierOne, OfThisOne};

/// A datagram socket as a `Stream` of what arrives and a `Sink` for what is sent. Made by [`UdpSocket::into_datagrams`] and
/// [`UnixDatagram::into_datagrams`](crate::UnixDatagram::into_datagrams).
///
/// The stream gives `io::Result<(Bytes, address)>`: each datagram in memory of its own size, with its sender. An error is
/// one of the socket's, such as that an earlier datagram found nobody; the stream goes on behind it. It ends once its loop
/// is closed, which it says before. Nothing is received while nobody asks: the kernel's buffer is all there is.
///
/// The sink takes `(Bytes, address)`. It holds one datagram at most, which goes to the kernel by the next
/// `poll_ready`, `poll_flush` or `poll_close`, and these wait while the kernel's buffer is full. A datagram that cannot be
/// sent is dropped, and their error says why; the sink goes on. Where a [`UdpSocket`] says that an earlier datagram found
/// nobody, the one at hand is kept, and goes by the next of these calls. Closing it flushes it, and nothing more. The address of the
/// peer of a socket that was connected before will do for it, too: with a [pair](crate::UnixDatagram::pair), whose ends
/// have no name, what has arrived can be sent back as it is.
///
/// ```
/// use futures::{SinkExt, StreamExt};
/// use roundelay::UdpSocket;
///
/// roundelay::block_on(async {
///     let mut server = UdpSocket::bind(("127.0.0.1", 0)).await?.into_datagrams();
///     let to = server.get_ref().local_addr()?;
///     let mut client = UdpSocket::bind(("127.0.0.1", 0)).await?.into_datagrams();
///     client.send(("hello".into(), to)).await?;
///     let (data, from) = server.next().await.unwrap()?;
///     server.send((data, from)).await?;
///     assert_eq!(client.next().await.unwrap()?, ("hello".into(), to));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct Datagrams<S = UdpSocket, A = SocketAddr> {
    socket: S,
    /// The peer of a connected socket.
    peer: Option<A>,
    /// What is to be sent.
    outgoing: Option<(Bytes, A)>,
    /// Whether the loop was found closed.
    ended: bool,
}

impl<S, A> Datagrams<S, A> {
    pub(super) fn new(socket: S, peer: Option<A>) -> Self {
        Self { socket, peer, outgoing: None, ended: false }
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// The socket again. A datagram that was not flushed is dropped.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: fmt::Debug, A> fmt::Debug for Datagrams<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Datagrams");
        debug.field("socket", &self.socket).field("unsent", &self.outgoing.is_some()).finish()
    }
}

/// Of which datagram a socket says that nobody wanted it. The internet answers when it is gone; a unix socket does at once.
#[derive(PartialEq)]
enum Refused {
    OfThisOne,
    OfAnEarlierOne,
}

/// Both traits, for a socket that `impl_datagrams` has made, of addresses.
macro_rules! impl_datagrams_of {
    ($socket:ident, $address:ident, refused: $refused:expr) => {
        impl Stream for Datagrams<$socket, $address> {
            type Item = io::Result<(Bytes, $address)>;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let this = self.get_mut();
                if this.ended {
                    return Poll::Ready(None);
                }
                let arrived = ready!(this.socket.poll_arrival(cx));
                this.ended = arrived.is_err() && !this.socket.core().is_open();
                Poll::Ready(Some(arrived))
            }
        }

        impl Datagrams<$socket, $address> {
            fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let Some((data, to)) = &self.outgoing else { return Poll::Ready(Ok(())) };
                let sent = if self.peer.as_ref() == Some(to) {
                    ready!(self.socket.poll_send(cx, data))
                } else {
                    ready!(self.socket.poll_letter(cx, data, to))
                };
                if !matches!(&sent, Err(error) if $refused == OfAnEarlierOne && error.kind() == ConnectionRefused) {
                    self.outgoing = None;
                }
                Poll::Ready(sent.map(drop))
            }
        }

        impl Sink<(Bytes, $address)> for Datagrams<$socket, $address> {
            type Error = io::Error;

            fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_send(cx)
            }

            fn start_send(self: Pin<&mut Self>, item: (Bytes, $address)) -> io::Result<()> {
                self.get_mut().outgoing = Some(item);
                Ok(())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_send(cx)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_send(cx)
            }
        }
    };
}

impl_datagrams_of!(UdpSocket, SocketAddr, refused: OfAnEarlierOne);
impl_datagrams_of!(UnixDatagram, UnixAddr, refused: OfThisOne);
