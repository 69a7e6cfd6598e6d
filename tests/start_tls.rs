//! Connections that change to TLS.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/tls_client.rs"]
mod tls_client;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::join;
use roundelay::{
    Buffered, BufferedProtocol, ContextVar, EventLoop, InvalidState, KeepOpen, LoopFuture, Protocol, StartTls,
    Transport, spawn, timeout,
};

use socket2::SockRef;

use certificates::{acceptor, connector};
use common::{on_manual_clock, open_descriptors, run_until, settle};
use tcp::{Recorder, calm, complete, pattern, plain_pair, receive, receive_all};
use tls_client::HandClient;

/// A connection with both of its ends in this loop: a transport and what its protocol hears, twice.
fn pair(el: &EventLoop) -> ((Transport, Recorder), (Transport, Recorder)) {
    let (near, far) = plain_pair();
    let (client, server) = (Recorder::new(), Recorder::new());
    let (given, taken) = (client.clone(), server.clone());
    let (near, _) = complete(el, el.create_connection(move || given, near)).unwrap();
    let (far, _) = complete(el, el.connect_accepted_socket(move || taken, far)).unwrap();
    assert_eq!((client.take(), server.take()), (vec!["made".to_owned()], vec!["made".to_owned()]));
    ((near, client), (far, server))
}

/// The server's end of a connection, and a client that is driven by hand.
fn accepted<P: Protocol>(el: &EventLoop, protocol: P) -> (HandClient, Transport) {
    let (near, far) = plain_pair();
    // So that a write of some hundred KiB stays queued in part.
    SockRef::from(&far).set_send_buffer_size(8 * 1024).unwrap();
    SockRef::from(&near).set_recv_buffer_size(32 * 1024).unwrap();
    let (transport, _) = complete(el, el.connect_accepted_socket(move || protocol, far)).unwrap();
    (HandClient::new(near), transport)
}

/// To the client's side, with the protocol that it has.
fn as_client(el: &EventLoop, transport: &Transport) -> StartTls {
    let protocol = transport.protocol().unwrap();
    el.start_tls(transport.clone(), protocol, connector()).server_hostname("localhost")
}

/// To the server's side.
fn as_server(el: &EventLoop, transport: &Transport) -> StartTls {
    el.start_tls(transport.clone(), transport.protocol().unwrap(), acceptor())
}

/// Both ends change to TLS.
fn change(el: &EventLoop, client: &Transport, server: &Transport) -> (Transport, Transport) {
    let (client, server) = (as_client(el, client).into_future(), as_server(el, server).into_future());
    let (client, server) = complete(el, async { join!(client, server) });
    (client.unwrap(), server.unwrap())
}

/// The peer goes, and with it the connection.
fn leave(el: &EventLoop, mut client: HandClient, transport: &Transport) {
    // A socket that is closed with something in it resets the connection.
    client.pump();
    drop(client);
    run_until(el, || transport.protocol().is_none());
}

/// Closes both ends.
fn end(el: &EventLoop, client: &Transport, server: &Transport) {
    client.close();
    run_until(el, || client.protocol().is_none() && server.protocol().is_none());
}

/// A protocol that echoes over whatever transport is in the slot, as those do that keep their transports.
struct Upgrading {
    slot: Rc<RefCell<Option<Transport>>>,
    heard: Recorder,
}

impl Protocol for Upgrading {
    fn connection_made(&mut self, transport: &Transport) {
        *self.slot.borrow_mut() = Some(transport.clone());
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.heard.data_received(transport, data);
        self.slot.borrow().as_ref().unwrap().write(data);
    }
}

/// A protocol that pauses where it is told so.
#[derive(Clone, Default)]
struct Flow(Recorder);

impl Protocol for Flow {
    fn pause_writing(&mut self, _: &Transport) {
        self.0.0.push("pause");
    }
    fn resume_writing(&mut self, _: &Transport) {
        self.0.0.push("resume");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.0.data_received(transport, data);
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.0.connection_lost(transport, error);
    }
}

/// A protocol with a small buffer of its own.
struct Pieces {
    buffer: [u8; 4],
    heard: Recorder,
}

impl BufferedProtocol for Pieces {
    fn connection_made(&mut self, transport: &Transport) {
        self.heard.connection_made(transport);
    }
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }
    fn buffer_updated(&mut self, transport: &Transport, n: usize) {
        self.heard.data_received(transport, &self.buffer[..n]);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.heard.eof_received(transport)
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.heard.connection_lost(transport, error);
    }
}

