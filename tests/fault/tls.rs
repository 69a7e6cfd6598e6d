//! TLS: over connections and servers, begun in mid-stream, with files.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;

use roundelay::{KeepOpen, Protocol, Server, Transport};

use crate::certificates::{acceptor, connector};
use crate::connections::{Echo, shut_down};
use crate::sweep::{Stage, check_bytes, pattern, sweep};

/// Enough to fill a socket's buffers, so that something is queued.
const BYTES: usize = 400_000;

/// Sends some bytes, keeps what comes, and closes when that is as much as it waits for.
#[derive(Clone, Default)]
struct Party {
    bytes: Rc<Vec<u8>>,
    waits_for: usize,
    arrived: Rc<RefCell<Vec<u8>>>,
    is_done: Rc<Cell<bool>>,
}

impl Party {
    fn sends(bytes: usize) -> Self {
        Self { bytes: Rc::new(pattern(bytes)), waits_for: usize::MAX, ..Self::default() }
    }

    fn waits_for(self, waits_for: usize) -> Self {
        Self { waits_for, ..self }
    }
}

impl Protocol for Party {
    fn connection_made(&mut self, transport: &Transport) {
        let (first, rest) = self.bytes.split_at(self.bytes.len() / 3);
        transport.write(first);
        transport.writelines(&[io::IoSlice::new(rest), io::IoSlice::new(b"")]);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        let mut arrived = self.arrived.borrow_mut();
        arrived.extend_from_slice(data);
        if arrived.len() >= self.waits_for {
            transport.close();
        }
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.is_done.set(true);
    }
}

fn serve(stage: &Stage<'_>, make: impl Fn() -> Party + 'static) -> Option<Server> {
    let (el, witness) = (stage.el, &stage.witness);
    let told = witness.clone();
    let creating = el.create_server(move || told.protocol("server", make()), ("127.0.0.1", 0)).tls(acceptor());
    witness.check("create_server", stage.complete(creating.into_future()))
}

fn connect(stage: &Stage<'_>, server: &Server, client: &Party) -> Option<Transport> {
    let (el, witness) = (stage.el, &stage.witness);
    let watched = witness.protocol("client", client.clone());
    let connecting = el.create_connection(move || watched, server.local_addrs()[0]).tls(connector());
    let connected = stage.complete(connecting.into_future());
    witness.check("create_connection", connected).map(|(transport, _)| transport)
}

/// The handshake, bytes there and back, and the end that the client begins.
#[test]
fn echo_over_tls() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let told = witness.clone();
        let creating = el.create_server(move || told.protocol("server", Echo), ("127.0.0.1", 0)).tls(acceptor());
        let Some(server) = witness.check("create_server", stage.complete(creating.into_future())) else { return };
        let client = Party::sends(BYTES).waits_for(BYTES);
        if connect(stage, &server, &client).is_some() {
            stage.run_until(|| client.is_done.get());
            check_bytes(witness, &client.bytes, &client.arrived.borrow());
        }
        stage.run_until(|| server.connections() == 0 || !witness.is_clean());
        shut_down(stage, server);
    });
}

/// A server that sends, and closes at once.
#[test]
fn a_server_that_closes_first() {
    sweep(|stage| {
        let witness = &stage.witness;
        let sent = pattern(BYTES);
        let Some(server) = serve(stage, || Party::sends(BYTES).waits_for(1)) else { return };
        let client = Party::sends(1);
        if connect(stage, &server, &client).is_some() {
            stage.run_until(|| client.is_done.get());
            check_bytes(witness, &sent, &client.arrived.borrow());
        }
        shut_down(stage, server);
    });
}

/// A file, and what comes behind it.
#[test]
fn a_file_over_tls() {
    let data = pattern(BYTES);
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&data).unwrap();
        let party = Party::sends(0);
        let heard = party.clone();
        let Some(server) = serve(stage, move || heard.clone()) else { return };
        if let Some(transport) = connect(stage, &server, &Party::sends(4)) {
            let sent = witness.check("sendfile", stage.complete(el.sendfile(&transport, &source).into_future()));
            assert!(sent.is_none_or(|sent| sent == data.len() as u64), "success, and not all of it");
            if sent.is_some() {
                transport.write(b"tail");
                transport.close();
            } else {
                transport.abort();
            }
            stage.run_until(|| transport.protocol().is_none() && (party.is_done.get() || !witness.is_clean()));
            check_bytes(witness, &[&pattern(4), &data[..], b"tail"].concat(), &party.arrived.borrow());
        }
        shut_down(stage, server);
    });
}

/// Keeps its transport for somebody else.
struct Keeps(Rc<RefCell<Option<Transport>>>);

impl Protocol for Keeps {
    fn connection_made(&mut self, transport: &Transport) {
        transport.pause_reading();
        *self.0.borrow_mut() = Some(transport.clone());
    }
}

/// A connection that changes to TLS on both sides, behind bytes in clear.
#[test]
fn tls_in_mid_stream() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let accepted = Rc::<RefCell<Option<Transport>>>::default();
        let (told, kept) = (witness.clone(), accepted.clone());
        let creating = el.create_server(move || told.protocol("server", Keeps(kept.clone())), ("127.0.0.1", 0));
        let Some(server) = witness.check("create_server", stage.complete(creating.into_future())) else { return };
        let watched = witness.protocol("client", Keeps(Rc::default()));
        let connecting = el.create_connection(move || watched, server.local_addrs()[0]);
        let connected = witness.check("create_connection", stage.complete(connecting.into_future()));
        if let Some((near, _)) = connected {
            stage.run_until(|| accepted.borrow().is_some() || !witness.is_clean() || near.is_closing());
            if let Some(far) = accepted.take() {
                let (client, party) = (Party::sends(0), Party::sends(0));
                change(stage, (near, far), &client, &party);
            } else {
                near.abort();
            }
        }
        shut_down(stage, server);
        stage.run_until(|| el.stats().transports.live() == 0);
    });
}

fn change(stage: &Stage<'_>, (near, far): (Transport, Transport), client: &Party, party: &Party) {
    let (el, witness) = (stage.el, &stage.witness);
    let starting = el.start_tls(near.clone(), witness.protocol("client", client.clone()), connector());
    let mut ours = el.create_task(starting.server_hostname("localhost").into_future());
    let starting = el.start_tls(far.clone(), witness.protocol("server", party.clone()), acceptor());
    let mut theirs = el.create_task(starting.into_future());
    stage.run_until(|| ours.is_done() && theirs.is_done());
    let ours = witness.check("start_tls", el.run_until_complete(&mut ours).unwrap().unwrap());
    let theirs = witness.check("start_tls", el.run_until_complete(&mut theirs).unwrap().unwrap());
    let bytes = pattern(BYTES / 2);
    if let (Some(ours), Some(_)) = (&ours, &theirs) {
        ours.resume_reading();
        ours.write(&bytes);
        ours.close();
        stage.run_until(|| client.is_done.get() && party.is_done.get());
        check_bytes(witness, &bytes, &party.arrived.borrow());
        return;
    }
    for transport in [ours.unwrap_or(near), theirs.unwrap_or(far)] {
        transport.abort();
    }
}
