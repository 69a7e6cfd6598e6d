//! Reading: pauses, resets, buffers of a protocol's own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use roundelay::{Buffered, BufferedProtocol, KeepOpen, LoopFuture, Transport};

use crate::common::Log;
use crate::support::{
    Recorder, SECOND, connect, connect_over, connected, error_kind, settle, socket_pair, tcp_pair, trace_reports, yes,
};

/// Completes a future in a callback.
fn complete(future: &LoopFuture<()>) -> impl FnMut(&Transport) + 'static {
    let future = future.clone();
    move |_| future.set_result(()).unwrap()
}

/// TT-04, P16: a reset is no end of file.
#[test]
fn peer_resets() {
    connected("peer_resets", async |el, log| {
        let lost = el.create_future();
        let (own, peer) = tcp_pair();
        let (transport, _) = connect_over(&el, &own, Recorder::new(&log).then("lost", complete(&lost))).await;
        peer.reset();
        lost.await.unwrap();
        transport.write(b"too late");
        settle().await;
    });
}

/// TT-04: nor after data.
#[test]
fn peer_resets_after_data() {
    connected("peer_resets_after_data", async |el, log| {
        let (told, lost) = (el.create_future(), el.create_future());
        let (own, peer) = tcp_pair();
        let recorder = Recorder::new(&log).then("data", complete(&told)).then("lost", complete(&lost));
        connect_over(&el, &own, recorder).await;
        peer.send(b"data");
        told.await.unwrap();
        peer.reset();
        lost.await.unwrap();
    });
}

/// TT-17, TT-29: a write that fails ends the connection, in a turn of its own.
#[test]
fn write_to_a_peer_that_is_gone() {
    connected("write_to_a_peer_that_is_gone", async |el, log| {
        let (own, peer) = socket_pair();
        let recorder = Recorder::new(&log).then("made", move |transport| {
            transport.pause_reading();
            peer.close();
        });
        let (transport, _) = connect_over(&el, &own, recorder).await;
        settle().await;
        transport.write(b"nobody reads this");
        yes(&log, "closing", transport.is_closing());
        transport.write(b"nor this");
        settle().await;
    });
}

/// TT-05, P22: paused in `connection_made`, what is there already waits.
#[test]
fn paused_from_the_start() {
    connected("paused_from_the_start", async |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"early");
        let (transport, _) = connect_over(&el, &own, Recorder::new(&log).then("made", Transport::pause_reading)).await;
        settle().await;
        yes(&log, "reading", transport.is_reading());
        peer.send(b" and late");
        settle().await;
        log.push("resume");
        transport.resume_reading();
        yes(&log, "reading", transport.is_reading());
        settle().await;
    });
}

/// TT-07, P23: data, end and loss wait for the end of a pause.
#[test]
fn paused_while_the_peer_closes() {
    connected("paused_while_the_peer_closes", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.pause_reading();
        peer.send(b"last words");
        peer.close();
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// TT-30: so does a reset.
#[test]
fn paused_while_the_peer_resets() {
    connected("paused_while_the_peer_resets", async |el, log| {
        let lost = el.create_future();
        let (own, peer) = tcp_pair();
        let (transport, _) = connect_over(&el, &own, Recorder::new(&log).then("lost", complete(&lost))).await;
        transport.pause_reading();
        peer.reset();
        settle().await;
        log.push("resume");
        transport.resume_reading();
        lost.await.unwrap();
    });
}

/// TT-05: paused in `data_received`, more of it comes with the next resumption.
#[test]
fn paused_by_data() {
    connected("paused_by_data", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log).then("data", Transport::pause_reading)).await;
        for text in ["one", "two", "three"] {
            peer.send(text.as_bytes());
            settle().await;
        }
        for _ in 0..2 {
            log.push("resume");
            transport.resume_reading();
            settle().await;
        }
    });
}

