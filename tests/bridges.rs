//! Bridges on a connection that stands: from protocols to streams, from streams to protocols, and protocols that begin
//! behind others.

#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/own_transport.rs"]
mod own_transport;
mod wire;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use collector::collect;
use common::{Kind, complete, run_until, settle, take_reports};
use own_transport::Own;
use roundelay::{
    Buffered, BufferedProtocol, EventLoop, KeepOpen, StreamReader, StreamWriter, Transport, UnrelatedHalves,
};
use wire::{
    NETS, Net, Peer, Record, Tap, assert_sleeps, attach, connect, connect_narrow, finish, pattern, sockets, until_lost,
};

type Halves = (StreamReader, StreamWriter);

/// Where a callback puts what a test goes on with.
type Place<T> = Rc<RefCell<Option<T>>>;

/// A stream that was made of a protocol, and its peer.
fn stream(el: &EventLoop, net: Net, record: &Record) -> (Halves, Peer) {
    let (transport, peer) = connect(el, net, Tap::half_open(record));
    let halves = complete(el, async { transport.into_stream().unwrap() });
    (halves, peer)
}

/// Waits until a reader has so many bytes, or its end.
fn until_buffered(el: &EventLoop, reader: &StreamReader, text: &str) {
    run_until(el, || format!("{reader:?}").contains(text));
}

