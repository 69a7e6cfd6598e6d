//! The callbacks of a protocol, from the first to the last.

use roundelay::{ProtocolRef, Transport};

use crate::support::{
    Recorder, connect, connect_over, connected, connected_differs, fail, settle, socket_pair, trace_reports, yes,
};

/// CL-07, CL-09: `connection_lost` has the place in the line that `close` took.
#[test]
fn close() {
    connected("close", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        log.push("connected");
        yes(&log, "closing", transport.is_closing());
        el.call_soon(log.entry("before"));
        transport.close();
        el.call_soon(log.entry("after"));
        yes(&log, "closing", transport.is_closing());
        log.push(peer.received());
        settle().await;
        log.push(peer.received());
    });
}

/// CL-09: so it is with `abort`.
#[test]
fn abort() {
    connected("abort", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        el.call_soon(log.entry("before"));
        transport.abort();
        el.call_soon(log.entry("after"));
        yes(&log, "closing", transport.is_closing());
        settle().await;
        log.push(peer.received());
    });
}

/// CL-08, TT-11, TT-19: what was written before is sent, what is written after is dropped without a word.
#[test]
fn write_then_close() {
    connected("write_then_close", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(b"hello");
        transport.write(b"");
        transport.write(b" world");
        transport.close();
        transport.write(b"too late");
        settle().await;
        log.push(peer.received());
        transport.write(b"too late");
        log.push("end");
    });
}

/// CL-10: one `connection_lost`, however often and in whichever way it is closed.
#[test]
fn close_and_abort_in_every_order() {
    connected("close_and_abort_in_every_order", async |el, log| {
        for order in ["close close", "close abort", "abort close", "abort abort close"] {
            log.push(order);
            let (transport, _peer) = connect(&el, Recorder::new(&log)).await;
            for step in order.split(' ') {
                if step == "close" { transport.close() } else { transport.abort() }
            }
            settle().await;
            transport.close();
            transport.abort();
            settle().await;
        }
    });
}

/// CL-11, P24: nothing is received any more after a `close` in `data_received`.
#[test]
fn close_when_data_comes() {
    connected("close_when_data_comes", async |el, log| {
        let (own, peer) = socket_pair();
        let sender = peer.clone();
        let recorder = Recorder::new(&log).then("data", move |transport| {
            transport.close();
            sender.send(b"more");
        });
        connect_over(&el, &own, recorder).await;
        peer.send(b"one");
        peer.send(b"two");
        settle().await;
        peer.close();
        settle().await;
    });
}

/// CL-11: nor after an `abort`, not even the end of file that has arrived with the data.
#[test]
fn abort_when_data_comes() {
    connected("abort_when_data_comes", async |el, log| {
        let (_, peer) = connect(&el, Recorder::new(&log).then("data", Transport::abort)).await;
        peer.send(b"one");
        peer.close();
        settle().await;
    });
}

/// TC-26: a connection that is closed as soon as it is made is returned, and lost afterwards.
#[test]
fn close_when_the_connection_is_made() {
    connected("close_when_the_connection_is_made", async |el, log| {
        for step in [Transport::close, Transport::abort] {
            let (transport, peer) = connect(&el, Recorder::new(&log).then("made", step)).await;
            yes(&log, "closing", transport.is_closing());
            settle().await;
            log.push(peer.received());
        }
    });
}

/// TT-01: no data before the connection is made, nor before it is returned.
#[test]
fn data_that_is_there_before_the_connection() {
    connected("data_that_is_there_before_the_connection", async |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"early");
        connect_over(&el, &own, Recorder::new(&log)).await;
        log.push("connected");
        settle().await;
    });
}

/// TT-01: a connection is returned behind what `connection_made` has scheduled.
#[test]
fn scheduled_when_the_connection_is_made() {
    connected("scheduled_when_the_connection_is_made", async |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        let soon = move |_: &Transport| drop(handle.call_soon(own.entry("soon")));
        connect(&el, Recorder::new(&log).then("made", soon)).await;
        log.push("connected");
        settle().await;
    });
}

