//! How the ends of pipes end by themselves: readers that go away, FIFOs whose writers come and go, errors (behaviours PI).

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/tcp.rs"]
mod tcp;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use collector::collect;
use common::{Kind, complete, on_manual_clock, run_until, settle, take_reports};
use pipes::{Recorder, fill, make_fifo, open_now, pipe, read_pipe, until_gone, write_pipe};
use roundelay::{KeepOpen, Protocol, Transport, open_write_pipe};
use rustix::fs::OFlags;
use tracing::Level;

/// Checks that a transport in peace does not keep the loop awake.
#[track_caller]
fn assert_asleep(el: &roundelay::EventLoop) {
    settle(el);
    let turns = el.stats().turns;
    settle(el);
    assert_eq!(el.stats().turns, turns + 1, "something is reported again and again");
}

on_every_loop! {
    /// PI-03: a writing end hears that its reader went away though it writes nothing: without an error, for nothing is lost.
    fn the_reader_goes_away(el) {
        let (reader, writer) = pipe();
        let (transport, heard) = write_pipe(el, writer);
        transport.write(b"into the pipe");
        assert_asleep(el);
        drop(reader);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
        assert_eq!(complete(el, transport.ready()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    /// PI-03, PI-12: with something queued it is a broken pipe. It comes though flow control has paused the protocol.
    fn the_reader_goes_away_from_a_full_pipe(el) {
        let (reader, mut writer) = pipe();
        fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        transport.write(&[b'x'; 100_000]);
        assert_asleep(el);
        assert_eq!(heard.log.take(), ["made", "pause"]);
        drop(reader);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["lost BrokenPipe"]);
    }

    /// PI-03: so it is while a closed transport writes what is queued.
    fn the_reader_goes_away_during_the_flush(el) {
        let (reader, mut writer) = pipe();
        fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        transport.write(b"never");
        transport.close();
        assert_asleep(el);
        drop(reader);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost BrokenPipe"]);
    }

    /// PI-03: a reader that is gone before the connection is made is noticed after it was.
    fn a_reader_that_was_never_there(el) {
        let (reader, writer) = pipe();
        drop(reader);
        let (transport, heard) = write_pipe(el, writer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
    }

    /// PI-08: a write that fails ends the connection with its error, and what is written afterwards is dropped.
    fn a_write_that_fails(el) {
        let (reader, writer) = pipe();
        let (transport, heard) = write_pipe(el, writer);
        drop(reader);
        transport.write(b"x");
        transport.write(b"y");
        assert!(transport.is_closing());
        until_gone(el, &transport);
        transport.write(b"z");
        assert_eq!(heard.log.take(), ["made", "lost BrokenPipe"]);
    }

    /// PI-03: what the peer of a socket sends is not for a writing end: it wakes it once at most, stays in the socket, and is
    /// not taken for an end. That comes when the peer hangs up.
    fn the_peer_of_a_socket_sends_and_hangs_up(el) {
        let (own, mut peer) = UnixStream::pair().unwrap();
        let mut twin = own.try_clone().unwrap();
        let (transport, heard) = write_pipe(el, own);
        peer.write_all(b"for somebody else").unwrap();
        assert_asleep(el);
        assert_eq!(heard.log.take(), ["made"]);
        transport.write(b"question");
        let mut bytes = [0; 8];
        peer.read_exact(&mut bytes).unwrap();
        drop(peer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["lost"]);
        let mut bytes = String::new();
        twin.read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, "for somebody else");
    }

    /// PI-03: a peer that will send no more is noticed at once where it has sent nothing.
    fn the_peer_of_a_socket_ends_its_side(el) {
        let (own, peer) = UnixStream::pair().unwrap();
        let (transport, heard) = write_pipe(el, own);
        assert_asleep(el);
        peer.shutdown(Shutdown::Write).unwrap();
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
    }

    /// A FIFO without a writer is not at its end; one that its last writer has left is, when all was read.
    fn writers_of_a_fifo_come_and_go(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        make_fifo(&path);
        let (transport, heard) = read_pipe(el, open_now(&path, OFlags::RDONLY));
        assert_asleep(el);
        assert_eq!(heard.log.take(), ["made"]);
        let mut first = open_now(&path, OFlags::WRONLY);
        let second = open_now(&path, OFlags::WRONLY);
        first.write_all(b"first").unwrap();
        drop(first);
        run_until(el, || heard.log.len() == 1);
        assert_asleep(el);
        assert_eq!((heard.log.take(), heard.bytes()), (vec!["data".to_owned()], b"first".to_vec()));
        drop(second);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["eof closing", "lost"]);
    }

    /// A reading end that can be written to as well has no end, whoever comes and goes.
    fn a_fifo_that_is_open_both_ways(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        make_fifo(&path);
        let (transport, heard) = read_pipe(el, open_now(&path, OFlags::RDWR));
        for text in ["one", "two"] {
            open_now(&path, OFlags::WRONLY).write_all(text.as_bytes()).unwrap();
            run_until(el, || heard.log.len() > 0);
            assert_asleep(el);
            assert_eq!(heard.bytes(), text.as_bytes());
            heard.log.take();
        }
        // Such a writing end has a reader: itself.
        let (writing, also_heard) = write_pipe(el, open_now(&path, OFlags::RDWR));
        writing.write(b"three");
        run_until(el, || heard.bytes() == b"three");
        transport.close();
        until_gone(el, &transport);
        writing.write(b"four");
        assert_asleep(el);
        assert_eq!(also_heard.log.take(), ["made"]);
        writing.close();
        until_gone(el, &writing);
    }

    /// PI-14, EH-10: a read that fails is reported, and ends the connection with its error.
    fn a_read_that_fails(el) {
        let (own, peer) = tcp::plain_pair();
        let (transport, heard) = read_pipe(el, own);
        tcp::reset(peer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost ConnectionReset"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].starts_with("Fatal read error on pipe transport"), "{reports:#?}");
    }

    /// EH-09: a write that fails is not reported.
    fn a_write_that_fails_is_not_reported(el) {
        let (own, peer) = tcp::plain_pair();
        let (transport, heard) = write_pipe(el, own);
        tcp::reset(peer);
        run_until(el, || {
            transport.write(b"x");
            transport.is_closing()
        });
        until_gone(el, &transport);
        assert_eq!(heard.log.take().len(), 2);
    }

    /// PI-01: a panic at the end of file is reported, and the loss comes as it would have.
    fn a_panic_at_the_end_of_file(el) {
        struct Fails(Recorder);
        impl Protocol for Fails {
            fn eof_received(&mut self, _: &Transport) -> KeepOpen {
                panic!("on purpose")
            }
            fn connection_lost(&mut self, transport: &Transport, error: Option<std::io::Error>) {
                self.0.connection_lost(transport, error);
            }
        }
        let (reader, writer) = pipe();
        let heard = Recorder::default();
        let given = heard.clone();
        let (transport, _) = complete(el, el.connect_read_pipe(|| Fails(given), reader)).unwrap();
        drop(writer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["lost"]);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].starts_with("Fatal error: protocol.eof_received() call failed."));
    }

    /// `drain` of a stream says that nobody reads any more.
    fn draining_into_a_broken_pipe(el) {
        let (reader, writer) = pipe();
        complete(el, async {
            let mut writer = open_write_pipe(writer).await.unwrap();
            drop(reader);
            let error = loop {
                writer.write(b"x");
                if let Err(error) = writer.drain().await {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    }
}

/// PI-03: where the selector has edges, a peer that will send no more is noticed behind what it has sent, too.
#[test]
fn the_peer_of_a_socket_sends_and_ends_its_side() {
    for kind in [Kind::Epoll, Kind::Polling] {
        common::run(kind, false, |el| {
            let (own, mut peer) = UnixStream::pair().unwrap();
            let (transport, heard) = write_pipe(el, own);
            peer.write_all(b"for somebody else").unwrap();
            assert_asleep(el);
            assert_eq!(heard.log.take(), ["made"]);
            peer.shutdown(Shutdown::Write).unwrap();
            until_gone(el, &transport);
            assert_eq!(heard.log.take(), ["lost"]);
        });
    }
}

/// PI-08: the sixth write to a pipe that is gone, and each after it, leaves a warning.
#[test]
fn writes_to_a_pipe_that_is_gone_are_warned_of() {
    common::on_loop(|el| {
        let (reader, writer) = pipe();
        let (transport, _) = write_pipe(el, writer);
        drop(reader);
        until_gone(el, &transport);
        let ((), written) = collect(|| (0..6).for_each(|_| transport.write(b"x")));
        let warnings = written.iter().filter(|(level, _)| *level == Level::WARN).count();
        assert_eq!(warnings, 2, "{written:?}");
    });
}

/// PI-12: no timer is needed for any of that.
#[test]
fn the_reader_goes_away_while_the_clock_stands_still() {
    on_manual_clock(|el, _| {
        let (reader, mut writer) = pipe();
        fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        transport.write(&[b'x'; 100_000]);
        let thread = std::thread::spawn(move || drop(reader));
        until_gone(el, &transport);
        thread.join().unwrap();
        assert_eq!(heard.log.take().last().unwrap(), "lost BrokenPipe");
    });
}

/// RW-01: pipes that are open when their loop is closed are warned of in debug mode, once each, and closed.
#[test]
fn unclosed_pipes() {
    let _alone = common::alone();
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        let before = common::open_descriptors();
        let ((), written) = collect(|| {
            let el = kind.builder().debug(true).build().unwrap();
            let ((reader, _far_writer), (_far_reader, writer)) = (pipe(), pipe());
            read_pipe(&el, reader);
            write_pipe(&el, writer);
            el.close();
        });
        assert_eq!(common::open_descriptors(), before);
        let warnings: Vec<&String> =
            written.iter().filter(|(level, _)| *level == Level::WARN).map(|(_, text)| text).collect();
        assert_eq!(warnings.len(), 2, "{warnings:#?}");
        assert!(warnings[0].starts_with("resource warning: unclosed transport <Transport "), "{warnings:#?}");
        assert!(warnings[0].contains(" read=polling>\n") && warnings[1].contains(" write=<idle, bufsize=0>>\n"));
    }
}

/// What is queued is written when `block_on` ends, and a reading end does not hold it.
#[test]
fn the_end_of_a_program() {
    let _alone = common::alone();
    let ((mut far_reader, writer), (reader, _far_writer)) = (pipe(), pipe());
    roundelay::block_on(async {
        let el = roundelay::get_running_loop().unwrap();
        let (transport, _) = el.connect_write_pipe(Recorder::default, writer).await.unwrap();
        transport.write(&[b'x'; 1000]);
        el.connect_read_pipe(Recorder::default, reader).await.unwrap();
    });
    let mut bytes = Vec::new();
    far_reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [b'x'; 1000]);
}
