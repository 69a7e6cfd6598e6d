//! Connections in memory: what a link does to bytes, and that transports over it are like those of sockets.

#![cfg(feature = "test-util")]

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;
mod wire;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use common::{Log, complete, on_loop, on_manual_clock, run_until, settle, take_reports};
use datagrams::Recorder;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::poll;
use proptest::prelude::*;
use roundelay::testing::{DatagramLink, Link, MemoryTransport, datagram_pair, memory_pair, stream_pair};
use roundelay::{Address, Buffered, BufferedProtocol, DatagramHandle, EventLoop, KeepOpen, ManualClock, Transport};
use wire::{Record, Tap, pattern};

const ZERO: Duration = Duration::ZERO;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Two protocols that write down what they hear, connected and told so.
fn pair(el: &EventLoop, link: &Link) -> [(MemoryTransport<Tap>, Record); 2] {
    let (a, b) = (Record::new(), Record::new());
    let (near, far) = memory_pair(el, link, || Tap::new(&a), || Tap::new(&b)).unwrap();
    settle(el);
    assert_eq!((a.take(), b.take()), (vec!["made".into()], vec!["made".into()]));
    [(near, a), (far, b)]
}

/// Turns the clock to each deadline until there is none, or the time is over.
fn let_time_pass(el: &EventLoop, clock: &ManualClock, time: Duration) {
    let end = el.time() + time;
    settle(el);
    while let Some(deadline) = el.next_deadline().filter(|&deadline| deadline <= end) {
        clock.advance(deadline.saturating_duration_since(el.time()));
        settle(el);
    }
    clock.advance(end.saturating_duration_since(el.time()));
    settle(el);
}

#[test]
fn what_is_written_arrives_with_the_same_callbacks_as_over_a_socket() {
    on_loop(|el| {
        let [(near, a), (far, b)] = pair(el, &Link::new());
        near.write(b"hello, ");
        near.writelines(&[io::IoSlice::new(b"wor"), io::IoSlice::new(b"ld")]);
        assert!(b.is_silent(), "no method calls a protocol");
        settle(el);
        assert_eq!(b.bytes(), b"hello, world");
        far.write_owned(&b"back"[..]);
        settle(el);
        assert_eq!(a.bytes(), b"back");
        assert_eq!((near.wire.sent(), near.wire.received(), near.wire.in_flight()), (12, 4, 0));
        near.close();
        assert!(near.is_closing() && a.count("lost") == 0);
        settle(el);
        assert_eq!(a.take(), ["data 4", "lost"]);
        assert_eq!(b.take(), ["data 12", "eof", "lost"]);
        assert!(near.transport.protocol().is_none() && far.transport.protocol().is_none());
        assert!(near.extra_info().socket.is_none() && near.extra_info().peer_addr.is_none());
    });
}

#[test]
fn a_link_without_anybody_to_read_pauses_the_writer() {
    on_loop(|el| {
        let [(near, a), (far, b)] = pair(el, &Link::new().capacity(1000));
        near.set_write_buffer_limits(500, 100).unwrap();
        far.pause_reading();
        near.write(&pattern(1500));
        assert_eq!((near.write_buffer_size(), far.wire.in_flight()), (500, 1000));
        settle(el);
        assert!(a.is_silent(), "at the high mark nobody is paused");
        near.write(b"!");
        settle(el);
        assert_eq!(a.take(), ["pause"]);
        let (ready, flushed) = (near.ready(), near.flushed());
        far.resume_reading();
        complete(el, async { ready.await.and(flushed.await) }).unwrap();
        settle(el);
        assert_eq!(a.take(), ["resume"]);
        let mut expected = pattern(1500);
        expected.push(b'!');
        assert_eq!(b.bytes(), expected);
        near.set_write_buffer_cap(10);
        far.pause_reading();
        near.write(&[0; 1011]);
        settle(el);
        assert_eq!(a.take(), ["lost WriteZero"]);
        far.abort();
        settle(el);
    });
}

