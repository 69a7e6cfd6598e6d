//! Datagram endpoints as streams and sinks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use crate::constants::{DATAGRAMS_KEPT, DATAGRAMS_PER_CALL};
use crate::error::LoopClosed;
use crate::event_loop::EventLoop;
use crate::event_loop::inspection::waits_for;
use crate::executor::required_loop;
use crate::os::address::Address;
use crate::protocol::{AnyDatagramProtocol, DatagramHandle, DatagramProtocol, WriteReady};
use crate::sched::info::WaitsFor;
use crate::stream::buffer::wake;

/// A datagram with the address of its sender or its recipient: none for a unix socket without a name, and for the peer of a
/// connected endpoint.
type Letter = (Bytes, Option<Address>);

/// A datagram endpoint as a `Stream` of what arrives and a `Sink` for what is sent. Made by
/// [`DatagramHandle::into_datagrams`]. A socket without a protocol below has the same by
/// [`UdpSocket::into_datagrams`](crate::UdpSocket::into_datagrams).
///
/// The stream gives `io::Result<(Bytes, Option<Address>)>`: each datagram in memory of its own size, with its sender. An error
/// is what a protocol hears by [`error_received`](DatagramProtocol::error_received), also that of a datagram that could not be
/// sent; the stream goes on behind it. It ends with the endpoint, behind the error that has ended it, if there was one. While
/// 16 datagrams and more wait to be taken, the endpoint is [paused](DatagramHandle::pause_reading), and what arrives waits in the
/// kernel; an own [transport](crate::DatagramTransport) that cannot be paused may bring 1024, and more are dropped.
///
/// The sink takes `(Bytes, Option<Address>)`; what has arrived can be sent back as it is. It is ready when the endpoint has
/// nothing queued, and so is its flush: the water marks are zero. Closing it flushes it, and nothing more. What
/// [`sendto`](DatagramHandle::sendto) refuses goes to the exception handler.
///
/// Dropping it closes the endpoint, which sends what is queued.
///
/// ```
/// use futures::{SinkExt, StreamExt};
/// use roundelay::{DatagramProtocol, get_running_loop};
///
/// /// There from when the endpoint is made until it is made a stream.
/// struct Nobody;
/// impl DatagramProtocol for Nobody {}
///
/// roundelay::block_on(async {
///     let el = get_running_loop()?;
///     let (server, _) = el.create_datagram_endpoint(|| Nobody).local_addr("127.0.0.1:0").await?;
///     let addr = server.extra_info().local_addr.unwrap();
///     let mut server = server.into_datagrams()?;
///     let (client, _) = el.create_datagram_endpoint(|| Nobody).remote_addr(addr).await?;
///     let mut client = client.into_datagrams()?;
///
///     client.send(("hello".into(), None)).await?;
///     let (data, from) = server.next().await.unwrap()?;
///     server.send((data, from)).await?;
///     assert_eq!(client.next().await.unwrap()?.0, "hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct EndpointDatagrams {
    transport: DatagramHandle,
    arrivals: Rc<RefCell<Arrivals>>,
    /// For room, or for the queue to be empty, which is the same here.
    waiting: Option<WriteReady>,
}

/// What the protocol leaves for the stream.
#[derive(Default)]
struct Arrivals {
    items: VecDeque<io::Result<Letter>>,
    waiter: Option<Waker>,
    /// Whether nothing more comes.
    ended: bool,
    /// Whether the endpoint was paused from here.
    paused: bool,
}

impl Arrivals {
    /// Gives who is to be woken, with nothing borrowed.
    #[must_use]
    fn push(&mut self, item: io::Result<Letter>) -> Option<Waker> {
        if self.items.len() < DATAGRAMS_KEPT {
            self.items.push_back(item);
        }
        self.waiter.take()
    }

    /// As `push`, for the last one.
    #[must_use]
    fn end(&mut self, error: Option<io::Error>) -> Option<Waker> {
        if !std::mem::replace(&mut self.ended, true) {
            self.items.extend(error.map(Err));
        }
        self.waiter.take()
    }
}

