//! Flow control of writing, with sizes.

use roundelay::{ProtocolRef, Transport};

use crate::common::Log;
use crate::support::{
    Recorder, connect, connect_over, connected, connected_differs, fail, settle, socket_pair, trace_reports, yes,
};

static BLOCK: [u8; 65536] = [b'x'; 65536];
static MILLION: [u8; 1_000_000] = [b'x'; 1_000_000];

fn write_a_million(transport: &Transport) {
    transport.write(&MILLION);
}

/// Writes until the kernel takes no more, and gives the size of the queue.
fn fill(transport: &Transport) -> usize {
    transport.set_write_buffer_limits(1 << 30, None).unwrap();
    while transport.write_buffer_size() == 0 {
        transport.write(&BLOCK);
    }
    transport.write_buffer_size()
}

fn limits(log: &Log, transport: &Transport) {
    let marks = transport.write_buffer_limits();
    log.push(format!("limits {} {}", marks.low, marks.high));
}

/// FC-05, FC-11, P13: paused above the high mark, resumed at the low one or below, with these sizes, more than once.
#[test]
fn pause_and_resume() {
    connected("pause_and_resume", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(400_000, 300_000).unwrap();
        transport.write(&vec![b'x'; 3_000_000]);
        settle().await;
        log.push(peer.collect().await);
        transport.write(&MILLION);
        settle().await;
        log.push(peer.collect().await);
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// FC-01: what `connection_made` writes may pause at once.
#[test]
fn write_when_the_connection_is_made() {
    connected("write_when_the_connection_is_made", async |el, log| {
        let (_, peer) = connect(&el, Recorder::new(&log).then("made", write_a_million)).await;
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-01: so may what `data_received` writes.
#[test]
fn write_when_data_comes() {
    connected("write_when_data_comes", async |el, log| {
        let (_, peer) = connect(&el, Recorder::new(&log).then("data", write_a_million)).await;
        peer.send(b"request");
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-01: it is told when the callback returns, with the size that there is then.
#[test]
fn pause_within_a_callback() {
    let here = ["made", "data 'request'", "written", "pause *", "resume *", "1065536 bytes"];
    connected_differs("pause_within_a_callback", "told-when-the-callback-returns", &here, async |el, log| {
        let own = log.clone();
        let data = move |transport: &Transport| {
            transport.write(&MILLION);
            transport.write(&BLOCK);
            own.push("written");
        };
        let (_, peer) = connect(&el, Recorder::new(&log).then("data", data)).await;
        peer.send(b"request");
        settle().await;
        log.push(peer.collect().await);
    });
}

/// P21: a size that is the high mark does not pause; one byte more does, once.
#[test]
fn exactly_at_the_marks() {
    connected("exactly_at_the_marks", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let size = fill(&transport);
        transport.set_write_buffer_limits(size + 100, 0).unwrap();
        transport.write(&[b'x'; 100]);
        settle().await;
        log.push("one more");
        transport.write(b"x");
        settle().await;
        log.push("more yet");
        transport.write(&BLOCK);
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-06, FC-09, P21: lowered marks pause at once; raised ones do not resume, only draining does.
#[test]
fn marks_moved() {
    connected("marks_moved", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let size = fill(&transport);
        log.push("lowered");
        transport.set_write_buffer_limits(size - 1, 10).unwrap();
        settle().await;
        log.push("raised");
        transport.set_write_buffer_limits(10 * size, 5 * size).unwrap();
        settle().await;
        log.push("lowered again");
        transport.set_write_buffer_limits(10, 5).unwrap();
        settle().await;
        log.push("drained");
        log.push(peer.collect().await);
    });
}

/// FC-01 to FC-03, P21: one mark gives the other; what makes no sense is refused and changes nothing.
#[test]
fn marks_as_told() {
    connected("marks_as_told", async |el, log| {
        let (transport, _peer) = connect(&el, Recorder::new(&log)).await;
        limits(&log, &transport);
        let given = [
            (Some(100), Some(10)),
            (Some(100), None),
            (None, Some(100)),
            (Some(0), None),
            (None, Some(0)),
            (Some(7), Some(7)),
            (None, None),
        ];
        for (high, low) in given {
            transport.set_write_buffer_limits(high, low).unwrap();
            limits(&log, &transport);
        }
        if transport.set_write_buffer_limits(10, 100).is_err() {
            log.push("refused");
        }
        limits(&log, &transport);
    });
}

/// FC-02: with a high mark of zero, whatever is queued pauses.
#[test]
fn queue_of_zero() {
    connected("queue_of_zero", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(0, None).unwrap();
        transport.write(b"small");
        settle().await;
        log.push("fill");
        while transport.write_buffer_size() == 0 {
            transport.write(&BLOCK);
        }
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-11: the size at each step of draining.
#[test]
fn drained_in_steps() {
    connected("drained_in_steps", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(1_000_000, 500_000).unwrap();
        transport.write(&vec![b'x'; 2_000_000]);
        settle().await;
        while transport.write_buffer_size() > 0 {
            peer.receive();
            log.push(format!("size {}", transport.write_buffer_size()));
            settle().await;
        }
        log.push(peer.collect().await);
    });
}

/// FC-08: an abort while writing is paused: no resumption.
#[test]
fn abort_while_paused() {
    connected("abort_while_paused", async |el, log| {
        let (transport, _peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        settle().await;
        transport.abort();
        log.push(format!("size {}", transport.write_buffer_size()));
        yes(&log, "closing", transport.is_closing());
        settle().await;
    });
}

/// CL-08, P13: a close while writing is paused sends everything, resumes, and ends.
#[test]
fn close_while_paused() {
    connected("close_while_paused", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        settle().await;
        transport.close();
        yes(&log, "closing", transport.is_closing());
        settle().await;
        log.push("drained");
        log.push(peer.collect().await);
    });
}

/// CL-09, P13: an abort takes effect though a close was waiting for the queue.
#[test]
fn close_then_abort_while_paused() {
    connected("close_then_abort_while_paused", async |el, log| {
        let (transport, _peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        settle().await;
        transport.close();
        settle().await;
        transport.abort();
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// CL-08: what is queued at a close is sent; what arrives meanwhile is not read.
#[test]
fn close_with_a_queue() {
    connected("close_with_a_queue", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(1 << 30, None).unwrap();
        transport.write(&MILLION);
        peer.send(b"unheard");
        transport.close();
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-08, TT-17: a peer that goes while writing is paused: the loss, and no resumption.
#[test]
fn peer_goes_while_paused() {
    connected("peer_goes_while_paused", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        settle().await;
        peer.receive();
        settle().await;
        peer.close();
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// TT-24: what `resume_writing` writes is sent, and may pause again.
#[test]
fn written_when_resumed() {
    connected("written_when_resumed", async |el, log| {
        let mut left = 2;
        let resume = move |transport: &Transport| {
            if left > 0 {
                left -= 1;
                write_a_million(transport);
            }
        };
        let (transport, peer) = connect(&el, Recorder::new(&log).then("resume", resume)).await;
        transport.write(&MILLION);
        settle().await;
        log.push(peer.collect().await);
    });
}

/// TT-25, gh-156512 of asyncio: closing in `resume_writing` gives one loss.
#[test]
fn closed_when_resumed() {
    connected("closed_when_resumed", async |el, log| {
        for step in [Transport::close, Transport::abort] {
            let (transport, peer) = connect(&el, Recorder::new(&log).then("resume", step)).await;
            transport.write(&MILLION);
            settle().await;
            log.push(peer.collect().await);
        }
    });
}

/// TT-25: so does closing in `pause_writing`.
#[test]
fn closed_when_paused() {
    connected("closed_when_paused", async |el, log| {
        for step in [Transport::close, Transport::abort] {
            let (transport, peer) = connect(&el, Recorder::new(&log).then("pause", step)).await;
            transport.write(&MILLION);
            settle().await;
            log.push(peer.collect().await);
        }
    });
}

/// EH-11, P20: a failure of flow control is reported, and the connection goes on.
#[test]
fn failing_flow_control() {
    connected("failing_flow_control", async |el, log| {
        trace_reports(&el, &log);
        for callback in ["pause", "resume"] {
            let (transport, peer) = connect(&el, Recorder::new(&log).then(callback, |_| fail())).await;
            transport.write(&MILLION);
            settle().await;
            log.push(peer.collect().await);
            yes(&log, "closing", transport.is_closing());
        }
    });
}

/// TT-22: a protocol that takes over while writing is paused is told so.
#[test]
fn another_protocol_while_paused() {
    let here = ["first made", "first pause *", "second pause *", "second resume *", "1000000 bytes"];
    connected_differs("another_protocol_while_paused", "told-to-a-new-protocol", &here, async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log).name("first")).await;
        transport.write(&MILLION);
        settle().await;
        transport.set_protocol(ProtocolRef::new(Recorder::new(&log).name("second")));
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-01: reading goes on while writing is paused.
#[test]
fn reading_while_writing_is_paused() {
    connected("reading_while_writing_is_paused", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        settle().await;
        peer.send(b"hello");
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-01, TT-29: a peer that does not read, and that goes with data unread.
#[test]
fn two_that_feed_each_other() {
    connected("two_that_feed_each_other", async |el, log| {
        let (own, other) = socket_pair();
        let left = Recorder::new(&log).name("left").then("made", Transport::pause_reading);
        let (left, _) = connect_over(&el, &own, left).await;
        let (right, _) = connect_over(&el, &other, Recorder::new(&log).name("right")).await;
        right.write(&[b'x'; 60_000]);
        right.write(&MILLION);
        settle().await;
        log.push(format!("size {}", right.write_buffer_size()));
        left.close();
        settle().await;
        settle().await;
    });
}

/// CL-08: what is written after a close is not sent, though the queue still is.
#[test]
fn write_after_close_with_a_queue() {
    let here = ["made", "lost None", "1000000 bytes eof"];
    connected_differs("write_after_close_with_a_queue", "write-after-close", &here, async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(1 << 30, None).unwrap();
        transport.write(&MILLION);
        transport.close();
        transport.write(b"too late");
        log.push(peer.collect().await);
    });
}

/// CL-04, CL-08: a half close that waits for the queue, and then a whole one.
#[test]
fn half_close_then_close_with_a_queue() {
    connected("half_close_then_close_with_a_queue", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        transport.write(&MILLION);
        transport.write_eof();
        settle().await;
        transport.close();
        settle().await;
        log.push(peer.collect().await);
    });
}

/// FC-08: nobody is told to pause whose connection was aborted meanwhile.
#[test]
fn written_and_aborted_in_one_callback() {
    let here = ["made", "data 'request'", "lost None"];
    connected_differs(
        "written_and_aborted_in_one_callback",
        "told-when-the-callback-returns",
        &here,
        async |el, log| {
            let data = |transport: &Transport| {
                write_a_million(transport);
                transport.abort();
            };
            let (_, peer) = connect(&el, Recorder::new(&log).then("data", data)).await;
            peer.send(b"request");
            settle().await;
        },
    );
}

/// CL-08: one that is closing is told, for its queue is still being sent.
#[test]
fn written_and_closed_in_one_callback() {
    connected("written_and_closed_in_one_callback", async |el, log| {
        let data = |transport: &Transport| {
            write_a_million(transport);
            transport.close();
        };
        let (_, peer) = connect(&el, Recorder::new(&log).then("data", data)).await;
        peer.send(b"request");
        settle().await;
        log.push(peer.collect().await);
    });
}
