//! One end of a pipe.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use roundelay::{EventLoop, Transport};

use crate::ends::{fill, pipe, set_nonblocking, terminal};
use crate::support::{Recorder, connected, connected_differs, describe, settle, socket_pair, trace_reports, yes};

/// A pipe whose ends do not block.
fn non_blocking_pipe() -> (File, File) {
    let (reader, writer) = pipe();
    set_nonblocking(&reader, true);
    set_nonblocking(&writer, true);
    (reader, writer)
}

/// A recorded reading end, and the other one.
async fn reading(el: &EventLoop, recorder: Recorder) -> (Transport, File) {
    let (reader, writer) = non_blocking_pipe();
    (el.connect_read_pipe(move || recorder, reader).await.unwrap().0, writer)
}

/// A recorded writing end, and the other one.
async fn writing(el: &EventLoop, recorder: Recorder) -> (Transport, File) {
    let (reader, writer) = non_blocking_pipe();
    (el.connect_write_pipe(move || recorder, writer).await.unwrap().0, reader)
}

/// As `writing`, of a pipe in which there is no room.
async fn writing_to_a_full_one(el: &EventLoop, recorder: Recorder) -> (Transport, File) {
    let (reader, mut writer) = non_blocking_pipe();
    fill(&mut writer);
    (el.connect_write_pipe(move || recorder, writer).await.unwrap().0, reader)
}

/// What has arrived, and whether that was all, as a text.
fn received(reader: &mut File) -> String {
    let mut data = Vec::new();
    match reader.read_to_end(&mut data) {
        Ok(_) => describe(&data) + " eof",
        Err(error) if error.kind() == ErrorKind::WouldBlock => describe(&data),
        Err(error) => panic!("{error}"),
    }
}

/// PI-01: data, the end of file, the loss; closing already when the end is told of.
#[test]
fn writer_closes_a_pipe() {
    connected("writer_closes_a_pipe", async |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        let eof = move |transport: &Transport| {
            yes(&own, "closing", transport.is_closing());
            handle.call_soon(own.entry("soon"));
        };
        let (transport, mut writer) = reading(&el, Recorder::new(&log).then("eof", eof)).await;
        log.push("connected");
        writer.write_all(b"last words").unwrap();
        drop(writer);
        settle().await;
        yes(&log, "closing", transport.is_closing());
    });
}

/// PI-01: whatever `eof_received` returns.
#[test]
fn end_of_a_pipe_cannot_be_kept_open() {
    connected("end_of_a_pipe_cannot_be_kept_open", async |el, log| {
        let (transport, writer) = reading(&el, Recorder::new(&log).keep_open()).await;
        drop(writer);
        settle().await;
        transport.close();
        settle().await;
    });
}

/// PI-01, LU-10: what was written before comes first.
#[test]
fn pipe_that_has_ended_before() {
    connected("pipe_that_has_ended_before", async |el, log| {
        let (reader, mut writer) = non_blocking_pipe();
        writer.write_all(b"early").unwrap();
        drop(writer);
        let recorder = Recorder::new(&log);
        el.connect_read_pipe(move || recorder, reader).await.unwrap();
        log.push("connected");
        settle().await;
    });
}

/// PI-03: nothing is queued, so nothing is lost.
#[test]
fn reader_of_a_pipe_goes_away() {
    connected("reader_of_a_pipe_goes_away", async |el, log| {
        let (transport, reader) = writing(&el, Recorder::new(&log)).await;
        transport.write(b"into the pipe");
        drop(reader);
        settle().await;
        yes(&log, "closing", transport.is_closing());
        transport.write(b"too late");
        transport.write_eof();
        transport.close();
        settle().await;
    });
}

/// PI-03, PI-12: with something queued it is an error.
#[test]
fn reader_of_a_full_pipe_goes_away() {
    connected("reader_of_a_full_pipe_goes_away", async |el, log| {
        let (transport, reader) = writing_to_a_full_one(&el, Recorder::new(&log)).await;
        transport.write(&[b'x'; 100_000]);
        settle().await;
        drop(reader);
        settle().await;
    });
}

/// PI-08: an error of a write is told and not reported.
#[test]
fn write_fails_before_the_reader_is_missed() {
    connected("write_fails_before_the_reader_is_missed", async |el, log| {
        trace_reports(&el, &log);
        let (transport, reader) = writing(&el, Recorder::new(&log)).await;
        drop(reader);
        transport.write(b"x");
        yes(&log, "closing", transport.is_closing());
        transport.write(b"y");
        settle().await;
    });
}