on_every_loop! {
    /// TL-15: a new transport is given, and the protocol goes on without a second beginning; both directions work.
    fn both_ends_change(el) {
        let ((client, said), (server, heard)) = pair(el);
        client.write(b"clear");
        run_until(el, || heard.0.len() > 0);
        assert_eq!(heard.take(), ["data clear"]);
        let (client_tls, server_tls) = change(el, &client, &server);
        assert!(client_tls != client && server_tls != server);
        assert_eq!(client_tls.extra_info().peer_addr, client.extra_info().peer_addr);
        assert!(client_tls.extra_info().tls.is_some() && client.extra_info().tls.is_none());

        client_tls.write(b"hidden");
        server_tls.write(b"answer");
        run_until(el, || said.0.len() > 0 && heard.0.len() > 0);
        assert_eq!((said.take(), heard.take()), (vec!["data answer".to_owned()], vec!["data hidden".to_owned()]));
        end(el, &client_tls, &server_tls);
        run_until(el, || client.protocol().is_none() && server.protocol().is_none());
        assert_eq!((said.take(), heard.take()), (vec!["eof".into(), "lost".into()], vec!["eof".to_owned(), "lost".into()]));
    }

    /// TL-15: what was written before arrives in clear, however much it is, and nothing behind it does.
    fn what_was_written_before_is_sent_in_clear(el) {
        let (mut client, server) = accepted(el, Recorder::new());
        let data = pattern(1_000_000);
        server.write(&data);
        assert!(server.write_buffer_size() > 0, "the kernel took it all");
        let mut task = el.create_task(as_server(el, &server).into_future());
        assert!(client.read_clear(el, data.len()) == data);
        client.shake_hands(el);
        client.say(b"");
        let transport = complete(el, &mut task).unwrap().unwrap();
        transport.write(b"hidden");
        assert_eq!(client.receive(el, 6), b"hidden");
        leave(el, client, &transport);
    }

    /// TL-16: a header in clear and a ClientHello in one segment, from within the callback that sees both.
    fn a_header_and_the_first_record_in_one_segment(el) {
        struct Header {
            started: LoopFuture<StartTls>,
            next: Recorder,
        }
        impl Protocol for Header {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                let header = data.iter().position(|&byte| byte == b'\n').unwrap() + 1;
                assert_eq!(&data[..header], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
                transport.unread(&data[header..]);
                let el = roundelay::get_running_loop().unwrap();
                let starting = el.start_tls(transport.clone(), self.next.clone(), acceptor());
                self.started.set_result(starting).unwrap();
            }
        }
        for pieces in [1, 2, 40] {
            let (started, next) = (el.create_future(), Recorder::new());
            let (mut client, _) = accepted(el, Header { started: started.clone(), next: next.clone() });
            let mut segment = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec();
            segment.extend(client.records());
            // All of the first record, or the beginning of it.
            let first = 36 + (segment.len() - 36) / pieces;
            client.send_raw(&segment[..first]);
            let starting = complete(el, started.take()).unwrap();
            let task = el.create_task(starting.into_future());
            calm(el);
            client.send_raw(&segment[first..]);
            client.shake_hands(el);
            client.say(b"hello");
            let transport = complete(el, task).unwrap().unwrap();
            run_until(el, || next.0.len() > 0);
            // The fresh protocol is told of no beginning: it knows of the connection.
            assert_eq!(next.take(), ["data hello"]);
            leave(el, client, &transport);
        }
    }

    /// TL-16: what arrives between the call and the moment in which it is awaited is not for the old protocol.
    fn what_arrives_before_it_is_awaited_belongs_to_tls(el) {
        let heard = Recorder::new();
        let (mut client, server) = accepted(el, heard.clone());
        heard.take();
        let starting = as_server(el, &server);
        assert!(!server.is_reading());
        client.flush();
        calm(el);
        assert_eq!(heard.take(), Vec::<String>::new());
        let task = el.create_task(starting.into_future());
        client.shake_hands(el);
        client.say(b"hello");
        let transport = complete(el, task).unwrap().unwrap();
        run_until(el, || heard.0.len() > 0);
        assert_eq!(heard.take(), ["data hello"]);
        leave(el, client, &transport);
    }

    /// TL-17: what comes with the last record of the handshake waits until whoever awaits the change has had its turn, so
    /// that the answer goes by TLS.
    fn the_first_data_after_the_awaiter(el) {
        let (slot, heard) = (Rc::new(RefCell::new(None)), Recorder::new());
        let (mut client, server) = accepted(el, Upgrading { slot: slot.clone(), heard: heard.clone() });
        let starting = as_server(el, &server);
        let (put, seen) = (slot.clone(), heard.clone());
        let task = el.create_task(async move {
            let transport = starting.await.unwrap();
            assert_eq!(seen.take(), Vec::<String>::new(), "the data came first");
            *put.borrow_mut() = Some(transport);
        });
        client.shake_hands(el);
        // The Finished and this, in one segment.
        client.say(b"first words");
        complete(el, task).unwrap();
        assert_eq!(client.receive(el, 11), b"first words");
        assert_eq!(heard.take(), ["data first words"]);
        let transport = slot.take().unwrap();
        leave(el, client, &transport);
    }

    /// TL-14: TLS over TLS, changed to from within `connection_made` with reading paused, under load in both directions.
    fn tls_over_tls_under_load(el) {
        #[derive(Clone, Default)]
        struct Inner {
            received: Rc<RefCell<Vec<u8>>>,
            lost: Rc<Cell<usize>>,
            stands: Rc<RefCell<Option<Transport>>>,
        }
        impl Protocol for Inner {
            fn connection_made(&mut self, transport: &Transport) {
                transport.pause_reading();
                let el = roundelay::get_running_loop().unwrap();
                let starting = el.start_tls(transport.clone(), self.clone(), acceptor());
                let stands = self.stands.clone();
                drop(spawn(async move {
                    *stands.borrow_mut() = Some(starting.await.unwrap());
                }));
            }
            fn data_received(&mut self, _: &Transport, data: &[u8]) {
                self.received.borrow_mut().extend_from_slice(data);
            }
            fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
                assert!(error.is_none(), "{error:?}");
                self.lost.set(self.lost.get() + 1);
            }
        }
        const LEN: usize = 4_000_000;
        let (at_server, at_client) = (Inner::default(), Inner::default());
        let made = at_server.clone();
        let server = complete(el, el.create_server(move || made.clone(), tcp::LOOPBACK).tls(acceptor())).unwrap();
        let address = server.local_addrs()[0];
        let connecting = el.create_connection(tcp::idle(), address).tls(connector());
        let (outer, _) = complete(el, connecting).unwrap();
        let starting = el.start_tls(outer, at_client.clone(), connector()).server_hostname("localhost");
        let client = complete(el, starting).unwrap();
        run_until(el, || at_server.stands.borrow().is_some());
        let far = at_server.stands.take().unwrap();
        let data = pattern(LEN);
        let sending = async |transport: &Transport| {
            for chunk in data.chunks(64 * 1024) {
                transport.write(chunk);
                transport.ready().await.unwrap();
            }
            transport.flushed().await.unwrap();
        };
        complete(el, async { join!(sending(&client), sending(&far)) });
        run_until(el, || at_server.received.borrow().len() == LEN && at_client.received.borrow().len() == LEN);
        assert!(*at_server.received.borrow() == data && *at_client.received.borrow() == data);
        // TL-12: and it ends without a word to anybody else.
        client.close();
        run_until(el, || at_server.lost.get() == 1 && at_client.lost.get() == 1);
        tcp::end(el, &server);
        assert_eq!((at_server.lost.get(), at_client.lost.get()), (1, 1));
    }

    /// TL-12: closing TLS over TLS, from any side, also with something queued, is reported to nobody.
    fn closing_tls_over_tls(el) {
        for closes in 0..3 {
            let ((client, said), (server, heard)) = pair(el);
            let (client, server) = change(el, &client, &server);
            let (client, server) = change(el, &client, &server);
            client.write(&pattern(300_000));
            if closes != 1 {
                client.close();
            }
            if closes != 0 {
                server.close();
            }
            run_until(el, || client.protocol().is_none() && server.protocol().is_none());
            assert_eq!(said.take().last().unwrap(), "lost");
            assert_eq!(heard.take().last().unwrap(), "lost");
        }
    }

    /// TL-18: given up while the peer is silent the connection is aborted, and the protocol hears of its end once.
    fn given_up_while_the_peer_is_silent(el) {
        let before = open_descriptors();
        for seconds in [0, 1] {
            let (mut peer, near) = plain_pair();
            let heard = Recorder::new();
            let given = heard.clone();
            let (transport, _) = complete(el, el.create_connection(move || given, near)).unwrap();
            let starting = as_client(el, &transport).into_future();
            if seconds == 0 {
                let task = el.create_task(starting);
                calm(el);
                task.cancel();
                assert!(common::finish(el, task).unwrap_err().is_cancelled());
            } else {
                complete(el, timeout(Duration::from_millis(1), starting)).unwrap_err();
            }
            assert!(!receive_all(el, &mut peer).is_empty(), "there was no ClientHello");
            run_until(el, || transport.protocol().is_none());
            assert_eq!(heard.take(), ["made", "lost"]);
        }
        assert_eq!(open_descriptors(), before);
    }

    /// TL-19: what has one direction, or is closing, or has ended its writing, or is carrying TLS already is refused, and
    /// goes on as it was.
    fn what_cannot_change(el) {
        let refused = |starting: StartTls| complete(el, starting).unwrap_err();
        let (mut peer, near) = plain_pair();
        let heard = Recorder::new();
        let given = heard.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, near)).unwrap();
        let protocol = transport.protocol().unwrap();
        let error = refused(el.start_tls(transport.clone(), protocol.clone(), connector()));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("start_tls: ") && error.to_string().contains("server_hostname()"), "{error}");
        let error = refused(as_server(el, &transport).server_hostname("localhost"));
        assert_eq!(error.to_string(), "start_tls: server_hostname() is for the client's side of TLS");
        for starting in [
            as_client(el, &transport).tls_handshake_timeout(Duration::ZERO),
            as_client(el, &transport).tls_shutdown_timeout(Duration::ZERO),
        ] {
            assert!(refused(starting).to_string().ends_with(" must be longer than zero"));
        }
        let error = refused(as_client(el, &transport).server_hostname("not a name"));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

        transport.write_eof();
        let error = refused(as_client(el, &transport));
        assert!(error.get_ref().unwrap().is::<InvalidState>());
        assert_eq!(error.to_string(), "start_tls: the writing side was ended by write_eof()");
        io::Write::write_all(&mut peer, b"still here").unwrap();
        run_until(el, || heard.0.len() > 1);
        assert_eq!(heard.take(), ["made", "data still here"]);
        transport.close();
        assert_eq!(refused(as_client(el, &transport)).to_string(), "start_tls: Transport is closing");
        run_until(el, || transport.protocol().is_none());
        let error = refused(el.start_tls(transport, protocol, connector()).server_hostname("localhost"));
        assert_eq!(error.to_string(), "start_tls: Transport is closing");
        assert_eq!(heard.take(), ["lost"]);
    }

    /// TL-19: the ends of pipes are refused.
    fn pipes_cannot_change(el) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (reader, _) = complete(el, el.connect_read_pipe(tcp::idle(), reader)).unwrap();
        let (writer, _) = complete(el, el.connect_write_pipe(tcp::idle(), writer)).unwrap();
        for transport in [&reader, &writer] {
            let error = complete(el, as_client(el, transport)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert_eq!(error.to_string(), "start_tls: the transport has one end of a pipe, and TLS needs both directions");
        }
        tcp::close(el, &writer);
        run_until(el, || reader.protocol().is_none());
    }

    /// TL-19: a transport that carries TLS carries no second one; the one that was given does.
    fn twice_over_one_transport(el) {
        let ((client, said), (server, heard)) = pair(el);
        let late = as_client(el, &client);
        let (client_tls, server_tls) = change(el, &client, &server);
        let error = complete(el, late).unwrap_err();
        assert!(error.to_string().starts_with("start_tls: TLS was started over this transport already"), "{error}");
        assert!(client_tls.is_reading());
        let (twice, server_twice) = change(el, &client_tls, &server_tls);
        twice.write(b"deep");
        server_twice.write(b"down");
        run_until(el, || said.0.len() > 0 && heard.0.len() > 0);
        assert_eq!((said.take(), heard.take()), (vec!["data down".to_owned()], vec!["data deep".to_owned()]));
        end(el, &twice, &server_twice);
    }

    /// Dropped before it is awaited it leaves everything as it was; also where reading was paused before.
    fn dropped_before_it_is_awaited(el) {
        let ((client, _), (server, heard)) = pair(el);
        let starting = as_server(el, &server);
        client.write(b"in clear");
        calm(el);
        assert!(heard.take().is_empty() && !server.is_reading());
        drop(starting);
        run_until(el, || heard.0.len() > 0);
        assert_eq!(heard.take(), ["data in clear"]);
        server.pause_reading();
        drop(as_server(el, &server));
        assert!(!server.is_reading());
        server.resume_reading();
        end(el, &client, &server);
    }

    /// While a file is sent, nothing else can be started; afterwards it can.
    fn while_a_file_is_sent(el) {
        let (mut peer, near) = plain_pair();
        let (transport, _) = complete(el, el.connect_accepted_socket(tcp::idle(), near)).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000_000).unwrap();
        let sending = el.sendfile(&transport, &file).into_future();
        let task = el.create_task(sending);
        calm(el);
        let error = complete(el, as_server(el, &transport)).unwrap_err();
        assert_eq!(error.to_string(), "start_tls: sendfile is in progress");
        assert_eq!(receive(el, &mut peer, 10_000_000).len(), 10_000_000);
        complete(el, task).unwrap().unwrap();
        let mut client = HandClient::new(peer);
        let task = el.create_task(as_server(el, &transport).into_future());
        client.shake_hands(el);
        client.say(b"hello");
        let transport = complete(el, task).unwrap().unwrap();
        leave(el, client, &transport);
    }

    /// A protocol that was told to pause before is told to resume: the new transport has room.
    fn one_that_was_told_to_pause(el) {
        let flow = Flow::default();
        let (mut client, server) = accepted(el, flow.clone());
        server.write(&pattern(1_000_000));
        run_until(el, || flow.0.0.len() > 0);
        assert_eq!(flow.0.take(), ["pause"]);
        let task = el.create_task(as_server(el, &server).into_future());
        run_until(el, || flow.0.0.len() > 0);
        assert_eq!(flow.0.take(), ["resume"]);
        assert_eq!(client.read_clear(el, 1_000_000).len(), 1_000_000);
        client.shake_hands(el);
        client.say(b"hello");
        let transport = complete(el, task).unwrap().unwrap();
        run_until(el, || flow.0.0.len() > 0);
        assert_eq!(flow.0.take(), ["data hello"]);
        transport.write(&pattern(1_000_000));
        run_until(el, || flow.0.0.len() > 0);
        assert_eq!(flow.0.take(), ["pause"]);
        assert_eq!(client.receive(el, 1_000_000).len(), 1_000_000);
        run_until(el, || flow.0.0.len() > 0);
        assert_eq!(flow.0.take(), ["resume"]);
        leave(el, client, &transport);
    }

    /// BP-08: from a protocol with a buffer of its own to a plain one by start_tls, and back by a second one; neither is
    /// told of a beginning.
    fn between_buffered_and_plain_protocols(el) {
        let (pieces, plain) = (Recorder::new(), Recorder::new());
        let heard = pieces.clone();
        let (mut client, server) = accepted(el, Buffered(Pieces { buffer: [0; 4], heard }));
        client.send_raw(b"in clear");
        run_until(el, || pieces.0.len() >= 3);
        assert_eq!(pieces.take(), ["made", "data in c", "data lear"]);
        let starting = el.start_tls(server, plain.clone(), acceptor());
        let task = el.create_task(starting.into_future());
        client.shake_hands(el);
        client.say(b"hello");
        let transport = complete(el, task).unwrap().unwrap();
        run_until(el, || plain.0.len() > 0);
        assert_eq!(plain.take(), ["data hello"]);

        // From within, TLS once more; by hand only as far as the words that are not understood.
        let heard = pieces.clone();
        let starting = el.start_tls(transport, Buffered(Pieces { buffer: [0; 4], heard }), acceptor());
        let task = el.create_task(starting.into_future());
        client.say(b"this is not TLS");
        assert_eq!(complete(el, task).unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
        run_until(el, || pieces.0.len() > 0);
        assert_eq!(pieces.take(), ["lost InvalidData"]);
        assert_eq!(plain.take(), Vec::<String>::new());
    }

    /// BP-08: to a protocol with a buffer of its own: it is filled piece by piece.
    fn to_a_buffered_protocol(el) {
        let pieces = Recorder::new();
        let (mut client, server) = accepted(el, Recorder::new());
        let heard = pieces.clone();
        let starting = el.start_tls(server, Buffered(Pieces { buffer: [0; 4], heard }), acceptor());
        let task = el.create_task(starting.into_future());
        client.shake_hands(el);
        client.say(b"hello there");
        let transport = complete(el, task).unwrap().unwrap();
        run_until(el, || pieces.0.len() >= 3);
        assert_eq!(pieces.take(), ["data hell", "data o th", "data ere"]);
        leave(el, client, &transport);
        assert_eq!(pieces.take(), ["eof", "lost"]);
    }

    /// CX-11: the callbacks have the connection's first context, whoever starts TLS, over TLS too, and also where it fails.
    fn the_first_context_is_kept(el) {
        thread_local! {
            static WHO: ContextVar<&'static str> = const { ContextVar::new("who") };
        }
        fn who() -> &'static str {
            WHO.with(|who| who.get().unwrap_or("nobody"))
        }
        #[derive(Clone, Default)]
        struct Asks(Recorder);
        impl Protocol for Asks {
            fn connection_made(&mut self, _: &Transport) {
                self.0.0.push(format!("made for {}", who()));
            }
            fn data_received(&mut self, _: &Transport, data: &[u8]) {
                self.0.0.push(format!("{} for {}", String::from_utf8_lossy(data), who()));
            }
            fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
                self.0.0.push(format!("lost for {}, {}", who(), error.is_some()));
            }
        }
        for fails in [false, true] {
            let (near, far) = plain_pair();
            let asks = Asks::default();
            let given = asks.clone();
            let handle = el.clone();
            let task = el.create_task(async move {
                WHO.with(|who| drop(who.set("the first")));
                handle.create_connection(move || given, near).await.unwrap().0
            });
            let mut client = complete(el, task).unwrap();
            let (mut server, _) = complete(el, el.connect_accepted_socket(tcp::idle(), far)).unwrap();
            for _ in 0..2 {
                let handle = el.clone();
                let (near, far) = (client.clone(), server.clone());
                let task = el.create_task(async move {
                    WHO.with(|who| drop(who.set("the second")));
                    let far = spawn(as_server(&handle, &far).into_future());
                    (as_client(&handle, &near).await.unwrap(), far.await.unwrap().unwrap())
                });
                (client, server) = complete(el, task).unwrap();
                server.write(b"words");
                run_until(el, || asks.0.0.len() > 1 || asks.0.0.take().iter().any(|entry| entry.starts_with("words")));
            }
            asks.0.take();
            server.write(b"words");
            run_until(el, || asks.0.0.len() > 0);
            assert_eq!(asks.0.take(), ["words for the first"]);
            if fails {
                let handle = el.clone();
                let task = el.create_task(async move {
                    WHO.with(|who| drop(who.set("the third")));
                    as_client(&handle, &client).await
                });
                server.write(b"this is not TLS");
                complete(el, task).unwrap().unwrap_err();
                run_until(el, || asks.0.0.len() > 0);
                assert_eq!(asks.0.take(), ["lost for the first, true"]);
                run_until(el, || server.protocol().is_none());
            } else {
                end(el, &client, &server);
                assert_eq!(asks.0.take(), ["lost for the first, false"]);
            }
        }
    }
}