/// CL-01: end of file, then the loss; the transport closes itself in between.
#[test]
fn peer_closes() {
    connected("peer_closes", async |el, log| {
        let own = log.clone();
        let say = move |transport: &Transport| yes(&own, "closing", transport.is_closing());
        let (transport, peer) = connect(&el, Recorder::new(&log).then("eof", say)).await;
        peer.close();
        settle().await;
        yes(&log, "closing", transport.is_closing());
    });
}

/// TT-31: data that arrives together with the end comes before it.
#[test]
fn peer_sends_and_closes() {
    connected("peer_sends_and_closes", async |el, log| {
        let (_, peer) = connect(&el, Recorder::new(&log)).await;
        peer.send(b"last words");
        peer.close();
        settle().await;
    });
}

/// TT-02: both in one event are told in one turn.
#[test]
fn scheduled_between_data_and_end_of_file() {
    let here = ["made", "data 'last words'", "eof", "soon", "lost None"];
    connected_differs("scheduled_between_data_and_end_of_file", "reading-on", &here, async |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        let soon = move |_: &Transport| drop(handle.call_soon(own.entry("soon")));
        let (_, peer) = connect(&el, Recorder::new(&log).then("data", soon)).await;
        peer.send(b"last words");
        peer.close();
        settle().await;
    });
}

/// CL-02, CL-03: after the end of file of a peer that is kept, the writing side goes on.
#[test]
fn half_close_by_the_peer() {
    connected("half_close_by_the_peer", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log).keep_open()).await;
        peer.send(b"question");
        peer.shutdown();
        settle().await;
        yes(&log, "closing", transport.is_closing());
        transport.write(b"answer");
        log.push(peer.received());
        transport.close();
        settle().await;
        log.push(peer.received());
    });
}

/// CL-03: a transport whose peer has ended does not say that it reads.
#[test]
fn reading_after_the_end_of_file() {
    let here = ["made", "eof", "reading no", "lost None"];
    connected_differs("reading_after_the_end_of_file", "not-reading-after-the-end", &here, async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log).keep_open()).await;
        peer.shutdown();
        settle().await;
        yes(&log, "reading", transport.is_reading());
        transport.close();
        settle().await;
    });
}

/// CL-04: ending the writing side, twice, leaves the reading one.
#[test]
fn half_close_by_us() {
    connected("half_close_by_us", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        yes(&log, "possible", transport.can_write_eof());
        transport.write(b"question");
        transport.write_eof();
        transport.write_eof();
        yes(&log, "closing", transport.is_closing());
        settle().await;
        log.push(peer.received());
        peer.send(b"answer");
        settle().await;
        peer.close();
        settle().await;
    });
}

/// CL-04: the end of file comes after what is queued.
#[test]
fn half_close_with_a_queue() {
    connected("half_close_with_a_queue", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(1 << 30, None).unwrap();
        transport.write(&[b'x'; 1_000_000]);
        transport.write_eof();
        settle().await;
        log.push(peer.collect().await);
        transport.close();
        settle().await;
    });
}

/// TT-19, CL-06: a write after `write_eof` is refused, before and after `close`.
#[test]
fn write_after_write_eof() {
    connected("write_after_write_eof", async |el, log| {
        let own = log.clone();
        el.set_exception_handler(Some(std::rc::Rc::new(move |_, _| own.push("refused"))));
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write_eof();
        transport.write(b"too late");
        settle().await;
        transport.close();
        transport.write_eof();
        transport.write(b"too late");
        settle().await;
        log.push(peer.received());
    });
}

/// TT-22: a protocol that is set in a callback hears of what comes after it.
#[test]
fn another_protocol() {
    connected("another_protocol", async |el, log| {
        let own = log.clone();
        let switch = move |transport: &Transport| {
            transport.set_protocol(Recorder::new(&own).name("second"));
            own.push("set");
        };
        let (transport, peer) = connect(&el, Recorder::new(&log).name("first").then("data", switch)).await;
        peer.send(b"one");
        settle().await;
        peer.send(b"two");
        settle().await;
        transport.set_protocol(ProtocolRef::new(Recorder::new(&log).name("third")));
        settle().await;
        peer.send(b"three");
        peer.close();
        settle().await;
    });
}

