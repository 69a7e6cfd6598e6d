//! Terminals and other devices as the ends of pipes (behaviours PI).

mod common;

#[path = "common/pipes.rs"]
mod pipes;

use std::io::Write;
use std::path::Path;

use common::{complete, run_until, settle, take_reports};
use pipes::{again, line_terminal, open_now, read_pipe, receive, terminal, until_gone, write_pipe};
use roundelay::{Protocol, Transport, open_read_pipe};
use rustix::fs::OFlags;

on_every_loop! {
    /// PI-04: a terminal's master reads what is written to the terminal; when that is closed, reading ends quietly.
    fn the_output_of_a_terminal(el) {
        let (master, mut slave) = terminal();
        let (transport, heard) = read_pipe(el, master);
        slave.write_all(b"one").unwrap();
        run_until(el, || heard.bytes() == b"one");
        slave.write_all(b"two").unwrap();
        drop(slave);
        until_gone(el, &transport);
        assert_eq!(heard.bytes(), b"two");
        assert_eq!(heard.log.take(), ["made", "data", "data", "eof closing", "lost"]);
        assert_eq!(take_reports(), [""; 0]);
    }

    /// PI-04, PI-07: writing to a terminal, whose input does not disturb the writing end.
    fn writing_to_a_terminal(el) {
        let (mut master, slave) = terminal();
        let (transport, heard) = write_pipe(el, again(&slave));
        transport.write(b"one");
        transport.write(b" two");
        assert_eq!(receive(el, &mut master, 7), b"one two");
        master.write_all(b"typed").unwrap();
        settle(el);
        let turns = el.stats().turns;
        settle(el);
        assert_eq!(el.stats().turns, turns + 1);
        assert!(!transport.is_closing());
        transport.write(b"three");
        transport.close();
        assert_eq!(receive(el, &mut master, 5), b"three");
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
        drop(slave);
    }

    /// PI-04: the same terminal in both directions, by two ends.
    fn a_terminal_in_both_directions(el) {
        let (mut master, slave) = terminal();
        let (write, _) = write_pipe(el, again(&slave));
        let (read, heard) = read_pipe(el, slave);
        master.write_all(b"ping").unwrap();
        run_until(el, || heard.bytes() == b"ping");
        write.write(b"pong");
        assert_eq!(receive(el, &mut master, 4), b"pong");
        drop(master);
        until_gone(el, &read);
        assert_eq!(heard.log.take(), ["made", "data", "eof closing", "lost"]);
        write.close();
        until_gone(el, &write);
    }

    /// PI-04: a terminal that hands over whole lines is read to its last one, and the key that ends the input does.
    fn lines_of_a_terminal(el) {
        let (mut master, slave) = line_terminal();
        master.write_all(b"one\ntwo\nthree\n").unwrap();
        let mut lines = Vec::new();
        complete(el, async {
            let mut reader = open_read_pipe(slave).await.unwrap();
            for _ in 0..3 {
                lines.push(reader.readline().await.unwrap());
            }
            master.write_all(b"four\n\x04").unwrap();
            lines.push(reader.read_to_end().await.unwrap());
        });
        assert_eq!(lines, [&b"one\n"[..], b"two\n", b"three\n", b"four\n"]);
    }

    /// A terminal that takes no more is waited for, and one that hangs up ends what is queued.
    fn a_terminal_that_is_full(el) {
        let (mut master, slave) = terminal();
        let (transport, heard) = write_pipe(el, slave);
        transport.write(&[b'x'; 50_000]);
        assert!(transport.write_buffer_size() > 0);
        assert_eq!(receive(el, &mut master, 50_000).len(), 50_000);
        run_until(el, || transport.write_buffer_size() == 0);
        transport.write(&[b'x'; 50_000]);
        drop(master);
        until_gone(el, &transport);
        let heard = heard.log.take();
        assert!(heard.last().unwrap().starts_with("lost "), "{heard:?}");
    }

    /// PI-05: a device that never blocks, and that the selector refuses, is read and written to all the same.
    fn devices_that_never_block(el) {
        let (transport, heard) = read_pipe(el, open_now(Path::new("/dev/null"), OFlags::RDONLY));
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "eof closing", "lost"]);
        let (transport, heard) = write_pipe(el, open_now(Path::new("/dev/null"), OFlags::WRONLY));
        transport.write(&[b'x'; 1 << 20]);
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
        let (transport, heard) = write_pipe(el, open_now(Path::new("/dev/full"), OFlags::WRONLY));
        transport.write(b"x");
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost StorageFull"]);
    }

    /// A device without an end takes its turns with everything else, pauses and resumes.
    fn a_device_without_an_end(el) {
        struct Count(usize);
        impl Protocol for Count {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                self.0 += data.len();
                if self.0 > 5 << 20 {
                    transport.pause_reading();
                }
            }
        }
        let zero = open_now(Path::new("/dev/zero"), OFlags::RDONLY);
        let (transport, protocol) = complete(el, el.connect_read_pipe(|| Count(0), zero)).unwrap();
        let turns = el.stats().turns;
        run_until(el, || !transport.is_reading());
        assert!(el.stats().turns - turns > 10, "one event after the other");
        settle(el);
        let before = protocol.with(|count| std::mem::take(&mut count.0));
        assert!(before > 5 << 20);
        transport.resume_reading();
        run_until(el, || !transport.is_reading());
        transport.close();
        until_gone(el, &transport);
    }
}
