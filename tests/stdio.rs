//! The standard streams. Each test runs in a process of its own, in which it puts something in the place of 0, 1 or 2.

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/pipes.rs"]
mod pipes;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use collector::in_a_child;
use common::{Kind, complete, settle, take_reports};
use pipes::{fill, is_nonblocking, line_terminal, make_fifo, open_now, packet_pipe, pipe, terminal};
use roundelay::{EventLoop, block_on, spawn_blocking, stderr, stdin, stdout};
use rustix::fs::OFlags;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Puts something in the place of the standard input.
fn input(fd: impl AsFd) {
    dup2_stdin(fd).unwrap();
}

/// Puts something in the place of the standard output while `body` runs: the test harness has something to say before and
/// after.
fn output<R>(fd: impl AsFd, body: impl FnOnce() -> R) -> R {
    let before: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    dup2_stdout(fd).unwrap();
    let result = catch_unwind(AssertUnwindSafe(body));
    dup2_stdout(before).unwrap();
    result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// A test in a process of its own, which has to leave no descriptor open and nothing in the loop.
fn alone(test: &str, body: impl FnOnce()) {
    in_a_child(test, || {
        let before = common::open_descriptors();
        body();
        let deadline = std::time::Instant::now() + common::PATIENCE;
        // A thread may be about to end.
        while common::open_descriptors() != before && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(common::open_descriptors(), before);
    });
}

/// On each kind of loop, with the checks of the harness.
fn on_each_loop(body: impl Fn(&EventLoop)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        common::run(kind, true, &body);
    }
}

fn is_blocking(fd: BorrowedFd<'_>) -> bool {
    !is_nonblocking(fd)
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn lines_of_a_pipe() {
    alone("lines_of_a_pipe", || {
        on_each_loop(|el| {
            let (reader, mut writer) = pipe();
            input(&reader);
            complete(el, async {
                let mut stdin = stdin().unwrap();
                writer.write_all(b"one\ntw").unwrap();
                assert_eq!(stdin.readline().await.unwrap(), b"one\n");
                assert!(is_blocking(reader.as_fd()), "the flag of the one who has made the pipe is left alone");
                writer.write_all(b"o\nthree").unwrap();
                drop(writer);
                assert_eq!(stdin.readline().await.unwrap(), b"two\n");
                assert_eq!(stdin.readline().await.unwrap(), b"three");
                assert!(stdin.at_eof());
            });
            assert!(is_blocking(reader.as_fd()));
            settle(el);
        });
        input(null());
    });
}

/// PI-04: a terminal in both directions, whose flag is left alone.
#[test]
fn a_terminal() {
    alone("a_terminal", || {
        on_each_loop(|el| {
            let (mut master, slave) = line_terminal();
            input(&slave);
            output(&slave, || {
                complete(el, async {
                    let (mut stdin, mut stdout) = (stdin().unwrap(), stdout().unwrap());
                    master.write_all(b"one\ntwo\n").unwrap();
                    for _ in 0..2 {
                        stdout.write(&stdin.readline().await.unwrap());
                        stdout.drain().await.unwrap();
                    }
                    assert!(is_blocking(slave.as_fd()));
                    master.write_all(b"\x04").unwrap();
                    assert_eq!(stdin.readline().await.unwrap(), b"");
                    stdout.close();
                    stdout.wait_closed().await.unwrap();
                });
            });
            settle(el);
            let mut received = [0; 8];
            master.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"one\ntwo\n");
            input(null());
        });
    });
}

/// A socket is both; its peer may end its side and wait for the answer. The flag is left alone.
#[test]
fn a_socket() {
    alone("a_socket", || {
        on_each_loop(|el| {
            let (own, mut peer) = UnixStream::pair().unwrap();
            input(&own);
            peer.write_all(b"question").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            output(&own, || {
                complete(el, async {
                    let (mut stdin, mut stdout) = (stdin().unwrap(), stdout().unwrap());
                    assert_eq!(stdin.read_to_end().await.unwrap(), b"question");
                    assert!(is_blocking(own.as_fd()));
                    roundelay::yield_now().await;
                    stdout.write(b"answer");
                    stdout.close();
                    stdout.wait_closed().await.unwrap();
                });
            });
            settle(el);
            let mut received = [0; 6];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"answer");
            input(null());
        });
    });
}