/// EH-12, EH-13, P17 to P19: which failures are reported, and which end the connection.
#[test]
fn failing_callbacks() {
    connected("failing_callbacks", async |el, log| {
        trace_reports(&el, &log);
        for callback in ["made", "data", "eof", "lost"] {
            log.push(format!("-- {callback}"));
            let (_, peer) = connect(&el, Recorder::new(&log).then(callback, |_| fail())).await;
            peer.send(b"data");
            settle().await;
            peer.close();
            settle().await;
        }
    });
}

/// TT-08: an answer is sent at once.
#[test]
fn written_when_data_comes() {
    connected("written_when_data_comes", async |el, log| {
        let answer = |transport: &Transport, data: &[u8]| transport.write(&data.to_ascii_uppercase());
        let (_, peer) = connect(&el, Recorder::new(&log).then_with("data", answer)).await;
        for text in [b"one", b"two"] {
            peer.send(text);
            settle().await;
            log.push(peer.received());
        }
        peer.close();
        settle().await;
    });
}

/// CL-12: the methods of a transport can be called until the end and after it.
#[test]
fn written_when_the_connection_ends() {
    connected("written_when_the_connection_ends", async |el, log| {
        let recorder = Recorder::new(&log).keep_open().then("eof", |transport| transport.write(b"farewell"));
        let recorder = recorder.then("lost", |transport| {
            transport.write(b"nobody hears");
            transport.close();
            transport.abort();
        });
        let (transport, peer) = connect(&el, recorder).await;
        peer.shutdown();
        settle().await;
        log.push(peer.received());
        transport.close();
        settle().await;
        log.push(peer.received());
    });
}

/// CL-01: what `eof_received` writes is sent before the transport closes itself.
#[test]
fn answer_and_close_at_the_end_of_file() {
    connected("answer_and_close_at_the_end_of_file", async |el, log| {
        let recorder = Recorder::new(&log).then("eof", |transport| transport.write(b"farewell"));
        let (_, peer) = connect(&el, recorder).await;
        peer.shutdown();
        settle().await;
        log.push(peer.received());
    });
}

/// CL-17: two ends in one loop, which end one after the other.
#[test]
fn two_ends_in_one_loop() {
    connected("two_ends_in_one_loop", async |el, log| {
        let (own, other) = socket_pair();
        let left = Recorder::new(&log).name("left").then("data", Transport::write_eof);
        let (left, _) = connect_over(&el, &own, left).await;
        let answer = |transport: &Transport, data: &[u8]| transport.write(&data.to_ascii_uppercase());
        let right = Recorder::new(&log).name("right").then_with("data", answer);
        let (right, _) = connect_over(&el, &other, right).await;
        left.write(b"ping");
        settle().await;
        settle().await;
        yes(&log, "left closing", left.is_closing());
        yes(&log, "right closing", right.is_closing());
    });
}

/// LR-24: events of transports have their place between callbacks and timers, in the order of readiness.
#[test]
fn events_of_two_connections_in_one_turn() {
    connected("events_of_two_connections_in_one_turn", async |el, log| {
        let (first, first_peer) = connect(&el, Recorder::new(&log).name("first")).await;
        let (second, second_peer) = connect(&el, Recorder::new(&log).name("second")).await;
        second_peer.send(b"x");
        first_peer.send(b"y");
        el.call_soon(log.entry("soon"));
        el.call_at(el.time() - crate::support::SECOND, log.entry("timer"));
        settle().await;
        first.close();
        second.abort();
        settle().await;
    });
}

/// CL-14: a transport that is closed in the batch in which its event waits does not read any more.
#[test]
fn closed_by_another_in_one_turn() {
    connected("closed_by_another_in_one_turn", async |el, log| {
        let closing: std::rc::Rc<std::cell::RefCell<Option<Transport>>> = std::rc::Rc::default();
        let other = closing.clone();
        let close = move |_: &Transport| other.borrow().as_ref().unwrap().close();
        let (_, first_peer) = connect(&el, Recorder::new(&log).name("first").then("data", close)).await;
        let (second, second_peer) = connect(&el, Recorder::new(&log).name("second")).await;
        *closing.borrow_mut() = Some(second);
        first_peer.send(b"x");
        second_peer.send(b"y");
        settle().await;
        closing.take();
    });
}