/// TT-05: pausing and resuming, each twice, in one callback and on a transport that is closing.
#[test]
fn paused_and_resumed_at_once() {
    connected("paused_and_resumed_at_once", async |el, log| {
        let own = log.clone();
        let data = move |transport: &Transport| {
            transport.pause_reading();
            transport.pause_reading();
            yes(&own, "reading", transport.is_reading());
            transport.resume_reading();
            transport.resume_reading();
            yes(&own, "reading", transport.is_reading());
        };
        let (transport, peer) = connect(&el, Recorder::new(&log).then("data", data)).await;
        for text in [b"one", b"two"] {
            peer.send(text);
            settle().await;
        }
        transport.close();
        yes(&log, "reading", transport.is_reading());
        transport.resume_reading();
        transport.pause_reading();
        yes(&log, "reading", transport.is_reading());
        settle().await;
    });
}

/// CL-08: a paused transport that is closed reads no more, whoever resumes it.
#[test]
fn paused_and_closed() {
    connected("paused_and_closed", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.pause_reading();
        peer.send(b"unheard");
        transport.close();
        transport.resume_reading();
        settle().await;
        transport.resume_reading();
        settle().await;
    });
}

struct Small {
    log: Log,
    bytes: Vec<u8>,
}

impl Small {
    fn new(log: &Log, size: usize) -> Buffered<Self> {
        Buffered(Self { log: log.clone(), bytes: vec![0; size] })
    }
}

impl BufferedProtocol for Small {
    fn connection_made(&mut self, _: &Transport) {
        self.log.push("made");
    }

    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.bytes
    }

    fn buffer_updated(&mut self, _: &Transport, n: usize) {
        self.log.push(format!("updated {}", String::from_utf8_lossy(&self.bytes[..n])));
    }

    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.log.push("eof");
        KeepOpen::No
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.log.push(format!("lost {}", error_kind(error)));
    }
}

/// BP-01, BP-05, BP-06: a buffer of four bytes gets everything in pieces.
#[test]
fn buffered_protocol() {
    connected("buffered_protocol", async |el, log| {
        let (own, peer) = socket_pair();
        connect_over(&el, &own, Small::new(&log, 4)).await;
        for text in ["ab", "cdefghijkl", "mnop"] {
            peer.send(text.as_bytes());
            settle().await;
        }
        peer.close();
        settle().await;
    });
}

/// BP-02: an empty buffer is an error that ends the connection.
#[test]
fn buffer_without_room() {
    connected("buffer_without_room", async |el, log| {
        trace_reports(&el, &log);
        let (own, peer) = socket_pair();
        connect_over(&el, &own, Small::new(&log, 0)).await;
        peer.send(b"x");
        settle().await;
    });
}

/// TT-07: data pauses, and the end that has arrived with it waits.
#[test]
fn paused_by_data_with_the_end_waiting() {
    connected("paused_by_data_with_the_end_waiting", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log).then("data", Transport::pause_reading)).await;
        peer.send(b"last words");
        peer.close();
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// TT-05: what has waited for the end of a pause is an event of the next turn.
#[test]
fn resumed_among_callbacks() {
    connected("resumed_among_callbacks", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.pause_reading();
        peer.send(b"data");
        settle().await;
        el.call_soon(log.entry("before"));
        transport.resume_reading();
        el.call_soon(log.entry("after"));
        el.call_at(el.time() - SECOND, log.entry("timer"));
        settle().await;
    });
}

/// TT-05: a transport that is paused in the batch in which its event waits does not read.
#[test]
fn paused_by_another_in_one_turn() {
    connected("paused_by_another_in_one_turn", async |el, log| {
        let paused: Rc<RefCell<Option<Transport>>> = Rc::default();
        let other = paused.clone();
        let pause = move |_: &Transport| other.borrow().as_ref().unwrap().pause_reading();
        let (_, first_peer) = connect(&el, Recorder::new(&log).name("first").then("data", pause)).await;
        let (second, second_peer) = connect(&el, Recorder::new(&log).name("second")).await;
        *paused.borrow_mut() = Some(second.clone());
        first_peer.send(b"x");
        second_peer.send(b"y");
        settle().await;
        log.push("resume");
        second.resume_reading();
        settle().await;
        paused.take();
    });
}