/// A file is read on a thread, from where it stands.
#[test]
fn a_file() {
    alone("a_file", || {
        on_each_loop(|el| {
            let mut file = tempfile::tempfile().unwrap();
            let data: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
            file.write_all(&data).unwrap();
            file.seek(std::io::SeekFrom::Start(10)).unwrap();
            input(&file);
            let read = complete(el, async { stdin().unwrap().read_to_end().await.unwrap() });
            assert!(read == data[10..]);
            settle(el);
            input(null());
        });
    });
}

/// A slow reader holds a file back: it is not read into memory at once.
#[test]
fn a_file_is_read_as_it_is_needed() {
    alone("a_file_is_read_as_it_is_needed", || {
        on_each_loop(|el| {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(64 << 20).unwrap();
            input(&file);
            complete(el, async {
                let mut stdin = stdin().unwrap();
                stdin.readexactly(100).await.unwrap();
                for _ in 0..100 {
                    roundelay::yield_now().await;
                }
                assert!(file.stream_position().unwrap() < 4 << 20);
            });
            settle(el);
            input(null());
        });
    });
}

/// What has nothing in it has an end, and so has a FIFO that nobody writes to any more.
#[test]
fn inputs_without_anything() {
    alone("inputs_without_anything", || {
        on_each_loop(|el| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fifo");
            make_fifo(&path);
            // Its writers are gone, which no event tells of.
            let fifo = open_now(&path, OFlags::RDONLY);
            drop(open_now(&path, OFlags::WRONLY));
            pipes::set_nonblocking(&fifo, false);
            for file in [null(), tempfile::tempfile().unwrap(), fifo] {
                input(&file);
                assert_eq!(complete(el, async { stdin().unwrap().read_to_end().await.unwrap() }), b"");
                settle(el);
            }
            input(null());
        });
    });
}

/// A packet at a time, and nothing is left.
#[test]
fn a_pipe_of_packets() {
    alone("a_pipe_of_packets", || {
        on_each_loop(|el| {
            let (reader, mut writer) = packet_pipe();
            input(&reader);
            writer.write_all(b"one").unwrap();
            writer.write_all(b"two").unwrap();
            complete(el, async {
                let mut stdin = stdin().unwrap();
                assert_eq!(stdin.readexactly(6).await.unwrap(), b"onetwo");
            });
            settle(el);
            input(null());
        });
    });
}

/// Nor are packets joined on their way out.
#[test]
fn output_in_packets() {
    alone("output_in_packets", || {
        let (mut reader, writer) = packet_pipe();
        output(&writer, || {
            block_on(async {
                let mut stdout = stdout().unwrap();
                stdout.write(b"one");
                stdout.write(b"two");
            });
        });
        let mut packet = [0; 10];
        assert_eq!(reader.read(&mut packet).unwrap(), 3);
        assert_eq!(reader.read(&mut packet).unwrap(), 3);
    });
}

/// What cannot be read or written says so.
#[test]
fn errors() {
    alone("errors", || {
        on_each_loop(|el| {
            let (reader, writer) = pipe();
            input(&writer);
            output(&reader, || {
                complete(el, async {
                    let error = stdin().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert_eq!(error.to_string(), "stdin(): the descriptor is not open for reading");
                    let error = stdout().unwrap_err();
                    assert_eq!(error.to_string(), "stdout(): the descriptor is not open for writing");
                });
            });
            input(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap());
            complete(el, async {
                assert_eq!(stdin().unwrap_err().to_string(), "stdin(): it is no file, pipe, socket or device");
            });
            input(File::open("/").unwrap());
            complete(el, async {
                let error = stdin().unwrap().read(1).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::IsADirectory);
            });
            assert!(take_reports()[0].starts_with("Fatal read error on pipe transport"));
            settle(el);
            input(null());
        });
        assert!(catch_unwind(|| drop(stdin())).is_err(), "there is no loop");
    });
}

