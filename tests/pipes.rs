//! Reading ends and writing ends of pipes as transports (behaviours PI). How they end by themselves stands in
//! `pipes_ends.rs`, terminals and other devices in `pipes_devices.rs`.

mod common;

#[path = "common/pipes.rs"]
mod pipes;

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use common::{complete, poll_times, run_until, settle, take_reports};
use pipes::{
    Recorder, fill, is_nonblocking, packet_pipe, pipe, read_pipe, receive, set_nonblocking, until_gone, write_pipe,
};
use roundelay::{Buffered, BufferedProtocol, Protocol, Transport, open_read_pipe, open_write_pipe};

struct Idle;

impl Protocol for Idle {}

on_every_loop! {
    /// PI-01, LU-10: the connection is made before it is returned, data comes, and when the writer closes, the end of file
    /// and then the loss, though the protocol would keep the connection open. Nothing spins.
    fn a_reading_end(el) {
        let (reader, mut writer) = pipe();
        let (transport, heard) = read_pipe(el, reader);
        assert_eq!(heard.log.take(), ["made"]);
        assert!(transport.is_reading() && !transport.can_write_eof());
        assert!(transport.extra_info().socket.is_none());
        let view = transport.extra_info().pipe.unwrap();
        assert_eq!(view.with(|fd| is_nonblocking(fd)), Some(true));
        assert!(format!("{transport:?} {view:?}").contains(&format!("fd={}", view.raw_fd().unwrap())));
        writer.write_all(b"one").unwrap();
        run_until(el, || heard.log.len() == 1);
        writer.write_all(b" two").unwrap();
        drop(writer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["data", "eof closing", "lost"]);
        assert_eq!(heard.bytes(), b"one two");
        let turns = el.stats().turns;
        settle(el);
        assert!(el.stats().turns - turns < 3);
        assert_eq!((view.raw_fd(), view.with(|_| ())), (None, None));
        assert_eq!(format!("{view:?}"), "<pipe closed>");
    }

    /// PI-02: what is written arrives, and `close` gives `connection_lost(None)`.
    fn a_writing_end(el) {
        let (mut reader, writer) = pipe();
        let (transport, heard) = write_pipe(el, writer);
        assert!(transport.can_write_eof() && !transport.is_reading());
        assert!(transport.extra_info().pipe.is_some());
        transport.write(b"one");
        transport.writelines(&[IoSlice::new(b" two"), IoSlice::new(b" three")]);
        transport.write_owned(&b" four"[..]);
        transport.close();
        assert_eq!(receive(el, &mut reader, usize::MAX), b"one two three four");
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
    }

    /// PI-01, LU-10: more than one event takes is delivered to the last byte, though the writer has hung up long before.
    fn all_that_was_written_before_the_hang_up(el) {
        let (reader, mut writer) = pipe();
        rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20).unwrap();
        let size = fill(&mut writer);
        assert!(size >= 1 << 20);
        drop(writer);
        let (transport, heard) = read_pipe(el, reader);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "data", "eof closing", "lost"]);
        assert_eq!(heard.bytes().len(), size);
    }

    /// PI-01: a pipe that keeps packets apart is read to its last packet, though each read is short.
    fn a_pipe_of_packets(el) {
        let (reader, mut writer) = packet_pipe();
        let (transport, heard) = read_pipe(el, reader);
        for packet in [&b"one "[..], b"two ", b"three"] {
            writer.write_all(packet).unwrap();
        }
        let mut bytes = Vec::new();
        run_until(el, || {
            bytes.extend(heard.bytes());
            bytes == b"one two three"
        });
        transport.close();
        until_gone(el, &transport);
    }

    /// PI-01: a protocol with a buffer of its own reads a pipe, too.
    fn a_buffered_protocol(el) {
        struct Small(Vec<u8>, [u8; 4]);
        impl BufferedProtocol for Small {
            fn get_buffer(&mut self, _: usize) -> &mut [u8] {
                &mut self.1
            }
            fn buffer_updated(&mut self, _: &Transport, n: usize) {
                self.0.extend_from_slice(&self.1[..n]);
            }
        }
        let (reader, mut writer) = pipe();
        let factory = || Buffered(Small(Vec::new(), [0; 4]));
        let (transport, protocol) = complete(el, el.connect_read_pipe(factory, reader)).unwrap();
        writer.write_all(b"more than four bytes").unwrap();
        drop(writer);
        until_gone(el, &transport);
        protocol.with(|small| assert_eq!(small.0.0, b"more than four bytes"));
    }

    /// PI-01: bytes that are given back come first for the next protocol.
    fn bytes_are_given_back(el) {
        struct Preamble(Recorder);
        impl Protocol for Preamble {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                transport.set_protocol(self.0.clone());
                transport.unread(&data[4..]);
            }
        }
        let (reader, mut writer) = pipe();
        let heard = Recorder::default();
        let given = heard.clone();
        let (transport, _) = complete(el, el.connect_read_pipe(|| Preamble(given), reader)).unwrap();
        writer.write_all(b"HEADrest").unwrap();
        run_until(el, || heard.log.len() == 1);
        drop(writer);
        until_gone(el, &transport);
        assert_eq!(heard.bytes(), b"rest");
        assert_eq!(heard.log.take(), ["data", "eof closing", "lost"]);
    }

    /// PI-05: what cannot be waited for is refused with a reason that names the method, and closed; the factory is not called.
    fn files_are_refused(el) {
        let file = tempfile::tempfile().unwrap();
        let folder = File::open("/").unwrap();
        let counter = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let kinds = [(file.into(), "a regular file"), (folder.into(), "a directory"), (counter, "something else")];
        for (fd, kind) in kinds {
            let fd: OwnedFd = fd;
            let twin = fd.try_clone().unwrap();
            let unused = || -> Idle { unreachable!() };
            for (method, result) in [
                ("connect_read_pipe", complete(el, el.connect_read_pipe(unused, fd))),
                ("connect_write_pipe", complete(el, el.connect_write_pipe(unused, twin))),
            ] {
                let error = result.err().unwrap();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(
                    error.to_string(),
                    format!(
                        "EventLoop::{method}(): the descriptor is open on {kind}, and only pipes, sockets and character \
                         devices can be waited for"
                    )
                );
            }
        }
    }

    /// PI-05: an end that is open for the other direction is refused.
    fn the_wrong_end_is_refused(el) {
        let (reader, writer) = pipe();
        let error = complete(el, el.connect_read_pipe(|| Idle, writer)).err().unwrap();
        assert_eq!(error.to_string(), "EventLoop::connect_read_pipe(): the descriptor is not open for reading");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = complete(el, el.connect_write_pipe(|| Idle, reader)).err().unwrap();
        assert_eq!(error.to_string(), "EventLoop::connect_write_pipe(): the descriptor is not open for writing");
    }

    /// PI-06: the descriptor is made non-blocking, and so is every other one of the same open file.
    fn descriptors_become_non_blocking(el) {
        let ((reader, far_writer), (far_reader, writer)) = (pipe(), pipe());
        let twins = (pipes::again(&reader), pipes::again(&writer));
        let (transport, _) = read_pipe(el, reader);
        let (other, _) = write_pipe(el, writer);
        assert!(is_nonblocking(&twins.0) && is_nonblocking(&twins.1));
        assert!(!is_nonblocking(&far_reader) && !is_nonblocking(&far_writer));
        transport.abort();
        other.abort();
        until_gone(el, &transport);
        until_gone(el, &other);
    }

    /// PI-08: what the pipe does not take at once is queued and written later, in order; the protocol is paused and resumed.
    fn a_full_pipe(el) {
        let (mut reader, mut writer) = pipe();
        let filled = fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        transport.write(&[b'a'; 60_000]);
        transport.write(&[b'b'; 60_000]);
        assert_eq!(transport.write_buffer_size(), 120_000);
        settle(el);
        assert_eq!(heard.log.take(), ["made", "pause"]);
        let received = receive(el, &mut reader, filled + 120_000);
        assert!(received[..filled].iter().all(|&byte| byte == b'x'));
        assert!(received[filled..filled + 60_000].iter().all(|&byte| byte == b'a'));
        assert!(received[filled + 60_000..].iter().all(|&byte| byte == b'b'));
        run_until(el, || transport.write_buffer_size() == 0);
        assert_eq!(heard.log.take(), ["resume"]);
        transport.close();
        until_gone(el, &transport);
    }

    /// FC-13: a writing end has the water marks of every transport, and `ready` waits for room.
    fn water_marks_of_a_writing_end(el) {
        let (mut reader, mut writer) = pipe();
        let filled = fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        assert_eq!((transport.write_buffer_limits().low, transport.write_buffer_limits().high), (16 * 1024, 64 * 1024));
        transport.set_write_buffer_limits(10, 5).unwrap();
        transport.write(&[b'a'; 10]);
        settle(el);
        assert_eq!(heard.log.take(), ["made"]);
        transport.write(b"a");
        settle(el);
        assert_eq!(heard.log.take(), ["pause"]);
        assert!(complete(el, poll_times(transport.ready(), 1)).is_none());
        receive(el, &mut reader, filled + 11);
        complete(el, transport.ready()).unwrap();
        settle(el);
        assert_eq!(heard.log.take(), ["resume"]);
        transport.set_write_buffer_cap(100);
        fill_again(&transport);
        until_gone(el, &transport);
        let heard = heard.log.take();
        assert_eq!(heard.last().unwrap(), "lost WriteZero", "{heard:?}");
    }

    /// PI-09: closing a writing end, or ending it, lets what is queued be written first; a second call does nothing, and what
    /// is written afterwards is dropped without a word.
    fn closing_flushes(el) {
        for end in [Transport::close, Transport::write_eof] {
            let (mut reader, mut writer) = pipe();
            let filled = fill(&mut writer);
            let (transport, heard) = write_pipe(el, writer);
            transport.write(b"the rest");
            end(&transport);
            end(&transport);
            transport.write_eof();
            transport.close();
            transport.write(b"too late");
            assert!(transport.is_closing());
            settle(el);
            assert_eq!(heard.log.take(), ["made"]);
            assert_eq!(receive(el, &mut reader, usize::MAX)[filled..], *b"the rest");
            until_gone(el, &transport);
            assert_eq!(heard.log.take(), ["lost"]);
            end(&transport);
            transport.write(b"too late");
        }
    }

    /// PI-09, CL-04: with nothing queued `write_eof` closes at once.
    fn write_eof_with_nothing_queued(el) {
        let (mut reader, writer) = pipe();
        let (transport, heard) = write_pipe(el, writer);
        transport.write(b"all");
        transport.write_eof();
        assert!(transport.is_closing());
        settle(el);
        assert_eq!(heard.log.take(), ["made", "lost"]);
        let mut received = String::new();
        reader.read_to_string(&mut received).unwrap();
        assert_eq!(received, "all");
    }

    /// PI-10: `abort` drops what is queued.
    fn aborting_drops_the_queue(el) {
        let (mut reader, mut writer) = pipe();
        let filled = fill(&mut writer);
        let (transport, heard) = write_pipe(el, writer);
        transport.write(b"never");
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
        assert_eq!(receive(el, &mut reader, usize::MAX).len(), filled);
    }

    /// PI-11: pausing and resuming a reading end may be called twice, and after its end.
    fn pausing_a_reading_end(el) {
        let (reader, mut writer) = pipe();
        let (transport, heard) = read_pipe(el, reader);
        transport.pause_reading();
        transport.pause_reading();
        assert!(!transport.is_reading());
        writer.write_all(b"held back").unwrap();
        settle(el);
        assert_eq!(heard.log.take(), ["made"]);
        transport.resume_reading();
        transport.resume_reading();
        run_until(el, || heard.log.len() == 1);
        assert_eq!(heard.bytes(), b"held back");
        transport.pause_reading();
        drop(writer);
        settle(el);
        assert_eq!(heard.log.take(), ["data"]);
        transport.resume_reading();
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["eof closing", "lost"]);
        transport.pause_reading();
        transport.resume_reading();
        transport.close();
        assert!(!transport.is_reading());
        settle(el);
        assert_eq!(heard.log.len(), 0);
    }

    /// PI-13: the text of a transport says what it is, also when the loop was closed under it.
    fn text_of_a_transport_whose_loop_was_closed(el) {
        let ((reader, _far_writer), (_far_reader, writer)) = (pipe(), pipe());
        let (read, heard) = read_pipe(el, reader);
        let (write, also_heard) = write_pipe(el, writer);
        let fd = |transport: &Transport| transport.extra_info().pipe.unwrap().raw_fd().unwrap();
        assert_eq!(format!("{read:?}"), format!("<Transport {} fd={} read=polling>", read.id(), fd(&read)));
        assert_eq!(
            format!("{write:?}"),
            format!("<Transport {} fd={} write=<idle, bufsize=0>>", write.id(), fd(&write))
        );
        el.close();
        assert_eq!(format!("{read:?}"), format!("<Transport {} closed>", read.id()));
        assert_eq!(format!("{write:?}"), format!("<Transport {} closed>", write.id()));
        assert_eq!((heard.log.take(), also_heard.log.take()), (vec!["made".to_owned()], vec!["made".to_owned()]));
    }

    /// What the other end does is misuse. Where there is a result it is `Unsupported`, else the exception handler is told.
    fn the_missing_direction(el) {
        let ((reader, far_writer), (far_reader, writer)) = (pipe(), pipe());
        let (read, _) = read_pipe(el, reader);
        let (write, _) = write_pipe(el, writer);
        read.write(b"x");
        read.write_owned(&b"x"[..]);
        read.writelines(&[IoSlice::new(b"x")]);
        read.write_eof();
        read.set_write_buffer_cap(1);
        write.pause_reading();
        write.resume_reading();
        write.unread(b"x");
        let reports = take_reports();
        let methods = ["write", "write", "write", "write_eof", "set_write_buffer_cap"];
        let expected = methods.map(|method| format!("Transport::{method}(): the transport has the reading end of a pipe"));
        let methods = ["pause_reading", "resume_reading", "unread"];
        let more = methods.map(|method| format!("Transport::{method}(): the transport has the writing end of a pipe"));
        assert_eq!(reports.len(), expected.len() + more.len(), "{reports:#?}");
        for (report, expected) in reports.iter().zip(expected.iter().chain(&more)) {
            assert!(report.starts_with(expected.as_str()), "{report}\n{expected}");
        }
        let error = read.set_write_buffer_limits(10, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "Transport::set_write_buffer_limits(): the transport has the reading end of a pipe"
        );
        assert_eq!(complete(el, read.ready()).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(complete(el, read.flushed()).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!((read.write_buffer_size(), write.is_reading()), (0, false));
        drop((far_reader, far_writer));
        until_gone(el, &read);
        until_gone(el, &write);
        // Gone, they do nothing.
        read.write(b"x");
        read.write_eof();
        write.pause_reading();
        write.unread(b"x");
    }

    /// PI-01, PI-02: sockets have two ends as well; each is closed by itself.
    fn ends_of_sockets(el) {
        let (one, two) = UnixStream::pair().unwrap();
        let (read, heard) = read_pipe(el, one);
        let (write, also_heard) = write_pipe(el, two);
        write.write(b"by a socket");
        run_until(el, || heard.log.len() == 2);
        assert_eq!(heard.bytes(), b"by a socket");
        write.close();
        until_gone(el, &read);
        assert_eq!(heard.log.take(), ["made", "data", "eof closing", "lost"]);
        until_gone(el, &write);
        assert_eq!(also_heard.log.take(), ["made", "lost"]);
    }

    /// PI-01: of datagrams none is left in the socket.
    fn datagrams_one_at_a_time(el) {
        let (one, two) = UnixDatagram::pair().unwrap();
        let (read, heard) = read_pipe(el, one);
        let (write, _) = write_pipe(el, two);
        for datagram in [&b"one "[..], b"two ", b"three"] {
            write.write(datagram);
        }
        let mut bytes = Vec::new();
        run_until(el, || {
            bytes.extend(heard.bytes());
            bytes == b"one two three"
        });
        read.close();
        write.close();
        until_gone(el, &read);
        until_gone(el, &write);
    }

    /// SR-27: a stream over a pipe, with the smallest limit, reads everything.
    fn a_stream_over_a_pipe(el) {
        let ((reader, mut far_writer), (mut far_reader, writer)) = (pipe(), pipe());
        far_writer.write_all(&[b'x'; 50_000]).unwrap();
        drop(far_writer);
        complete(el, async {
            let mut reader = open_read_pipe(reader).limit(1).await.unwrap();
            assert_eq!(reader.read_to_end().await.unwrap(), [b'x'; 50_000]);
            assert!(reader.at_eof());
            let mut writer = open_write_pipe(writer).await.unwrap();
            writer.write(b"answer");
            writer.drain().await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
        });
        let mut received = String::new();
        far_reader.read_to_string(&mut received).unwrap();
        assert_eq!(received, "answer");
    }

    /// A stream over a pipe holds back a writer that is faster than its reader.
    fn a_stream_holds_the_writer_back(el) {
        let (reader, mut writer) = pipe();
        set_nonblocking(&writer, true);
        complete(el, async {
            let mut reader = open_read_pipe(reader).limit(1000).await.unwrap();
            let (mut sum, mut idle) = (0, 0);
            while idle < 3 {
                idle += 1;
                match writer.write(&[b'x'; 1000]) {
                    Ok(n) => (sum, idle) = (sum + n, 0),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                roundelay::yield_now().await;
            }
            assert!(sum < 1 << 20, "{sum}");
            drop(writer);
            assert_eq!(reader.read_to_end().await.unwrap().len(), sum);
        });
    }

    /// A future that is dropped at any of its steps closes the descriptor.
    fn dropped_before_it_is_done(el) {
        for polls in 0..4 {
            let (reader, mut writer) = pipe();
            let done = complete(el, poll_times(el.connect_read_pipe(|| Idle, reader).into_future(), polls));
            settle(el);
            let Some(done) = done else {
                assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
                continue;
            };
            done.unwrap().0.abort();
            settle(el);
        }
    }

    /// A descriptor that the loop watches already is refused.
    fn a_watched_descriptor_is_refused(el) {
        let (reader, _writer) = pipe();
        el.add_reader(&reader, || {}).unwrap();
        // The loop takes the descriptor of this number, which is still watched.
        let error = complete(el, el.connect_read_pipe(|| Idle, reader)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
}

/// Writes until the transport has had enough.
fn fill_again(transport: &Transport) {
    while !transport.is_closing() {
        transport.write(&[b'x'; 4096]);
    }
}