#[test]
fn one_half_can_be_closed_alone() {
    on_loop(|el| {
        let (a, b) = (Record::new(), Record::new());
        let (near, far) = memory_pair(el, &Link::new(), || Tap::half_open(&a), || Tap::half_open(&b)).unwrap();
        settle(el);
        assert!(near.can_write_eof());
        near.write(b"question");
        near.write_eof();
        settle(el);
        assert_eq!(b.take(), ["made", "data 8", "eof"]);
        near.write(b"too late");
        assert_eq!(take_reports().len(), 1);
        far.write(b"answer");
        far.close();
        settle(el);
        assert_eq!(b.take(), ["lost"]);
        assert_eq!(a.take(), ["made", "data 6", "eof"]);
        near.close();
        settle(el);
        assert_eq!(a.take(), ["lost"]);
    });
}

#[test]
fn closing_sends_what_is_queued_and_aborting_does_not() {
    on_loop(|el| {
        for closes in [true, false] {
            let [(near, a), (far, b)] = pair(el, &Link::new().capacity(10));
            far.pause_reading();
            near.write(&pattern(100));
            if closes {
                near.close();
            } else {
                near.abort();
            }
            far.resume_reading();
            settle(el);
            assert_eq!(a.take(), ["lost"]);
            let n = if closes { 100 } else { 10 };
            assert_eq!(b.take(), [format!("data {n}"), "eof".into(), "lost".into()]);
        }
    });
}