/// One at a time in the whole process; afterwards the next one.
#[test]
fn one_at_a_time() {
    alone("one_at_a_time", || {
        on_each_loop(|el| {
            let (reader, _writer) = pipe();
            input(&reader);
            complete(el, async {
                let first = stdin().unwrap();
                let text = "stdin(): it is in use: by an earlier stdin() that was not dropped, or that has not written \
                            everything yet";
                let error = stdin().unwrap_err();
                assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::ResourceBusy, text));
                let elsewhere = spawn_blocking(|| block_on(async { stdin().unwrap_err().kind() }));
                assert_eq!(elsewhere.await.unwrap(), ErrorKind::ResourceBusy);
                let _error = stderr().unwrap();
                drop(first);
                while stdin().is_err() {
                    roundelay::yield_now().await;
                }
            });
            settle(el);
            input(null());
        });
        // The end of a loop gives it back, whoever still has it.
        let kept = block_on(async { stdin().unwrap() });
        block_on(async { drop(stdin().unwrap()) });
        drop(kept);
    });
}

/// Whoever waits for a line does not hold the end of the program.
#[test]
fn nobody_is_waited_for() {
    alone("nobody_is_waited_for", || {
        let (reader, writer) = pipe();
        let (_master, slave) = terminal();
        for fd in [OwnedFd::from(reader), slave.into()] {
            input(&fd);
            block_on(async {
                let mut stdin = stdin().unwrap();
                drop(roundelay::spawn(async move { stdin.readline().await }));
                roundelay::yield_now().await;
            });
        }
        drop(writer);
        input(null());
    });
}

/// What a terminal's master has no way around: its flag is changed while it is in use, and comes back in each way in which
/// that can end, when the last stream that needs it is gone.
#[test]
fn the_flag_comes_back() {
    alone("the_flag_comes_back", || {
        on_each_loop(|el| {
            let (master, mut slave) = terminal();
            input(&master);
            output(&master, || {
                complete(el, async {
                    let mut reader = stdin().unwrap();
                    let mut writer = stdout().unwrap();
                    assert!(is_nonblocking(&master));
                    slave.write_all(b"to be read").unwrap();
                    assert_eq!(reader.readexactly(10).await.unwrap(), b"to be read");
                    drop(reader);
                    while stdin().is_err() {
                        roundelay::yield_now().await;
                    }
                    assert!(is_nonblocking(&master), "the other one needs it");
                    writer.write(b"written");
                    writer.close();
                    writer.wait_closed().await.unwrap();
                });
                settle(el);
                assert!(!is_nonblocking(&master));
                let mut received = [0; 7];
                slave.read_exact(&mut received).unwrap();
                assert_eq!(&received, b"written");
            });
            input(null());
        });
        let (master, _slave) = terminal();
        input(&master);
        let payload = catch_unwind(|| {
            block_on(async {
                let _stdin = stdin().unwrap();
                assert!(is_nonblocking(std::io::stdin()));
                panic!("on purpose");
            })
        });
        assert!(payload.is_err() && !is_nonblocking(&master));
        let kept = block_on(async { stdin().unwrap() });
        assert!(!is_nonblocking(&master));
        drop(kept);
        let el = EventLoop::new().unwrap();
        let kept = el.run_until_complete(async { stdin().unwrap() }).unwrap();
        assert!(is_nonblocking(&master));
        el.close();
        assert!(!is_nonblocking(&master));
        drop(kept);
        // What was so before stays so.
        pipes::set_nonblocking(&master, true);
        block_on(async { drop(stdin().unwrap()) });
        assert!(is_nonblocking(&master));
        input(null());
    });
}

/// What was written is there: after `wait_closed`, after the writer was dropped, and after the loop's end.
#[test]
fn output_to_a_file() {
    alone("output_to_a_file", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        let data: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
        for way in 0..3 {
            let file = File::create(&path).unwrap();
            output(&file, || {
                let kept = block_on(async {
                    let mut stdout = stdout().unwrap();
                    for piece in data.chunks(100_000) {
                        stdout.write(piece);
                        stdout.drain().await.unwrap();
                    }
                    match way {
                        0 => {
                            stdout.close();
                            stdout.wait_closed().await.unwrap();
                            assert!(std::fs::read(&path).unwrap() == data);
                            None
                        }
                        1 => None,
                        _ => Some(stdout),
                    }
                });
                drop(kept);
            });
            assert!(std::fs::read(&path).unwrap() == data, "{way}");
        }
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        output(&file, || block_on(async { stdout().unwrap().write(b"more") }));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 300_004);
    });
}