/// Takes what arrives.
struct Feed {
    el: EventLoop,
    arrivals: Rc<RefCell<Arrivals>>,
}

impl DatagramProtocol for Feed {
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        let mut arrivals = self.arrivals.borrow_mut();
        let waiter = arrivals.push(Ok((Bytes::copy_from_slice(data), from.cloned())));
        let is_enough = arrivals.items.len() >= DATAGRAMS_PER_CALL;
        arrivals.paused |= is_enough;
        drop(arrivals);
        if is_enough {
            transport.pause_reading();
        }
        wake(waiter);
    }

    fn error_received(&mut self, _: &DatagramHandle, error: io::Error) {
        let waiter = self.arrivals.borrow_mut().push(Err(error));
        wake(waiter);
    }

    fn connection_lost(&mut self, _: &DatagramHandle, error: Option<io::Error>) {
        let waiter = self.arrivals.borrow_mut().end(error);
        wake(waiter);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Another protocol has taken the endpoint over, or the loop was closed.
        let error = (!self.el.core.is_open()).then(|| LoopClosed.into());
        let waiter = self.arrivals.borrow_mut().end(error);
        wake(waiter);
    }
}

impl DatagramHandle {
    /// The endpoint as a stream of what arrives and a sink for what is sent, for the combinators of the `futures` crate. The
    /// protocol hears of the endpoint no more. Called as soon as the endpoint is there, in the same poll, this misses nothing:
    /// datagrams come in a later turn.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the endpoint is closing or gone.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn into_datagrams(self) -> io::Result<EndpointDatagrams> {
        const METHOD: &str = "DatagramHandle::into_datagrams";
        let el = required_loop(METHOD);
        if self.is_closing() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, format!("{METHOD}(): the endpoint is closed")));
        }
        self.set_write_buffer_limits(0, 0)?;
        let arrivals = Rc::new(RefCell::new(Arrivals::default()));
        self.set_protocol(AnyDatagramProtocol::new(Feed { el, arrivals: arrivals.clone() }));
        self.resume_reading();
        Ok(EndpointDatagrams { transport: self, arrivals, waiting: None })
    }
}

impl EndpointDatagrams {
    /// The endpoint.
    pub fn get_ref(&self) -> &DatagramHandle {
        &self.transport
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.waiting.get_or_insert_with(|| self.transport.ready());
        let sent = ready!(Pin::new(waiting).poll(cx));
        self.waiting = None;
        Poll::Ready(sent)
    }
}

impl Stream for EndpointDatagrams {
    type Item = io::Result<Letter>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A waker may be the application's: it is cloned and dropped with nothing borrowed.
        let waker = cx.waker().clone();
        let mut arrivals = self.arrivals.borrow_mut();
        let item = arrivals.items.pop_front();
        if arrivals.items.is_empty() && std::mem::take(&mut arrivals.paused) {
            drop(arrivals);
            self.transport.resume_reading();
            return Poll::Ready(item);
        }
        if item.is_some() || arrivals.ended {
            return Poll::Ready(item);
        }
        let before = arrivals.waiter.replace(waker);
        drop(arrivals);
        drop(before);
        waits_for(|| WaitsFor::Other("a datagram"));
        Poll::Pending
    }
}

impl Sink<Letter> for EndpointDatagrams {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    fn start_send(self: Pin<&mut Self>, (data, to): Letter) -> io::Result<()> {
        if self.transport.is_closing() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "EndpointDatagrams: the endpoint is closed"));
        }
        self.transport.sendto(&data, to.as_ref());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }
}

impl fmt::Debug for EndpointDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.arrivals.borrow().items.len();
        f.debug_struct("EndpointDatagrams").field("transport", &self.transport).field("waiting", &waiting).finish()
    }
}

impl Drop for EndpointDatagrams {
    fn drop(&mut self) {
        self.transport.close();
    }
}
