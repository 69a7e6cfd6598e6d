//! Readers and writers.

use crate::oracle::same;
use crate::support::{
    add_reader, add_writer, fail, line, remove_reader, remove_writer, socket_pair, trace_reports, turns, yes,
};

/// SK-03: of one descriptor, reading comes first, in whatever order the callbacks were added.
#[test]
fn reader_before_writer() {
    same("reader_before_writer", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        add_writer(el, &own, line(log, "writer"));
        add_reader(el, &own, line(log, "reader"));
        turns(el, log, 2);
        log.push(own.received());
        turns(el, log, 1);
        yes(log, "reader removed", remove_reader(el, &own));
        yes(log, "writer removed", remove_writer(el, &own));
        turns(el, log, 1);
    });
}

/// SK-01: several descriptors are reported in the order in which they became ready.
#[test]
fn readers_in_order_of_readiness() {
    same("readers_in_order_of_readiness", |el, log| {
        let pairs: Vec<_> = (0..4).map(|_| socket_pair()).collect();
        for (number, (own, _)) in pairs.iter().enumerate() {
            let (trace, reading) = (log.clone(), own.clone());
            add_reader(el, own, move || trace.push(format!("reader {number} {}", reading.received())));
        }
        turns(el, log, 1);
        for number in [2, 0, 3, 1] {
            pairs[number].1.send(b"x");
        }
        turns(el, log, 2);
        for (own, _) in &pairs {
            remove_reader(el, own);
        }
    });
}

/// SK-02, P45: who is removed in a batch does not run in it any more.
#[test]
fn removed_within_the_batch() {
    same("removed_within_the_batch", |el, log| {
        let (first, first_peer) = socket_pair();
        let (second, second_peer) = socket_pair();
        let (handle, own, one, other) = (el.clone(), log.clone(), first.clone(), second.clone());
        add_reader(el, &first, move || {
            own.push("first reader");
            yes(&own, "writer removed", remove_writer(&handle, &one));
            yes(&own, "second removed", remove_reader(&handle, &other));
            yes(&own, "second removed again", remove_reader(&handle, &other));
        });
        add_reader(el, &second, line(log, "second reader"));
        turns(el, log, 1);
        first_peer.send(b"x");
        second_peer.send(b"x");
        add_writer(el, &first, line(log, "writer"));
        turns(el, log, 1);
        yes(log, "removed", remove_reader(el, &first));
    });
}

/// SK-02: a reader that is replaced does not run, though it was queued.
#[test]
fn replaced_within_the_batch() {
    same("replaced_within_the_batch", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        add_reader(el, &own, line(log, "old"));
        let (handle, new, watched) = (el.clone(), line(log, "new"), own.clone());
        el.call_soon(move || add_reader(&handle, &watched, new));
        turns(el, log, 2);
        remove_reader(el, &own);
    });
}

/// SK-02: a reader may replace itself.
#[test]
fn replaced_by_itself() {
    same("replaced_by_itself", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
        add_reader(el, &own, move || {
            trace.push("old");
            add_reader(&handle, &watched, line(&trace, "new"));
        });
        turns(el, log, 3);
        remove_reader(el, &own);
    });
}

/// SK-01: level triggered: as long as there is something to read.
#[test]
fn reported_while_it_lasts() {
    same("reported_while_it_lasts", |el, log| {
        let (own, peer) = socket_pair();
        add_reader(el, &own, line(log, "readable"));
        turns(el, log, 1);
        peer.send(b"x");
        turns(el, log, 2);
        log.push(own.received());
        turns(el, log, 1);
        remove_reader(el, &own);
    });
}

/// LR-24: what a callback begins to watch is reported in the next turn, after what it has scheduled.
#[test]
fn watched_from_the_next_turn_on() {
    same("watched_from_the_next_turn_on", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
        el.call_soon(move || {
            handle.call_soon(trace.entry("soon"));
            add_reader(&handle, &watched, line(&trace, "reader"));
            handle.call_soon(trace.entry("soon too"));
            trace.push("begun");
        });
        turns(el, log, 2);
        remove_reader(el, &own);
    });
}