on_every_loop! {
    /// From within a callback: what was given back comes first, whether before or after the call, then what arrives; and the
    /// protocol hears nothing more and is let go of.
    fn protocol_to_stream_within_a_callback(el) {
        for net in NETS {
            for unread_first in [true, false] {
                let (record, dropped) = (Record::new(), common::DropCounter::new());
                let place: Place<Halves> = Rc::default();
                let (halves, guard) = (place.clone(), dropped.guard());
                let tap = Tap::new(&record).on_drop(move || drop(guard)).on_data(move |transport, data| {
                    if unread_first {
                        transport.unread(&data[4..]);
                    }
                    *halves.borrow_mut() = Some(transport.clone().into_stream().unwrap());
                    if !unread_first {
                        transport.unread(&data[4..]);
                    }
                });
                let (near, far) = sockets(net);
                let peer = Peer::new(far);
                let (transport, protocol) = attach(el, near, tap);
                drop(protocol);
                peer.send(b"HEADfirst ");
                run_until(el, || place.borrow().is_some());
                peer.send(b"second");
                let (mut reader, mut writer) = place.take().unwrap();
                let bytes = complete(el, reader.readexactly(12)).unwrap();
                assert_eq!(bytes, b"first second");
                assert_eq!(record.take(), ["made", "data 10"]);
                assert_eq!(dropped.count(), 1);
                writer.write(b"answer");
                run_until(el, || peer.count() == 6);
                peer.close();
                assert_eq!(complete(el, reader.read(1)).unwrap(), b"");
                writer.close();
                complete(el, writer.wait_closed()).unwrap();
                assert!(transport.protocol().is_none() && record.is_silent());
            }
        }
    }

    /// A protocol that leaves everything to another one when it begins, on a connection that it ends: that one begins before it
    /// gets what was given back and hears of the end.
    fn a_protocol_that_begins_by_leaving(el) {
        for end in [Transport::close, Transport::abort] {
            for gone in [false, true] {
                let (first, second) = (Record::new(), Record::new());
                let ((reader, writer), peer) = stream(el, Net::Tcp, &Record::new());
                peer.send(b"read ahead");
                until_buffered(el, &reader, "10 bytes");
                let next = second.clone();
                let leave = Tap::new(&first).on_made(move |transport| {
                    transport.start_protocol(Tap::new(&next));
                    end(transport);
                });
                let (transport, _) = writer.into_protocol(reader, || leave).unwrap();
                if gone {
                    // So the first one begins when the connection is about to be lost.
                    transport.abort();
                }
                until_lost(el, &second);
                settle(el);
                assert_eq!(first.take(), ["made"]);
                assert_eq!(second.take(), ["made", "data 10", "lost"], "{gone}");
                assert!(transport.protocol().is_none());
            }
        }
    }

    /// A reading end is over when it is at its end: who begins then gets what was given back, and hears of the end.
    fn a_protocol_begins_on_a_reading_end_at_its_end(el) {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (first, second) = (Record::new(), Record::new());
        let next = second.clone();
        let leave = move |transport: &Transport| {
            transport.start_protocol(Tap::new(&next));
            KeepOpen::Yes
        };
        let tap = Tap::new(&first).on_data(|transport, data| transport.unread(&data[3..])).on_eof(leave);
        complete(el, el.connect_read_pipe(|| tap, reader)).unwrap();
        io::Write::write_all(&mut writer, b"abcdef").unwrap();
        settle(el);
        drop(writer);
        until_lost(el, &second);
        assert_eq!(first.take(), ["made", "data 6", "eof"]);
        assert_eq!(second.take(), ["made", "data 3", "lost"]);
    }

    /// A writing end has its reader watched for every protocol that begins on it.
    fn a_protocol_begins_on_a_writing_end(el) {
        let (near, far) = sockets(Net::Unix);
        let peer = Peer::new(far);
        let (first, second) = (Record::new(), Record::new());
        let tap = Tap::new(&first);
        let opened = el.connect_write_pipe(|| tap, std::os::fd::OwnedFd::from(near));
        let (transport, _) = complete(el, opened).unwrap();
        transport.start_protocol(Tap::new(&second));
        run_until(el, || second.has("made"));
        assert_sleeps(el);
        peer.send_eof();
        until_lost(el, &second);
        assert_eq!((first.take(), second.take()), (vec!["made".to_owned()], strings(&["made", "lost"])));
        assert_eq!(complete(el, transport.ready()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// The two ends of a pipe as streams, of which one half is of use.
    fn the_ends_of_a_pipe_to_streams(el) {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (read, _) = complete(el, el.connect_read_pipe(Tap::default, reader)).unwrap();
        let (write, _) = complete(el, el.connect_write_pipe(Tap::default, writer)).unwrap();
        let (mut reader, _read) = complete(el, async { read.into_stream().unwrap() });
        let (mut nothing, mut writer) = complete(el, async { write.into_stream().unwrap() });
        writer.write(b"through ");
        complete(el, writer.drain()).unwrap();
        assert_eq!(complete(el, reader.readexactly(8)).unwrap(), b"through ");
        writer.write(b"and through");
        writer.write_eof();
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"and through");
        assert_eq!(complete(el, nothing.read(1)).unwrap(), b"");
        complete(el, writer.wait_closed()).unwrap();
    }

    /// A protocol that has paused reading hands over what waits in the kernel: the reader sees to reading from now on.
    fn a_paused_protocol_to_stream(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.pause_reading();
            peer.send(b"waits");
            peer.send_eof();
            settle(el);
            assert_eq!(record.take(), ["made"]);
            let (mut reader, mut writer) = complete(el, async { transport.into_stream().unwrap() });
            assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"waits");
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
            assert!(record.is_silent());
        }
    }

    /// A transport of the application's that delivers as soon as it is told to read on, within the call: whether the
    /// reader has read, waits for more than its limit, becomes a protocol or is dropped.
    fn a_transport_that_delivers_at_once(el) {
        let begin = || {
            let (transport, peer) = connect(el, Net::Tcp, Tap::new(&Record::new()));
            let at_once = Rc::default();
            let own = Own::delivering(&transport, &at_once);
            let halves = complete(el, async { own.into_stream_with_limit(4).unwrap() });
            peer.send(b"more than twice the limit, ");
            run_until(el, || !transport.is_reading());
            at_once.borrow_mut().extend_from_slice(b"at once");
            (transport, peer, halves)
        };
        let (_, _peer, (mut reader, mut writer)) = begin();
        assert_eq!(complete(el, reader.read(100)).unwrap(), b"more than twice the limit, ");
        assert_eq!(complete(el, reader.read(100)).unwrap(), b"at once");
        writer.close();

        let (_, _peer, (mut reader, mut writer)) = begin();
        assert_eq!(complete(el, reader.readexactly(34)).unwrap(), b"more than twice the limit, at once");
        writer.close();

        let (transport, _peer, (reader, writer)) = begin();
        let record = Record::new();
        let (own, _) = writer.into_protocol(reader, || Tap::new(&record)).unwrap();
        settle(el);
        assert_eq!(record.take(), ["data 34"]);
        finish(el, &own, &record);
        assert!(transport.protocol().is_none());

        let (transport, peer, (reader, mut writer)) = begin();
        drop(reader);
        assert!(transport.is_reading());
        writer.close();
        run_until(el, || peer.at_eof());
    }

    /// An end of file that the protocol was told of is the reader's, too, behind what the protocol gave back.
    fn the_end_of_file_goes_with_the_connection(el) {
        for net in NETS {
            let record = Record::new();
            let tap = Tap::half_open(&record).on_data(|transport, data| transport.unread(data));
            let (transport, peer) = connect(el, net, tap);
            peer.send(b"half a line");
            peer.send_eof();
            run_until(el, || record.has("eof"));
            let (mut reader, mut writer) = complete(el, async { transport.into_stream().unwrap() });
            assert_eq!(complete(el, reader.readline()).unwrap(), b"half a line");
            assert!(reader.at_eof());
            writer.write(b"still here");
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
            assert_eq!(peer.received(), b"still here");
            assert_eq!(record.count("eof"), 1);
        }
    }

    /// What the protocol has queued is sent, and `drain` waits for it.
    fn what_is_queued_goes_with_the_connection(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(1_000_000);
            transport.write(&data);
            let (_reader, mut writer) = complete(el, async { transport.clone().into_stream().unwrap() });
            writer.write(b"!");
            let task = el.create_task(async move {
                writer.drain().await.unwrap();
                writer
            });
            settle(el);
            assert!(!task.is_done());
            run_until(el, || peer.count() == data.len() + 1);
            assert!(peer.received()[..data.len()] == data);
            let mut writer = complete(el, task).unwrap();
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
            assert!(!record.has("resume"), "the protocol was let go of");
        }
    }

    /// How the connection ends the stream is told; and dropping both halves closes it.
    fn the_end_is_the_streams(el) {
        let record = Record::new();
        let ((mut reader, writer), peer) = stream(el, Net::Tcp, &record);
        peer.reset();
        let error = complete(el, reader.read(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(complete(el, writer.wait_closed()).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        for net in NETS {
            let (halves, peer) = stream(el, net, &record);
            drop(halves);
            run_until(el, || peer.at_eof());
        }

        // Closed by this side already: there is nothing to read any more.
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&Record::new()));
        let (mut reader, writer) = complete(el, async {
            transport.close();
            transport.into_stream().unwrap()
        });
        assert_eq!(complete(el, reader.read(1)).unwrap(), b"");
        complete(el, writer.wait_closed()).unwrap();
    }

    /// No stream is made of a connection that is gone, nor with a limit of zero; another limit holds.
    fn what_no_stream_is_made_of(el) {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&record));
        let error = complete(el, async { transport.clone().into_stream_with_limit(0).unwrap_err() });
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "Transport::into_stream(): the limit must be above zero");
        assert!(!transport.is_closing());
        finish(el, &transport, &record);
        let error = complete(el, async { transport.into_stream().unwrap_err() });
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert_eq!(error.to_string(), "Transport::into_stream(): the connection is gone");

        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let (mut reader, writer) = complete(el, async { transport.into_stream_with_limit(4).unwrap() });
        assert_eq!(reader.limit(), 4);
        peer.send(b"too long\nok\n");
        assert!(complete(el, reader.readline()).is_err());
        assert_eq!(complete(el, reader.readline()).unwrap(), b"ok\n");
        drop((reader, writer));
        run_until(el, || peer.at_eof());
    }

    /// What was buffered and not read comes first, behind `connection_made`, then what arrives; then the protocol hears what
    /// any other does.
    fn stream_to_protocol(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let ((mut reader, mut writer), peer) = stream(el, net, &first);
            writer.write(b"hello ");
            peer.send(b"line\nrest");
            assert_eq!(complete(el, reader.readline()).unwrap(), b"line\n");
            let greeting = Tap::new(&second).on_made(|transport| transport.write(b"again"));
            let (transport, protocol) = writer.into_protocol(reader, || greeting).unwrap();
            assert!(second.is_silent(), "nothing is told inline");
            assert!(transport.protocol().unwrap().is_same(&protocol.into()));
            peer.send(b" and more");
            run_until(el, || second.len() == 13);
            assert_eq!(second.bytes(), b"rest and more");
            run_until(el, || peer.received() == b"hello again");
            peer.close();
            until_lost(el, &second);
            assert_eq!(second.take(), ["made", "data 13", "eof", "lost"]);
        }
    }

    /// Much that is buffered, so much that the reader had the transport paused, comes in full and in order.
    fn much_from_stream_to_protocol(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let ((reader, writer), peer) = stream(el, net, &first);
            let data = pattern(600_000);
            let mut sent = 0;
            let paused = |reader: &StreamReader| format!("{reader:?}").contains("paused");
            run_until(el, || {
                sent += peer.send_some(&data[sent..]);
                paused(&reader)
            });
            let (transport, _) = writer.into_protocol(reader, || Tap::new(&second)).unwrap();
            run_until(el, || {
                sent += peer.send_some(&data[sent..]);
                second.len() == data.len()
            });
            assert!(second.bytes() == data);
            finish(el, &transport, &second);
            assert_eq!(second.take(), ["made", "data 600000", "lost"]);
        }
    }

    /// An end of file that the reader has seen is told, behind what was not read; the protocol decides about what follows.
    fn the_end_of_file_goes_to_the_protocol(el) {
        for net in NETS {
            for keep_open in [KeepOpen::No, KeepOpen::Yes] {
                let (first, second) = (Record::new(), Record::new());
                let ((reader, writer), peer) = stream(el, net, &first);
                peer.send(b"last words");
                peer.send_eof();
                until_buffered(el, &reader, "10 bytes eof");
                let tap = Tap::new(&second).on_eof(move |_| keep_open);
                let (transport, _) = writer.into_protocol(reader, || tap).unwrap();
                run_until(el, || second.has("eof"));
                settle(el);
                assert_eq!(transport.is_closing(), keep_open == KeepOpen::No);
                if keep_open == KeepOpen::Yes {
                    transport.write(b"answer");
                    transport.close();
                    until_lost(el, &second);
                    assert_eq!(peer.received(), b"answer");
                }
                assert_eq!(second.take(), ["made", "data 10", "eof", "lost"]);
            }
        }
    }

    /// A connection that is lost, or about to be: the protocol hears of its beginning and of its end, and why.
    fn a_lost_connection_goes_to_the_protocol(el) {
        // Gone by an error.
        let (first, second) = (Record::new(), Record::new());
        let ((reader, writer), peer) = stream(el, Net::Tcp, &first);
        peer.reset();
        complete(el, writer.wait_closed()).unwrap_err();
        let (transport, _) = writer.into_protocol(reader, || Tap::new(&second)).unwrap();
        assert!(second.is_silent() && transport.protocol().is_none());
        until_lost(el, &second);
        assert_eq!(second.take(), ["made", "lost ConnectionReset"]);

        for net in NETS {
            // About to be, with bytes that were not read.
            let ((reader, mut writer), peer) = stream(el, net, &first);
            peer.send(b"unread");
            until_buffered(el, &reader, "6 bytes");
            writer.close();
            let second = Record::new();
            writer.into_protocol(reader, || Tap::new(&second)).unwrap();
            until_lost(el, &second);
            assert_eq!(second.take(), ["made", "data 6", "lost"]);

            // The same, gone.
            let ((reader, mut writer), peer) = stream(el, net, &first);
            peer.send(b"unread");
            until_buffered(el, &reader, "6 bytes");
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
            let second = Record::new();
            writer.into_protocol(reader, || Tap::new(&second)).unwrap();
            until_lost(el, &second);
            assert_eq!(second.take(), ["made", "data 6", "lost"]);
        }
    }

    /// A full queue is told behind `connection_made`, and again when it is empty.
    fn flow_control_goes_to_the_protocol(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let (transport, peer) = connect_narrow(el, net, Tap::new(&first));
            let (reader, mut writer) = complete(el, async { transport.into_stream().unwrap() });
            let data = pattern(1_000_000);
            writer.write(&data);
            let (transport, _) = writer.into_protocol(reader, || Tap::new(&second)).unwrap();
            run_until(el, || second.has("pause"));
            assert_eq!(second.take(), ["made", "pause"]);
            run_until(el, || peer.count() == data.len());
            assert!(peer.received() == data);
            assert_eq!(second.take(), ["resume"]);
            finish(el, &transport, &second);
        }
    }

    /// Halves of two connections are given back, and go on as they were; so does a reader that is fed by hand.
    fn unrelated_halves_come_back(el) {
        let record = Record::new();
        let ((reader_a, writer_a), peer_a) = stream(el, Net::Tcp, &record);
        let ((mut reader_b, mut writer_b), peer_b) = stream(el, Net::Tcp, &record);
        peer_a.send(b"a");
        let made = || -> Tap { panic!("no protocol is made") };
        let error = writer_b.into_protocol(reader_a, made).unwrap_err();
        assert_eq!(
            error.to_string(),
            "StreamWriter::into_protocol(): the reader is not of the writer's connection"
        );
        let UnrelatedHalves { mut reader, writer, .. } = error;
        writer_b = writer;
        assert_eq!(complete(el, reader.read(1)).unwrap(), b"a");
        let error = writer_b.into_protocol(StreamReader::new(10), made).unwrap_err();
        writer_b = error.writer;
        writer_b.write(b"b");
        run_until(el, || peer_b.received() == b"b");
        peer_b.close();
        assert_eq!(complete(el, reader_b.read(1)).unwrap(), b"");
        let second = Record::new();
        let (transport, _) = writer_a.into_protocol(reader, || Tap::new(&second)).unwrap();
        finish(el, &transport, &second);
        drop((reader_b, writer_b));
    }

    /// There and back again, within callbacks and without: nothing is lost, doubled or nested.
    fn there_and_back_again(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let data = pattern(300_000);
            let ((mut reader, mut writer), peer) = stream(el, net, &first);
            let (mut sent, mut got) = (0, Vec::new());
            for round in 0..6 {
                let place: Place<Halves> = Rc::default();
                let halves = place.clone();
                sent += peer.send_some(&data[sent..][..1000]);
                got.extend(complete(el, reader.read(500)).unwrap());
                let tap = Tap::new(&second).on_data(move |transport, data| {
                    transport.unread(&data[1..]);
                    *halves.borrow_mut() = Some(transport.clone().into_stream().unwrap());
                });
                writer.into_protocol(reader, || tap).unwrap();
                sent += peer.send_some(&data[sent..][..100]);
                run_until(el, || place.borrow().is_some());
                got.push(data[got.len()]);
                (reader, writer) = place.take().unwrap();
                assert_eq!(second.count("made"), round + 1);
            }
            peer.send_eof();
            got.extend(complete(el, reader.read_to_end()).unwrap());
            assert!(got == data[..sent], "{net:?}: {} of {sent} bytes", got.len());
            assert!(!second.has("NESTED"));
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
        }
    }

    /// A protocol that begins behind another one hears `connection_made` before all else, and an end of file that the other
    /// one was told of; from within any callback.
    fn a_protocol_that_begins_behind_another(el) {
        for net in NETS {
            for when in ["made", "data", "eof"] {
                let (first, second) = (Record::new(), Record::new());
                let mut next = Some(Tap::new(&second));
                let start = Rc::new(RefCell::new(move |transport: &Transport| {
                    if let Some(next) = next.take() {
                        transport.start_protocol(next);
                    }
                }));
                let (in_made, in_data, in_eof) = (start.clone(), start.clone(), start);
                let tap = Tap::new(&first)
                    .on_made(move |transport| if when == "made" { in_made.borrow_mut()(transport) })
                    .on_data(move |transport, data| {
                        if when == "data" {
                            transport.unread(&data[2..]);
                            in_data.borrow_mut()(transport);
                        }
                    })
                    .on_eof(move |transport| {
                        if when == "eof" {
                            in_eof.borrow_mut()(transport);
                        }
                        KeepOpen::Yes
                    });
                let (transport, peer) = connect(el, net, tap);
                peer.send(b"bytes");
                peer.send_eof();
                until_lost(el, &second);
                let (first, second) = (first.take(), second.take());
                match when {
                    "made" => assert_eq!((first, second), (vec!["made".into()], strings(&["made", "data 5", "eof", "lost"]))),
                    "data" => assert_eq!(
                        (first, second),
                        (strings(&["made", "data 5"]), strings(&["made", "data 3", "eof", "lost"]))
                    ),
                    _ => assert_eq!(
                        (first, second),
                        (strings(&["made", "data 5", "eof"]), strings(&["made", "eof", "lost"]))
                    ),
                }
                // Nobody hears of it any more.
                let third = Record::new();
                transport.start_protocol(Tap::new(&third));
                settle(el);
                assert!(third.is_silent());
            }
        }
    }

    /// A buffered protocol gets what was not read, too, in pieces that fit.
    fn a_buffered_protocol_gets_it_first(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let ((reader, writer), peer) = stream(el, net, &first);
            peer.send(b"0123456789");
            until_buffered(el, &reader, "10 bytes");
            let small = Small { record: second.clone(), buffer: [0; 4] };
            writer.into_protocol(reader, || Buffered(small)).unwrap();
            peer.send(b"ab");
            peer.close();
            run_until(el, || second.has("lost"));
            let heard = second.take();
            assert_eq!(heard[0], "made");
            assert_eq!(heard[heard.len() - 1], "lost");
            assert_eq!(heard[1..heard.len() - 1].concat(), "0123456789ab");
        }
    }

    /// A handler of a server of streams goes on with a protocol, and its end ends nothing.
    fn within_a_servers_handler(el) {
        let record = Record::new();
        let server = complete(el, async {
            let record = record.clone();
            roundelay::start_server(
                async move |mut reader, writer| {
                    reader.readline().await?;
                    writer.into_protocol(reader, || Tap::new(&record)).unwrap();
                    io::Result::Ok(())
                },
                ("127.0.0.1", 0),
            )
            .await
        })
        .unwrap();
        let stream = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
        let peer = Peer::new(stream.into());
        peer.send(b"UPGRADE\nnow");
        run_until(el, || record.len() == 3);
        settle(el);
        assert_eq!(server.connections(), 1);
        peer.close();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 3", "eof", "lost"]);
        server.close();
        complete(el, server.wait_closed());
    }

    /// A panic of the protocol's is reported as ever, also on a connection that is gone.
    fn a_panic_is_reported(el) {
        let (first, second) = (Record::new(), Record::new());
        let ((reader, mut writer), _peer) = stream(el, Net::Tcp, &first);
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
        let tap = Tap::new(&second).on_made(|_| panic!("no way"));
        writer.into_protocol(reader, || tap).unwrap();
        until_lost(el, &second);
        assert_eq!(second.take(), ["made", "lost"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("no way"), "{}", reports[0]);
    }
}