/// TL-18: a peer that says nothing is given up after the handshake's time: an error for whoever awaits it, and for the
/// protocol.
#[test]
fn the_handshake_takes_too_long() {
    on_manual_clock(|el, clock| {
        for (limit, given) in [(60, None), (5, Some(Duration::from_secs(5)))] {
            let (mut peer, near) = plain_pair();
            let heard = Recorder::new();
            let taken = heard.clone();
            let task = el.create_task({
                let el = el.clone();
                async move { el.create_connection(move || taken, near).await.unwrap().0 }
            });
            let transport = common::finish(el, task).unwrap();
            let mut starting = as_client(el, &transport);
            if let Some(given) = given {
                starting = starting.tls_handshake_timeout(given);
            }
            let task = el.create_task(starting.into_future());
            settle(el);
            clock.advance(Duration::from_secs(limit) - Duration::from_millis(1));
            settle(el);
            assert!(!task.is_done());
            clock.advance(Duration::from_millis(1));
            let error = common::finish(el, task).unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            let text = format!("TLS handshake is taking longer than {limit}s: aborting the connection");
            assert_eq!(error.to_string(), text);
            settle(el);
            assert_eq!(heard.take(), ["made", "lost ConnectionAborted"]);
            assert!(!receive_all(el, &mut peer).is_empty());
        }
    });
}