/// PI-09, CL-04: the end of the writing is the end.
#[test]
fn write_eof_on_a_pipe() {
    connected("write_eof_on_a_pipe", async |el, log| {
        let (transport, mut reader) = writing(&el, Recorder::new(&log)).await;
        yes(&log, "can", transport.can_write_eof());
        transport.write(b"all");
        transport.write_eof();
        yes(&log, "closing", transport.is_closing());
        transport.write_eof();
        transport.close();
        transport.write(b"too late");
        el.call_soon(log.entry("soon"));
        settle().await;
        log.push(received(&mut reader));
    });
}

/// PI-09: when everything is written.
#[test]
fn write_eof_on_a_full_pipe() {
    connected("write_eof_on_a_full_pipe", async |el, log| {
        let (transport, mut reader) = writing_to_a_full_one(&el, Recorder::new(&log)).await;
        transport.write(b"the rest");
        transport.write_eof();
        yes(&log, "closing", transport.is_closing());
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
        log.push(received(&mut reader));
        settle().await;
        log.push(received(&mut reader));
    });
}

/// PI-10: what is queued is dropped.
#[test]
fn abort_a_full_pipe() {
    connected("abort_a_full_pipe", async |el, log| {
        let (transport, mut reader) = writing_to_a_full_one(&el, Recorder::new(&log)).await;
        transport.write(b"never");
        transport.abort();
        settle().await;
        log.push(received(&mut reader));
    });
}

/// FC-13: paused above the high mark, resumed at the low one.
#[test]
fn flow_control_of_a_pipe() {
    connected("flow_control_of_a_pipe", async |el, log| {
        let (transport, mut reader) = writing_to_a_full_one(&el, Recorder::new(&log)).await;
        transport.set_write_buffer_limits(100, 10).unwrap();
        transport.write(&[b'x'; 100]);
        settle().await;
        transport.write(b"x");
        settle().await;
        log.push(received(&mut reader));
        settle().await;
        log.push(received(&mut reader));
        transport.close();
        settle().await;
    });
}

/// PI-11: twice, and after the end.
#[test]
fn pause_and_resume_a_pipe() {
    connected("pause_and_resume_a_pipe", async |el, log| {
        let (transport, mut writer) = reading(&el, Recorder::new(&log)).await;
        transport.pause_reading();
        transport.pause_reading();
        writer.write_all(b"held back").unwrap();
        settle().await;
        log.push("resumed");
        transport.resume_reading();
        transport.resume_reading();
        settle().await;
        transport.pause_reading();
        drop(writer);
        settle().await;
        log.push("resumed");
        transport.resume_reading();
        settle().await;
        transport.pause_reading();
        transport.resume_reading();
    });
}

/// PI-01: a reading end that is closed closes the pipe.
#[test]
fn close_a_reading_end() {
    connected("close_a_reading_end", async |el, log| {
        let (_, mut writer) = reading(&el, Recorder::new(&log).then("data", Transport::close)).await;
        writer.write_all(b"one").unwrap();
        settle().await;
        if writer.write(b"two").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            log.push("broken");
        }
    });
}

/// PI-03: of a socket the end of the other direction counts.
#[test]
fn peer_of_a_writing_end_ends_its_side() {
    connected("peer_of_a_writing_end_ends_its_side", async |el, log| {
        let (own, peer) = socket_pair();
        let recorder = Recorder::new(&log);
        el.connect_write_pipe(move || recorder, own.take()).await.unwrap();
        settle().await;
        peer.with(|socket| socket.shutdown(Shutdown::Write)).unwrap();
        settle().await;
    });
}

/// PI-04: a terminal that hangs up is at its end.
#[test]
fn terminal_hangs_up() {
    let here = ["made", "data 'bye'", "eof", "lost None"];
    connected_differs("terminal_hangs_up", "terminal-that-hangs-up", &here, async |el, log| {
        trace_reports(&el, &log);
        let (master, mut slave) = terminal();
        let recorder = Recorder::new(&log);
        el.connect_read_pipe(move || recorder, master).await.unwrap();
        slave.write_all(b"bye").unwrap();
        settle().await;
        drop(slave);
        settle().await;
    });
}
