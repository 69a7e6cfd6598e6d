//! What only the engine of TLS can do wrong, through connections.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/tls_configs.rs"]
mod tls_configs;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream as Peer;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use certificates::{acceptor, tls_pair};
use common::{complete, run_until, take_reports};
use futures::io::{AsyncRead, AsyncWrite};
use roundelay::{EventLoop, KeepOpen, Protocol, Server, TcpStream, Transport};
use rustls::version;
use tcp::{Echo, LOOPBACK};

/// Notes what it hears.
#[derive(Clone, Default)]
struct Side(Rc<Heard>);

#[derive(Default)]
struct Heard {
    data: RefCell<Vec<u8>>,
    lost: RefCell<Option<Option<io::Error>>>,
}

impl Protocol for Side {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.data.borrow_mut().extend_from_slice(data);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        *self.0.lost.borrow_mut() = Some(error);
    }
}

/// How often the transport above is called yet, and how.
type Meddles = Rc<Cell<(usize, fn(&Transport))>>;

/// A stream that calls the transport above whenever it is written to.
struct Meddler {
    stream: TcpStream,
    upper: Rc<RefCell<Option<Transport>>>,
    meddles: Meddles,
}

impl AsyncRead for Meddler {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Meddler {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(upper) = &*self.upper.borrow() {
            let (times, meddle) = self.meddles.get();
            if times > 0 {
                self.meddles.set((times - 1, meddle));
                meddle(upper);
            }
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = data.iter().find(|piece| !piece.is_empty());
        self.as_mut().poll_write(cx, first.map_or(&[], |piece| piece))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A client over such a stream, and whom it has met.
struct Meddling {
    upper: Rc<RefCell<Option<Transport>>>,
    meddles: Meddles,
    transport: Transport,
    side: Side,
    served: Side,
    server: Server,
}

impl Meddling {
    fn new(el: &EventLoop) -> Self {
        let (connector, acceptor) = tls_pair();
        let (side, served) = (Side::default(), Side::default());
        let protocol = served.clone();
        let serving = el.create_server(move || protocol.clone(), LOOPBACK).tls(acceptor);
        let server = complete(el, serving).unwrap();
        let (upper, meddles) = (Rc::<RefCell<_>>::default(), Meddles::new(Cell::new((0, |_| {}))));
        let stream = complete(el, TcpStream::connect(server.local_addrs()[0])).unwrap();
        let meddler = Meddler { stream, upper: Rc::clone(&upper), meddles: meddles.clone() };
        let (lower, _) = el.connect_stream(|| tcp::Idle, meddler).unwrap();
        let starting = el.start_tls(lower, side.clone(), connector).server_hostname("localhost");
        let transport = complete(el, starting).unwrap();
        Self { upper, meddles, transport, side, served, server }
    }

    /// Writes, while the stream does that so many times.
    fn write(&self, data: &[u8], times: usize, meddle: fn(&Transport)) {
        *self.upper.borrow_mut() = Some(self.transport.clone());
        self.meddles.set((times, meddle));
        self.transport.write(data);
    }

    fn end(&self, el: &EventLoop) {
        run_until(el, || self.side.0.lost.borrow().is_some() && self.served.0.lost.borrow().is_some());
        assert_eq!(self.meddles.get().0, 0);
        assert!(self.side.0.lost.borrow().as_ref().unwrap().is_none());
        self.upper.take();
        shut(el, self.server.clone());
    }
}

/// Waits for the server's connections, too.
fn shut(el: &EventLoop, server: Server) {
    assert!(complete(el, async move { server.shutdown(Duration::from_secs(20)).await }));
}

on_every_loop! {
    /// A handshake message for which nobody has room ends its connection, and disturbs nobody else.
    fn a_handshake_message_that_is_too_long_ends_the_connection(el) {
        let (connector, acceptor) = tls_pair();
        let server = complete(el, el.create_server(|| Echo, LOOPBACK).tls(acceptor)).unwrap();
        let address = server.local_addrs()[0];
        let stranger = thread::spawn(move || {
            let mut peer = Peer::connect(address).unwrap();
            let start = [1_u8, 0, 0xff, 0xf0].into_iter();
            let records: Vec<u8> = start.chain([0; 20_000]).flat_map(|byte| [0x16, 3, 1, 0, 1, byte]).collect();
            // It is not asked for all of them.
            let _ = peer.write_all(&records);
            let _ = peer.read_to_end(&mut Vec::new());
        });
        run_until(el, || stranger.is_finished());
        stranger.join().unwrap();
        let reports = take_reports();
        if el.debug() {
            assert!(reports.iter().any(|report| report.contains("HandshakePayloadTooLarge")), "{reports:?}");
        } else {
            assert!(reports.is_empty(), "{reports:?}");
        }
        let side = Side::default();
        let protocol = side.clone();
        let connecting = el.create_connection(|| protocol, server.local_addrs()[0]).tls(connector);
        let (transport, _) = complete(el, connecting.server_hostname("localhost")).unwrap();
        transport.write(b"and who is this?");
        run_until(el, || *side.0.data.borrow() == b"and who is this?");
        transport.abort();
        run_until(el, || side.0.lost.borrow().is_some());
        shut(el, server);
    }

    /// What cannot be encrypted is not lost without a word: the connection ends with an error.
    fn keys_that_are_used_up_end_the_connection(el) {
        let (client, _) = tls_configs::config_with(tls_configs::few_records(), &version::TLS12);
        let server = complete(el, el.create_server(|| Echo, LOOPBACK).tls(acceptor())).unwrap();
        let side = Side::default();
        let protocol = side.clone();
        let connecting = el.create_connection(|| protocol, server.local_addrs()[0]).tls(Arc::new(client));
        let (transport, _) = complete(el, connecting.server_hostname("localhost")).unwrap();
        for _ in 0..100 {
            transport.write(b"once more");
        }
        run_until(el, || side.0.lost.borrow().is_some());
        let error = side.0.lost.take().unwrap().expect("not all was sent");
        assert!(error.to_string().contains("used up"), "{error}");
        shut(el, server);
    }

    /// A stream below may call the transport above while it is written to: what it writes there is queued, and sent.
    fn a_stream_below_may_write_to_the_transport_above(el) {
        let meddling = Meddling::new(el);
        let meddle = |upper: &Transport| {
            assert!(upper.extra_info().tls.is_some());
            upper.write(b"!");
        };
        let data = vec![7; 200_000];
        meddling.write(&data, 3, meddle);
        run_until(el, || meddling.served.0.data.borrow().len() >= data.len() + 3);
        assert!(*meddling.served.0.data.borrow() == [&data[..], b"!!!"].concat(), "in order, and what came in between behind");
        meddling.transport.abort();
        meddling.end(el);
    }

    /// It may close it: what is being written is sent before.
    fn a_stream_below_may_close_the_transport_above(el) {
        let meddling = Meddling::new(el);
        let data = vec![7; 200_000];
        meddling.write(&data, 1, |upper| upper.close());
        meddling.end(el);
        assert!(*meddling.served.0.data.borrow() == data);
    }

    /// And it may abort it.
    fn a_stream_below_may_abort_the_transport_above(el) {
        let meddling = Meddling::new(el);
        meddling.write(&[7; 200_000], 1, |upper| upper.abort());
        meddling.end(el);
        assert!(meddling.served.0.data.borrow().len() < 200_000);
    }
}