fn strings(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.into()).collect()
}

struct Small {
    record: Record,
    buffer: [u8; 4],
}

impl BufferedProtocol for Small {
    fn connection_made(&mut self, _: &Transport) {
        self.record.note("made");
    }
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }
    fn buffer_updated(&mut self, _: &Transport, n: usize) {
        self.record.note(String::from_utf8_lossy(&self.buffer[..n]));
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.record.note("lost");
    }
}

/// Halves that became a protocol are used, not dropped: nothing is warned of.
#[test]
fn no_warning_of_halves_that_became_a_protocol() {
    let ((), warnings) = collect(|| {
        common::run(Kind::Epoll, true, |el| {
            let (first, second) = (Record::new(), Record::new());
            let ((reader, writer), _peer) = stream(el, Net::Tcp, &first);
            let (transport, _) = writer.into_protocol(reader, || Tap::new(&second)).unwrap();
            settle(el);
            assert_eq!(second.take(), ["made"]);
            finish(el, &transport, &second);
        });
    });
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// A protocol that was to begin is let go of in silence where the loop is closed; and halves of a closed loop make one
/// that nobody calls.
#[test]
fn a_closed_loop_tells_nothing() {
    common::on_loop(|el| {
        let (first, second) = (Record::new(), Record::new());
        let ((reader, writer), _peer) = stream(el, Net::Tcp, &first);
        let (halves, _other) = stream(el, Net::Tcp, &first);
        writer.into_protocol(reader, || Tap::new(&second)).unwrap();
        el.close();
        let (reader, writer) = halves;
        writer.into_protocol(reader, || Tap::new(&second)).unwrap();
        assert!(second.is_silent());
    });
}

/// Outside of a loop the method is named.
#[test]
fn into_stream_needs_a_loop() {
    common::on_loop(|el| {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&record));
        let outside = transport.clone();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(outside.into_stream()))).unwrap_err();
        assert_eq!(
            *panic.downcast::<String>().unwrap(),
            "roundelay::Transport::into_stream() was called outside of a running event loop"
        );
        finish(el, &transport, &record);
    });
}