/// SK-01, SK-03, SK-04, LR-04: removing says whether there was something to remove.
#[test]
fn what_removing_says() {
    same("what_removing_says", |el, log| {
        let (own, _peer) = socket_pair();
        yes(log, "nothing there", remove_reader(el, &own));
        add_reader(el, &own, line(log, "reader"));
        yes(log, "other direction", remove_writer(el, &own));
        yes(log, "reader", remove_reader(el, &own));
        yes(log, "reader again", remove_reader(el, &own));
        add_writer(el, &own, line(log, "writer"));
        turns(el, log, 1);
        el.close();
        yes(log, "closed loop", remove_writer(el, &own));
    });
}

/// SK-01: a hang-up is reported to both directions, reading first.
#[test]
fn hang_up() {
    same("hang_up", |el, log| {
        let (own, peer) = socket_pair();
        own.fill();
        let (trace, reading) = (log.clone(), own.clone());
        add_reader(el, &own, move || trace.push(format!("reader {}", reading.received())));
        add_writer(el, &own, line(log, "writer"));
        turns(el, log, 1);
        peer.receive();
        peer.close();
        turns(el, log, 2);
        remove_reader(el, &own);
        turns(el, log, 1);
        remove_writer(el, &own);
    });
}

/// SK-01: a writer runs when there is room.
#[test]
fn room_to_write() {
    same("room_to_write", |el, log| {
        let (own, peer) = socket_pair();
        own.fill();
        add_writer(el, &own, line(log, "writer"));
        turns(el, log, 1);
        peer.receive();
        turns(el, log, 1);
        remove_writer(el, &own);
    });
}

/// LR-10: an event in the last turn of a run counts once.
#[test]
fn stop_with_a_reader_ready() {
    same("stop_with_a_reader_ready", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        add_reader(el, &own, line(log, "reader"));
        for _ in 0..2 {
            let handle = el.clone();
            el.call_soon(move || handle.stop());
            el.run_forever();
            log.push("returned");
        }
        remove_reader(el, &own);
    });
}

/// CS-10: a reader that fails is reported, stays, and disturbs nobody.
#[test]
fn failing_reader() {
    same("failing_reader", |el, log| {
        trace_reports(el, log);
        let (own, peer) = socket_pair();
        let (other, other_peer) = socket_pair();
        add_reader(el, &own, fail);
        add_reader(el, &other, line(log, "other reader"));
        turns(el, log, 1);
        peer.send(b"x");
        other_peer.send(b"x");
        turns(el, log, 2);
        yes(log, "removed", remove_reader(el, &own));
        remove_reader(el, &other);
    });
}

/// SK-01: a reader may remove itself.
#[test]
fn reader_that_removes_itself() {
    same("reader_that_removes_itself", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
        add_reader(el, &own, move || {
            yes(&trace, "removed", remove_reader(&handle, &watched));
            handle.call_soon(trace.entry("soon"));
            trace.push("reader");
        });
        turns(el, log, 3);
    });
}

/// LR-24: what one callback makes readable is reported in the next turn.
#[test]
fn writer_that_feeds_a_reader() {
    same("writer_that_feeds_a_reader", |el, log| {
        let (own, peer) = socket_pair();
        let (trace, reading) = (log.clone(), own.clone());
        add_reader(el, &own, move || trace.push(format!("reader {}", reading.received())));
        let (handle, trace, feeding) = (el.clone(), log.clone(), peer.clone());
        add_writer(el, &peer, move || {
            trace.push("writer");
            feeding.send(b"x");
            remove_writer(&handle, &feeding);
        });
        turns(el, log, 3);
        remove_reader(el, &own);
    });
}