/// Who goes without having read what was sent resets the connection, as with sockets.
#[test]
fn an_end_that_was_dropped_unread_resets() {
    on_loop(|el| {
        let [(near, a), (far, _)] = pair(el, &Link::new().capacity(10));
        far.pause_reading();
        near.write(&pattern(100));
        far.write(b"bye");
        far.abort();
        settle(el);
        let told = a.take();
        assert!(told.last().unwrap().starts_with("lost "), "{told:?}");
        // Streams read what was sent before they get the error.
        let (near, far) = stream_pair(el, &Link::new());
        complete(el, async move {
            let (mut near, mut far) = (near, far);
            near.write_all(b"nobody reads this").await.unwrap();
            far.write_all(b"bye").await.unwrap();
            drop(far);
            let mut piece = [0; 8];
            assert_eq!(near.read(&mut piece).await.unwrap(), 3);
            assert_eq!(near.read(&mut piece).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(near.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn a_loss_after_so_many_bytes_is_heard_of_by_both_ends() {
    on_loop(|el| {
        let link = Link::new().lose_after_bytes(7, ErrorKind::ConnectionAborted);
        let [(near, a), (far, b)] = pair(el, &link);
        near.write(b"0123456789");
        settle(el);
        assert_eq!(b.bytes(), b"0123456");
        assert_eq!(b.take(), ["data 7", "lost ConnectionAborted"]);
        assert_eq!(a.take(), ["lost ConnectionAborted"]);
        assert!(near.wire.is_lost() && far.wire.is_lost());
        // At once, too.
        let (a, b) = (Record::new(), Record::new());
        memory_pair(el, &Link::new().lose_after_bytes(0, ErrorKind::TimedOut), || Tap::new(&a), || Tap::new(&b))
            .unwrap();
        settle(el);
        assert_eq!(a.take(), ["made", "lost TimedOut"]);
        assert_eq!(b.take(), ["made", "lost TimedOut"]);
    });
}

#[test]
fn a_hand_on_the_wire_holds_up_breaks_and_silences() {
    on_loop(|el| {
        let [(near, a), (far, b)] = pair(el, &Link::new());
        near.wire.hold();
        near.write(b"held");
        settle(el);
        assert!(b.is_silent());
        assert_eq!(far.wire.in_flight(), 4);
        far.wire.release();
        settle(el);
        assert_eq!(b.take(), ["data 4"]);
        near.wire.lose(ErrorKind::ConnectionReset);
        settle(el);
        assert_eq!((a.take(), b.take()), (vec!["lost ConnectionReset".into()], vec!["lost ConnectionReset".into()]));

        let [(near, a), (far, b)] = pair(el, &Link::new());
        far.wire.silence();
        near.write(b"nobody hears this");
        near.close();
        settle(el);
        assert_eq!(a.take(), ["lost"]);
        assert!(b.is_silent());
        assert_eq!(format!("{:?}", far.wire), "Wire { sent: 0, received: 0, in_flight: 17, is_lost: true }");
        far.abort();
        settle(el);
    });
}

/// A link's time is the loop's.
#[test]
fn bytes_take_their_time() {
    on_manual_clock(|el, clock| {
        let [(near, _), (far, b)] = pair(el, &Link::new().latency(ms(100)).back(Link::new().latency(ms(5))));
        near.write(b"first");
        settle(el);
        clock.advance(ms(60));
        near.write(b"second");
        settle(el);
        assert!(b.is_silent());
        clock.advance(ms(40));
        settle(el);
        assert_eq!(b.take(), ["data 5"]);
        far.write(b"back");
        clock.advance(ms(59));
        settle(el);
        assert!(b.is_silent());
        near.close();
        settle(el);
        clock.advance(ms(1));
        settle(el);
        assert_eq!(b.take(), ["data 6"]);
        // The end of file takes as long: it left at 159.
        clock.advance(ms(98));
        settle(el);
        assert!(b.is_silent());
        clock.advance(ms(1));
        settle(el);
        assert_eq!(b.take(), ["eof", "lost"]);
    });
}

#[test]
fn a_narrow_link_gives_so_many_bytes_a_second() {
    on_manual_clock(|el, clock| {
        let [(near, a), (far, b)] = pair(el, &Link::new().bandwidth(14_600).latency(ms(10)));
        near.write(&pattern(14_600));
        for packets in 1..=10 {
            let_time_pass(el, clock, if packets == 1 { ms(110) } else { ms(100) });
            assert_eq!(b.len(), packets * 1460);
        }
        assert_eq!(b.bytes(), pattern(14_600));
        drop((near, a, far));
    });
}

#[test]
fn a_link_is_lost_after_a_time() {
    on_manual_clock(|el, clock| {
        let [(near, a), (_, b)] = pair(el, &Link::new().latency(ms(50)).lose_after(ms(120), ErrorKind::TimedOut));
        near.write(b"arrives");
        let_time_pass(el, clock, ms(100));
        near.write(b"does not");
        let_time_pass(el, clock, ms(100));
        assert_eq!(b.take(), ["data 7", "lost TimedOut"]);
        assert_eq!(a.take(), ["lost TimedOut"]);

        let [(near, a), (far, b)] = pair(el, &Link::new().silence_after(ms(10)));
        let_time_pass(el, clock, ms(10));
        near.write(b"does not");
        let_time_pass(el, clock, ms(1000));
        assert!(a.is_silent() && b.is_silent());
        near.abort();
        far.abort();
        settle(el);
        assert_eq!(el.next_deadline(), None);
    });
}

/// Timers of a link whose ends are gone are gone, too.
#[test]
fn nothing_is_left_of_a_link_that_was_dropped() {
    on_manual_clock(|el, _| {
        let link = Link::new().latency(ms(50)).lose_after(ms(1000), ErrorKind::TimedOut);
        let (mut near, mut far) = stream_pair(el, &link);
        let wire = near.wire();
        complete(el, async {
            far.write_all(b"x").await.unwrap();
            assert!(poll!(near.read(&mut [0; 4])).is_pending());
        });
        assert_eq!(el.stats().timers.live(), 2 + 1 - 1);
        drop((near, far));
        assert_eq!(el.stats().timers.live(), 0);
        assert_eq!(wire.received(), 0);
    });
}

struct Gather {
    buffer: [u8; 5],
    received: Vec<u8>,
}

impl BufferedProtocol for Gather {
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }
    fn buffer_updated(&mut self, _: &Transport, n: usize) {
        self.received.extend_from_slice(&self.buffer[..n]);
    }
}

#[test]
fn protocols_with_a_buffer_and_streams_go_with_it() {
    on_loop(|el| {
        let record = Record::new();
        let gather = || Buffered(Gather { buffer: [0; 5], received: Vec::new() });
        let (near, far) = memory_pair(el, &Link::new(), gather, || Tap::new(&record)).unwrap();
        far.write(b"more than five bytes");
        settle(el);
        near.protocol.with(|gather| assert_eq!(gather.0.received, b"more than five bytes"));
        complete(el, async {
            let (mut reader, mut writer) = near.transport.clone().into_stream().unwrap();
            far.write(b"a line\nand the rest");
            assert_eq!(reader.readline().await.unwrap(), b"a line\n");
            writer.write(b"thanks");
            far.close();
            let heard = Record::new();
            let (transport, _) = writer.into_protocol(reader, || Tap::new(&heard)).unwrap();
            while transport.protocol().is_some() {
                roundelay::yield_now().await;
            }
            assert_eq!(heard.take(), ["made", "data 12", "eof", "lost"]);
        });
    });
}

/// Each piece that the link makes comes to a protocol alone, and leaves a turn to the others.
#[test]
fn each_piece_comes_in_a_turn_of_its_own() {
    on_loop(|el| {
        for (link, expected) in
            [(Link::new().cut_at([9, 2, 5]), &[2, 3, 4, 3][..]), (Link::new().max_read(5), &[5, 5, 2])]
        {
            let (a, b, turns) = (Record::new(), Record::new(), Rc::new(RefCell::new(Vec::new())));
            let (seen, of) = (turns.clone(), el.clone());
            let note = move |_: &Transport, _: &[u8]| seen.borrow_mut().push(of.stats().turns);
            let (near, far) = memory_pair(el, &link, || Tap::new(&a), || Tap::new(&b).on_data(note)).unwrap();
            near.write(b"0123456789ab");
            settle(el);
            assert_eq!(b.chunks(), expected);
            assert!(turns.borrow().windows(2).all(|turns| turns[0] < turns[1]), "{turns:?}");
            far.abort();
            settle(el);
        }
    });
}

#[test]
fn the_same_seed_cuts_in_the_same_way() {
    on_loop(|el| {
        let chunks = |seed| {
            let [(near, _), (far, b)] = pair(el, &Link::new().max_read(9).max_write(50).stutter(3).seed(seed));
            near.write(&pattern(500));
            settle(el);
            assert_eq!(b.bytes(), pattern(500));
            far.abort();
            settle(el);
            b.chunks()
        };
        assert_eq!(chunks(1), chunks(1));
        assert_ne!(chunks(1), chunks(2));
    });
}

/// What a link is asked to be.
fn link() -> impl Strategy<Value = Link> {
    let pieces = (proptest::option::of(1..40_usize), proptest::option::of(1..40_usize), proptest::option::of(2..6_u32));
    let times = (0..30_u64, 0..30_u64, proptest::option::of(1_000..100_000_u64));
    (pieces, times, 10..300_usize, proptest::option::of(any::<u64>())).prop_map(|(pieces, times, capacity, seed)| {
        let mut link = Link::new().latency(ms(times.0)).jitter(ms(times.1)).capacity(capacity);
        if let Some(most) = pieces.0 {
            link = link.max_read(most);
        }
        if let Some(most) = pieces.1 {
            link = link.max_write(most);
        }
        if let Some(one_in) = pieces.2 {
            link = link.stutter(one_in);
        }
        if let Some(bandwidth) = times.2 {
            link = link.bandwidth(bandwidth);
        }
        match seed {
            Some(seed) => link.seed(seed),
            None => link,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a link does, all bytes arrive in order in both directions, and both ends come to their end.
    #[test]
    fn all_bytes_arrive_in_order_by_every_link(link in link(), back in link(), there in 0..3000_usize, answer in 0..500_usize) {
        on_manual_clock(|el, clock| {
            let (a, b) = (Record::new(), Record::new());
            let (near, far) =
                memory_pair(el, &link.back(back), || Tap::half_open(&a), || Tap::half_open(&b)).unwrap();
            near.write(&pattern(there));
            near.write_eof();
            far.write(&pattern(answer));
            let_time_pass(el, clock, Duration::from_secs(3600));
            assert!(b.bytes() == pattern(there), "{} of {there} bytes", b.len());
            assert!(a.bytes() == pattern(answer), "{} of {answer} bytes", a.len());
            assert_eq!(b.count("eof"), 1);
            far.close();
            let_time_pass(el, clock, Duration::from_secs(3600));
            assert_eq!((a.count("eof"), b.lost()), (1, 1));
            near.close();
            let_time_pass(el, clock, ZERO);
            assert_eq!(a.lost(), 1);
        });
    }
}

/// Lines, read by a stream over a link that cuts at each boundary of bytes, and at each two of them.
#[test]
fn a_reader_of_lines_minds_no_boundary() {
    const TEXT: &[u8] = b"one\r\ntwo\n\nEND\r\nrest";
    on_loop(|el| {
        let len = TEXT.len() as u64;
        let links = (0..=len).flat_map(|first| (first..=len).map(move |second| Link::new().cut_at([first, second])));
        for link in links.chain([Link::new().max_read(1), Link::new().max_read(1).stutter(2).seed(3)]) {
            complete(el, async {
                let (mut sender, receiver) = stream_pair(el, &link);
                sender.write_all(TEXT).await.unwrap();
                drop(sender);
                let (mut reader, _writer) = receiver.into_stream().unwrap();
                assert_eq!(reader.readline().await.unwrap(), b"one\r\n");
                assert_eq!(reader.readuntil(b"\n\n").await.unwrap(), b"two\n\n");
                assert_eq!(reader.readexactly(3).await.unwrap(), b"END");
                assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"\r\n");
                assert_eq!(reader.read_to_end().await.unwrap(), b"rest");
            });
        }
    });
}

/// Such a transport outlives its loop as others do: closing that tells nobody.
#[test]
fn a_closed_loop_tells_nobody() {
    on_loop(|el| {
        let [(near, a), (far, b)] = pair(el, &Link::new().latency(ms(1)));
        near.write(b"on its way");
        near.wire.hold();
        el.close();
        near.write(b"nowhere");
        near.wire.release();
        near.close();
        far.abort();
        assert!(a.is_silent() && b.is_silent() && near.transport.protocol().is_none());
        assert!(memory_pair(el, &Link::new(), || Tap::new(&a), || Tap::new(&b)).is_err());
        let (mut stream, _other) = stream_pair(el, &Link::new().latency(ms(1)).lose_after(ms(5), ErrorKind::TimedOut));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let read = futures::io::AsyncRead::poll_read(std::pin::Pin::new(&mut stream), &mut cx, &mut [0; 4]);
        assert!(read.is_pending());
    });
}

/// KeepOpen and panics are those of other transports.
#[test]
fn a_panic_of_a_protocol_ends_the_connection() {
    on_loop(|el| {
        let (a, b) = (Record::new(), Record::new());
        let boom = |_: &Transport, _: &[u8]| std::panic::resume_unwind(Box::new("boom"));
        let (near, _far) =
            memory_pair(el, &Link::new(), || Tap::new(&a), || Tap::new(&b).on_data(boom).on_eof(|_| KeepOpen::Yes))
                .unwrap();
        near.write(b"x");
        run_until(el, || a.is_lost() && b.is_lost());
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("protocol.data_received() call failed"), "{reports:?}");
    });
}

/// Two endpoints whose protocols write down what they hear.
fn endpoints(el: &EventLoop, link: &DatagramLink) -> [(DatagramHandle, Log); 2] {
    let (a, b) = (Log::new(), Log::new());
    let ((near, _), (far, _)) = datagram_pair(el, link, || Recorder::new(&a), || Recorder::new(&b)).unwrap();
    settle(el);
    assert_eq!((a.take(), b.take()), (vec!["made".into()], vec!["made".into()]));
    [(near, a), (far, b)]
}

#[test]
fn datagrams_keep_their_boundaries_and_endpoints_hear_of_their_end() {
    on_loop(|el| {
        let [(near, a), (far, b)] = endpoints(el, &DatagramLink::new());
        near.sendto(b"one", None);
        near.sendto(b"", far.extra_info().local_addr.map(Address::from).as_ref());
        assert_eq!(b.len(), 0, "no method calls a protocol");
        settle(el);
        assert_eq!(b.take(), ["datagram \"one\"", "datagram \"\""]);
        near.sendto(b"lost", Some(&Address::from(([127, 0, 0, 1], 1))));
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("127.0.0.1:1 is not the address of the peer"), "{reports:?}");
        complete(el, near.ready()).unwrap();
        assert!(near.set_write_buffer_limits(1, 2).is_err() && near.write_buffer_size() == 0);

        near.close();
        assert!(near.is_closing() && a.len() == 0);
        far.sendto(b"anybody?", None);
        settle(el);
        assert_eq!(a.take(), ["lost"]);
        assert_eq!(b.take(), ["error the other endpoint in memory is gone"]);
        assert!(near.protocol().is_none() && complete(el, near.ready()).is_err());
        near.sendto(b"nowhere", None);
        far.set_protocol(Recorder::new(&a).then("lost", |_, _, _| std::panic::resume_unwind(Box::new("boom"))));
        far.abort();
        far.close();
        settle(el);
        assert_eq!(a.take(), ["lost"]);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("Exception in callback connection_lost"), "{reports:?}");
    });
}

#[test]
fn a_bad_network_loses_duplicates_and_reorders_datagrams_by_its_seed() {
    on_manual_clock(|el, clock| {
        let arrived = |link: &DatagramLink| {
            let [(near, _), (far, b)] = endpoints(el, link);
            for n in 0..200 {
                near.sendto(format!("{n:03}").as_bytes(), None);
            }
            let_time_pass(el, clock, Duration::from_secs(1));
            near.abort();
            far.abort();
            settle(el);
            let mut heard = b.take();
            assert_eq!(heard.pop().as_deref(), Some("lost"));
            heard
        };
        let all = arrived(&DatagramLink::new().latency(ms(10)));
        assert!(all.len() == 200 && all.is_sorted());
        let lossy = DatagramLink::new().drop_one_in(4).seed(1);
        let left = arrived(&lossy);
        assert!((120..180).contains(&left.len()) && left.is_sorted(), "{}", left.len());
        assert_eq!(left, arrived(&lossy), "the same seed gives the same run");
        assert_ne!(left, arrived(&lossy.clone().seed(2)));
        let mut more = arrived(&DatagramLink::new().duplicate_one_in(4).seed(1));
        assert!((220..280).contains(&more.len()) && more.is_sorted(), "{}", more.len());
        more.dedup();
        assert_eq!(more, all);
        let mut mixed = arrived(&DatagramLink::new().jitter(ms(50)).seed(1));
        assert!(!mixed.is_sorted());
        mixed.sort();
        assert_eq!(mixed, all);
    });
}

#[test]
fn endpoints_in_memory_end_with_their_loop() {
    on_loop(|el| {
        let [(near, a), (far, b)] = endpoints(el, &DatagramLink::new().latency(ms(1)));
        near.sendto(b"on its way", None);
        el.close();
        near.sendto(b"nowhere", None);
        far.close();
        assert!(near.protocol().is_none() && a.len() == 0 && b.len() == 0);
        assert!(datagram_pair(el, &DatagramLink::new(), || Recorder::new(&a), || Recorder::new(&b)).is_err());
    });
    // The end of `block_on` closes them.
    let _alone = common::alone();
    let (a, b) = (Log::new(), Log::new());
    roundelay::block_on(async {
        let el = roundelay::get_running_loop().unwrap();
        datagram_pair(&el, &DatagramLink::new(), || Recorder::new(&a), || Recorder::new(&b)).unwrap();
    });
    assert_eq!((a.take(), b.take()), (vec!["made".into(), "lost".into()], vec!["made".into(), "lost".into()]));
}

/// In virtual time a slow link costs nothing, and what a timeout is for is tried at once: nothing on a link in memory is
/// outstanding, but its timers.
#[test]
fn a_link_goes_by_virtual_time() {
    const HOUR: Duration = Duration::from_secs(3600);
    let _alone = common::alone();
    roundelay::testing::block_on(async {
        let el = roundelay::get_running_loop().unwrap();
        let (near, far) = stream_pair(&el, &Link::new().latency(HOUR).silence_after_bytes(6));
        let (mut reader, mut writer) = near.into_stream().unwrap();
        let (mut peer_reader, mut peer_writer) = far.into_stream().unwrap();
        let began = el.time();
        writer.write(b"hello\n");
        assert_eq!(peer_reader.readline().await.unwrap(), b"hello\n");
        assert_eq!(el.time() - began, HOUR);
        peer_writer.write(b"nobody hears this\n");
        assert!(roundelay::timeout(100 * HOUR, reader.readline()).await.is_err());
        assert_eq!(el.time() - began, 101 * HOUR);
        writer.transport().abort();
        peer_writer.transport().abort();
    });
}