/// Files need no thread of the default executor, be it busy or ended.
#[test]
fn files_without_the_default_executor() {
    alone("files_without_the_default_executor", || {
        on_each_loop(|el| {
            let (mut from, to) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
            from.write_all(b"a file").unwrap();
            input(File::open(from.path()).unwrap());
            output(OpenOptions::new().write(true).open(to.path()).unwrap(), || {
                complete(el, async {
                    el.shutdown_default_executor(None).await;
                    let (mut stdin, mut stdout) = (stdin().unwrap(), stdout().unwrap());
                    stdout.write(&stdin.read_to_end().await.unwrap());
                    stdout.close();
                    stdout.wait_closed().await.unwrap();
                });
            });
            assert_eq!(std::fs::read(to.path()).unwrap(), b"a file");
            settle(el);
            input(null());
        });
    });
}

/// A pipe that is full is written to when it is read, also after the future's end.
#[test]
fn output_to_a_slow_reader() {
    alone("output_to_a_slow_reader", || {
        let (mut reader, mut writer) = pipe();
        let filled = fill(&mut writer);
        pipes::set_nonblocking(&writer, false);
        let (begin, may_begin) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut received = Vec::new();
            may_begin.recv().unwrap();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        output(&writer, || {
            block_on(async {
                let mut stdout = stdout().unwrap();
                assert!(is_blocking(writer.as_fd()));
                stdout.write(&[b'a'; 200_000]);
                begin.send(()).unwrap();
            });
        });
        drop(writer);
        let received = thread.join().unwrap();
        assert_eq!(received.len(), filled + 200_000);
        assert!(received[filled..].iter().all(|&byte| byte == b'a'));
    });
}

/// A reader that goes away is noticed, and is no more than an error of the writer's.
#[test]
fn output_to_nobody() {
    alone("output_to_nobody", || {
        on_each_loop(|el| {
            let (reader, writer) = pipe();
            output(&writer, || {
                complete(el, async {
                    let mut stdout = stdout().unwrap();
                    stdout.write(b"x");
                    stdout.drain().await.unwrap();
                    drop(reader);
                    stdout.wait_closed().await.unwrap();
                    stdout.write(b"y");
                    assert_eq!(stdout.drain().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
                });
            });
            settle(el);
        });
        // Gone before: the open file cannot be made anew, and the flag comes back.
        let (reader, writer) = pipe();
        drop(reader);
        output(&writer, || {
            block_on(async {
                let stdout = stdout().unwrap();
                let _ = stdout.wait_closed().await;
            });
        });
        assert!(is_blocking(writer.as_fd()));
    });
}

#[test]
fn output_to_full_devices() {
    alone("output_to_full_devices", || {
        on_each_loop(|el| {
            output(open_now(Path::new("/dev/full"), OFlags::WRONLY), || {
                complete(el, async {
                    let mut stdout = stdout().unwrap();
                    stdout.write(b"x");
                    assert_eq!(stdout.wait_closed().await.unwrap_err().kind(), ErrorKind::StorageFull);
                });
            });
            settle(el);
        });
    });
}

#[test]
fn the_standard_error() {
    alone("the_standard_error", || {
        on_each_loop(|el| {
            let (mut reader, writer) = pipe();
            let before = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
            dup2_stderr(&writer).unwrap();
            complete(el, async {
                let mut stderr = stderr().unwrap();
                stderr.write(b"an error");
                stderr.close();
                stderr.wait_closed().await.unwrap();
            });
            dup2_stderr(before).unwrap();
            drop(writer);
            settle(el);
            let mut received = String::new();
            reader.read_to_string(&mut received).unwrap();
            assert_eq!(received, "an error");
        });
    });
}

/// RW-01: a standard stream that is simply dropped is nothing to be warned of.
#[test]
fn no_warnings() {
    let stderr = in_a_child("no_warnings", || {
        let mut runner = roundelay::Runner::builder().debug(true).build();
        runner
            .run(async {
                let (_stdin, _stdout) = (stdin().unwrap(), stdout().unwrap());
                roundelay::yield_now().await;
            })
            .unwrap();
        let kept = runner.run(async { stderr().unwrap() }).unwrap();
        runner.close();
        drop(kept);
    });
    let Some(stderr) = stderr else { return };
    assert!(!stderr.contains("warning"), "{stderr}");
}
