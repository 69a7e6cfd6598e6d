//! Writes, pauses and resumes at random on both sides of TLS (behaviours TL-13, TL-14, FC-07): over sockets, over TLS,
//! over streams of the application's that take little at a time. Every byte arrives, in order.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/duplex.rs"]
mod duplex;
mod wire;

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;

use certificates::tls_pair;
use common::{Kind, finish as finish_task, run_on, run_until};
use duplex::{Dice, duplex};
use roundelay::{EventLoop, KeepOpen, Protocol, Transport};
use wire::{Net, attach, sockets};

/// Bytes of each direction of one storm, and of all seeds together what a test has time for.
const BYTES: usize = 400_000;

/// One side of a storm.
#[derive(Clone, Default)]
struct Side(Rc<State>);

#[derive(Default)]
struct State {
    received: RefCell<Vec<u8>>,
    sent: Cell<usize>,
    paused_writing: Cell<bool>,
    eof: Cell<bool>,
    lost: RefCell<Option<String>>,
}

impl Protocol for Side {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        assert!(transport.is_reading(), "bytes while reading is paused");
        self.0.received.borrow_mut().extend_from_slice(data);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.0.eof.set(true);
        KeepOpen::No
    }
    fn pause_writing(&mut self, _: &Transport) {
        assert!(!self.0.paused_writing.replace(true));
    }
    fn resume_writing(&mut self, _: &Transport) {
        assert!(self.0.paused_writing.replace(false));
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<std::io::Error>) {
        *self.0.lost.borrow_mut() = Some(format!("{error:?}"));
    }
}

/// What the storms send: no two pieces of it are alike.
fn bytes() -> Vec<u8> {
    wire::pattern(BYTES)
}

/// What carries the TLS of a storm.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    Socket(Net),
    /// So many bytes at a time, and so many on their way.
    Stream(usize, usize),
    /// TLS, over sockets.
    Tls,
    /// TLS, over such streams.
    TlsOverStream(usize, usize),
}

struct Plain;

impl Protocol for Plain {}

/// Two transports without TLS.
fn carriers(el: &EventLoop, carrier: Carrier, dice: &mut Dice) -> (Transport, Transport) {
    match carrier {
        Carrier::Stream(most, room) | Carrier::TlsOverStream(most, room) => {
            let (a, b) = duplex(dice.below(1_000_000) as u64, most, room);
            (el.connect_stream(|| Plain, a).unwrap().0, el.connect_stream(|| Plain, b).unwrap().0)
        }
        Carrier::Socket(net) => {
            let (a, b) = sockets(net);
            if dice.one_in(2) {
                a.set_send_buffer_size(8 * 1024).unwrap();
                b.set_recv_buffer_size(32 * 1024).unwrap();
            }
            (attach(el, a, Plain).0, attach(el, b, Plain).0)
        }
        Carrier::Tls => carriers(el, Carrier::Socket(Net::Unix), dice),
    }
}

fn start(el: &EventLoop, (a, b): (Transport, Transport), client: Side, server: Side) -> (Transport, Transport) {
    let (connector, acceptor) = tls_pair();
    let client = el.start_tls(a, client, connector).server_hostname("localhost");
    let client = el.create_task(client.into_future());
    let server = el.create_task(el.start_tls(b, server, acceptor).into_future());
    let client = finish_task(el, client).unwrap().unwrap();
    (client, finish_task(el, server).unwrap().unwrap())
}

fn write(transport: &Transport, data: &[u8], dice: &mut Dice) {
    match dice.below(3) {
        0 => transport.write(data),
        1 => transport.write_owned(data.to_vec()),
        _ => {
            let (a, b) = data.split_at(dice.below(data.len() + 1));
            let (b, c) = b.split_at(dice.below(b.len() + 1));
            transport.writelines(&[IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b), IoSlice::new(c)]);
        }
    }
}

fn size(dice: &mut Dice) -> usize {
    match dice.below(5) {
        0 => dice.below(100),
        1 => 16 * 1024 - 2 + dice.below(5),
        2 => 64 * 1024 - 2 + dice.below(5),
        3 => dice.below(200_000),
        _ => dice.below(5_000),
    }
}

fn storm(el: &EventLoop, carrier: Carrier, seed: u64, data: &[u8]) {
    let mut dice = Dice::new(seed);
    let sides = [Side::default(), Side::default()];
    let pair = carriers(el, carrier, &mut dice);
    let pair = if matches!(carrier, Carrier::Tls | Carrier::TlsOverStream(..)) {
        start(el, pair, Side::default(), Side::default())
    } else {
        pair
    };
    let (client, server) = start(el, pair, sides[0].clone(), sides[1].clone());
    let transports = [client, server];
    if dice.one_in(2) {
        let high = dice.below(100_000);
        transports[dice.below(2)].set_write_buffer_limits(high, dice.below(high + 1)).unwrap();
    }
    while sides.iter().any(|side| side.0.sent.get() < data.len()) {
        let i = dice.below(2);
        let (transport, state) = (&transports[i], &sides[i].0);
        match dice.below(7) {
            0 if transport.is_reading() => transport.pause_reading(),
            0 | 1 if !transport.is_reading() => transport.resume_reading(),
            2 => drop(el.run_once(Some(std::time::Duration::ZERO)).unwrap()),
            // Most heed what they are told, some do not.
            _ if !state.paused_writing.get() || dice.one_in(10) => {
                let sent = state.sent.get();
                let end = data.len().min(sent + size(&mut dice));
                write(transport, &data[sent..end], &mut dice);
                state.sent.set(end);
            }
            _ => {
                transports[1 - i].resume_reading();
                let _ = el.run_once(Some(std::time::Duration::ZERO)).unwrap();
            }
        }
    }
    transports.iter().for_each(Transport::resume_reading);
    let all = |side: &Side| side.0.received.borrow().len() >= data.len();
    run_until(el, || sides.iter().all(all));
    for side in &sides {
        assert!(*side.0.received.borrow() == data, "bytes were lost, doubled or swapped");
    }
    run_until(el, || sides.iter().all(|side| !side.0.paused_writing.get()));
    assert!(transports.iter().all(|transport| transport.write_buffer_size() == 0));
    transports[dice.below(2)].close();
    run_until(el, || sides.iter().all(|side| side.0.lost.borrow().is_some()));
    for side in &sides {
        assert_eq!(side.0.lost.borrow().as_deref(), Some("None"));
    }
}

/// Says which storm it was that failed.
struct Shown(Carrier, u64);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the storm with seed {} over {:?}", self.1, self.0);
        }
    }
}

fn storms(carrier: Carrier, seeds: std::ops::Range<u64>) {
    let data = bytes();
    let kinds = [Kind::Epoll, Kind::Polling, Kind::Level];
    for (seed, kind) in seeds.zip(kinds.into_iter().cycle()) {
        let shown = Shown(carrier, seed);
        // Every other one asks the selector in every turn, as asyncio does.
        let interval = if seed % 2 == 0 { 1 } else { 61 };
        run_on(|| kind.builder().event_interval(interval), |el| storm(el, carrier, seed, &data));
        drop(shown);
    }
}

/// TL-13, FC-07: over sockets.
#[test]
fn over_sockets() {
    storms(Carrier::Socket(Net::Tcp), 0..40);
    storms(Carrier::Socket(Net::Unix), 60..100);
}

/// TL-13, FC-07: over a stream that takes a few thousand bytes at a time, and over one that takes a few.
#[test]
fn over_streams() {
    storms(Carrier::Stream(5_000, 50_000), 200..240);
    storms(Carrier::Stream(100_000, 100_000), 240..280);
    storms(Carrier::Stream(300, 1000), 280..290);
}

/// TL-14, FC-07: over TLS.
#[test]
fn over_tls() {
    storms(Carrier::Tls, 300..340);
}

/// TL-14, FC-07: over TLS over a stream.
#[test]
fn over_tls_over_streams() {
    storms(Carrier::TlsOverStream(5_000, 50_000), 400..420);
    storms(Carrier::TlsOverStream(100_000, 100_000), 420..440);
}
