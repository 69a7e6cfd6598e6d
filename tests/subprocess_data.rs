//! What goes to and comes from child processes: much data, little data, both ways, and ends that come early.

mod common;

#[path = "common/children.rs"]
mod children;

use std::io::ErrorKind;
use std::time::Duration;

use common::{complete, on_loop, run_until};
use roundelay::{EventLoop, Process, ReadError, Stdio, create_subprocess_exec, create_subprocess_shell, yield_now};

use children::{eventually, exec, has_children, has_ended_children, no_child_is_left, shell};

/// Bytes that differ from their neighbours, so that none may be lost or change places.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn line(process: &mut Process) -> String {
    let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
    String::from_utf8(line).unwrap()
}

fn write(process: &mut Process, data: &[u8]) {
    process.stdin.as_mut().unwrap().write(data);
}

/// SP-19: a megabyte comes back from a child that echoes one byte at a time.
#[test]
fn a_megabyte_byte_by_byte() {
    on_loop(|el| {
        let data = pattern(1_000_000);
        complete(el, async {
            let mut process = exec("dd", &["bs=1", "status=none"]).await.unwrap();
            let (out, err) = process.communicate(Some(&data)).await.unwrap();
            assert!(out.unwrap() == data, "something was lost or changed");
            assert_eq!(err.unwrap(), b"");
            assert_eq!(process.returncode(), Some(0));
        });
        no_child_is_left();
    });
}

/// Lets the loop stand still in each turn until a child has ended, if there is one.
fn let_children_end(el: &EventLoop) {
    if has_children() {
        eventually("the child has ended", has_ended_children);
    }
    let again = el.clone();
    el.call_soon(move || let_children_end(&again));
}

on_every_loop! {
    /// SP-05: what a child has written, and that it has ended, is known before anybody has the process: it is kept for the
    /// streams.
    fn a_child_that_is_faster_than_its_creation(el) {
        let_children_end(el);
        complete(el, async {
            for _ in 0..5 {
                let mut process = shell("echo out; echo err >&2; exit 3").await.unwrap();
                let (out, err) = process.communicate(None).await.unwrap();
                assert_eq!((out.unwrap(), err.unwrap()), (b"out\n".to_vec(), b"err\n".to_vec()));
                assert_eq!(process.returncode(), Some(3));
            }
        });
        no_child_is_left();
    }

    /// SP-05: whoever has begun to create a child, and then looks elsewhere until it has ended, has lost nothing.
    fn a_creation_that_nobody_polls(el) {
        complete(el, async {
            for polls in 1.. {
                let mut creating = shell("echo out; echo err >&2; exit 3").into_future();
                let done = common::poll_times(&mut creating, polls).await;
                while has_children() {
                    yield_now().await;
                }
                for _ in 0..10 {
                    yield_now().await;
                }
                let is_done = done.is_some();
                let mut process = match done {
                    Some(process) => process.unwrap(),
                    None => creating.await.unwrap(),
                };
                let (out, err) = process.communicate(None).await.unwrap();
                assert_eq!((out.unwrap(), err.unwrap()), (b"out\n".to_vec(), b"err\n".to_vec()));
                assert_eq!(process.wait().await.unwrap().code(), Some(3));
                if is_done {
                    break;
                }
            }
        });
    }

    /// SP-19: what is written in single bytes, and read in small pieces.
    fn single_bytes_to_the_child(el) {
        let data = pattern(20_000);
        complete(el, async {
            let mut process = exec("cat", &[]).await.unwrap();
            let mut stdin = process.stdin.take().unwrap();
            let given = data.clone();
            let writing = el.create_task(async move {
                for byte in given {
                    stdin.write(&[byte]);
                    stdin.drain().await.unwrap();
                }
            });
            let stdout = process.stdout.as_mut().unwrap();
            let mut back = Vec::new();
            loop {
                let piece = stdout.read(7).await.unwrap();
                if piece.is_empty() {
                    break;
                }
                back.extend(piece);
            }
            assert!(back == data);
            writing.await.unwrap();
            assert_eq!(process.wait().await.unwrap().code(), Some(0));
        });
        no_child_is_left();
    }

    /// SP-19: the sizes at which a pipe, or what is queued behind it, is just full.
    fn sizes_at_the_boundaries(el) {
        complete(el, async {
            for len in [1, 65_535, 65_536, 65_537, 131_072, 219_263, 219_264] {
                let data = pattern(len);
                let mut process = exec("cat", &[]).await.unwrap();
                let (out, _) = process.communicate(Some(&data)).await.unwrap();
                assert!(out.unwrap() == data, "{len} bytes");
                let mut process = exec("wc", &["-c"]).await.unwrap();
                let (out, _) = process.communicate(Some(&data)).await.unwrap();
                assert_eq!(String::from_utf8(out.unwrap()).unwrap().trim(), len.to_string());
            }
        });
        no_child_is_left();
    }

    /// SP-19: a child that writes more than a pipe holds, to both, before it reads the first byte.
    fn a_child_that_writes_first(el) {
        let data = pattern(300_000);
        let command = "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2; cat; exit 9";
        complete(el, async {
            let mut process = shell(command).await.unwrap();
            let (out, err) = process.communicate(Some(&data)).await.unwrap();
            let out = out.unwrap();
            assert_eq!(out.len(), 600_000);
            assert!(out[300_000..] == data);
            assert_eq!(err.unwrap().len(), 200_000);
            assert_eq!(process.returncode(), Some(9));
        });
        no_child_is_left();
    }

    /// SP-20: what a child has written before its end is there after it, for whoever takes the time.
    fn output_after_the_end(el) {
        complete(el, async {
            let mut process = shell("head -c 50000 /dev/zero; echo; echo last").limit(1000).await.unwrap();
            assert_eq!(process.wait().await.unwrap().code(), Some(0));
            let stdout = process.stdout.as_mut().unwrap();
            let mut count = 0;
            while count < 50_000 {
                count += stdout.read(700.min(50_000 - count)).await.unwrap().len();
                for _ in 0..3 {
                    yield_now().await;
                }
            }
            assert_eq!(stdout.read_to_end().await.unwrap(), b"\nlast\n");
            assert!(stdout.at_eof());
        });
        no_child_is_left();
    }

    /// SP-20: more than the pipe and the reader hold, slowly, line by line: the child ends meanwhile, and nothing is lost.
    fn slow_reader_of_a_child_that_ends(el) {
        complete(el, async {
            let command = "i=0; while [ $i -lt 6000 ]; do echo $i and what makes a line longer; i=$((i+1)); done";
            let mut process = shell(command).await.unwrap();
            for i in 0..6_000 {
                if i % 100 == 0 {
                    yield_now().await;
                }
                assert_eq!(line(&mut process).await, format!("{i} and what makes a line longer\n"));
            }
            assert_eq!(line(&mut process).await, "");
            assert_eq!(process.wait().await.unwrap().code(), Some(0));
        });
        no_child_is_left();
    }

    /// SP-21: above twice the limit no more is read, so that the child has to wait, and reading goes on when there is room.
    fn reading_pauses_around_twice_the_limit(el) {
        let mut process = complete(el, async { exec("yes", &[]).limit(4096).await.unwrap() });
        let pipe = process.handle().pipe_transport(1).unwrap();
        run_until(el, || !pipe.is_reading());
        for _ in 0..50 {
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(!pipe.is_reading());
        // The pipe gets full, and the child waits.
        run_until(el, || children::state(process.pid()) == Some('S'));
        complete(el, async {
            let mut stdout = process.stdout.take().unwrap();
            for _ in 0..500 {
                assert_eq!(stdout.readexactly(1000).await.unwrap(), b"y\n".repeat(500));
            }
            process.kill().unwrap();
            process.wait().await.unwrap();
            assert_eq!(process.returncode(), Some(-9));
            let rest = stdout.read_to_end().await.unwrap().len();
            assert!(rest < 1 << 20, "{rest} bytes were kept for a reader with a limit of 4 KiB");
        });
        no_child_is_left();
    }

    /// SP-24: a child whose output nobody takes any more hears of that, and its other pipes go on.
    fn closed_output(el) {
        complete(el, async {
            let command = "trap '' PIPE; read a; echo lost || echo 'cannot write' >&2; read b; echo \"$b\" >&2; exit 6";
            let mut process = shell(command).await.unwrap();
            let stdout = process.stdout.take().unwrap();
            let pipe = process.handle().pipe_transport(1).unwrap();
            drop(stdout);
            // The descriptor is closed in a turn of its own.
            while pipe.extra_info().pipe.is_some_and(|pipe| pipe.raw_fd().is_some()) {
                yield_now().await;
            }
            assert!(pipe.is_closing());
            write(&mut process, b"go\n");
            let stderr = process.stderr.as_mut().unwrap();
            let mut told = String::new();
            while !told.ends_with("cannot write\n") {
                told = String::from_utf8(stderr.readline().await.unwrap()).unwrap();
                assert!(!told.is_empty(), "the child has not noticed");
            }
            process.stdin.as_mut().unwrap().write(b"and on\n");
            assert_eq!(process.stderr.as_mut().unwrap().readline().await.unwrap(), b"and on\n");
            assert_eq!(process.wait().await.unwrap().code(), Some(6));
        });
        no_child_is_left();
    }

    /// SP-24: without anything to the contrary such a child is ended by SIGPIPE, which it does not ignore though we do.
    fn closed_output_ends_the_child(el) {
        complete(el, async {
            let mut process = exec("yes", &[]).await.unwrap();
            assert_eq!(process.stdout.as_mut().unwrap().readline().await.unwrap(), b"y\n");
            process.stdout = None;
            process.wait().await.unwrap();
            assert_eq!(process.returncode(), Some(-13));
        });
        no_child_is_left();
    }

    /// SP-25: question and answer.
    fn interactive(el) {
        complete(el, async {
            let mut process = shell("while read line; do echo \"<$line>\"; done; echo bye; exit 2").await.unwrap();
            for i in 0..50 {
                write(&mut process, format!("{i}\n").as_bytes());
                process.stdin.as_ref().unwrap().drain().await.unwrap();
                assert_eq!(line(&mut process).await, format!("<{i}>\n"));
            }
            process.stdin = None;
            assert_eq!(line(&mut process).await, "bye\n");
            assert_eq!(line(&mut process).await, "");
            assert_eq!(process.wait().await.unwrap().code(), Some(2));
        });
        no_child_is_left();
    }

    /// SP-30: each of ten children at once has its own output, errors, and status.
    fn ten_at_once(el) {
        complete(el, async {
            let tasks: Vec<_> = (0..10).map(|i| el.create_task(async move {
                let mut process = shell("read n; echo \"out $n\"; echo \"err $n\" >&2; exit $n").await.unwrap();
                let (out, err) = process.communicate(Some(format!("{i}\n").as_bytes())).await.unwrap();
                assert_eq!(out.unwrap(), format!("out {i}\n").into_bytes());
                assert_eq!(err.unwrap(), format!("err {i}\n").into_bytes());
                assert_eq!(process.returncode(), Some(i));
            })).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        no_child_is_left();
    }

    /// SP-32: a signal that the child handles comes between what it reads and writes, and disturbs neither.
    fn a_signal_that_the_child_handles(el) {
        complete(el, async {
            let command = "trap 'echo usr1' USR1; echo ready; \
                           while :; do if read line; then echo \"$line\"; [ \"$line\" = end ] && exit 3; fi; done";
            let mut process = shell(command).await.unwrap();
            assert_eq!(line(&mut process).await, "ready\n");
            for _ in 0..5 {
                write(&mut process, b"before\n");
                assert_eq!(line(&mut process).await, "before\n");
                // Between two looks at what was signalled the shell would go on reading first.
                while children::state(process.pid()) != Some('S') {
                    yield_now().await;
                }
                process.send_signal(libc::SIGUSR1).unwrap();
                assert_eq!(line(&mut process).await, "usr1\n");
                write(&mut process, b"after\n");
                assert_eq!(line(&mut process).await, "after\n");
            }
            assert_eq!(process.returncode(), None);
            write(&mut process, b"end\n");
            assert_eq!(line(&mut process).await, "end\n");
            assert_eq!(process.wait().await.unwrap().code(), Some(3));
        });
        no_child_is_left();
    }

    /// SP-17: a child that does not want its input is no error of `communicate`, whether it ends or only closes it.
    fn communicate_with_one_that_does_not_read(el) {
        let much = pattern(1_000_000);
        complete(el, async {
            for (command, code) in [("echo out; exit 5", 5), ("exec <&-; echo out; echo more >&2; exit 6", 6), ("read x; echo out", 0)] {
                let mut process = shell(command).await.unwrap();
                let (out, _) = process.communicate(Some(&much)).await.unwrap();
                assert_eq!(out.unwrap(), b"out\n", "{command}");
                assert_eq!(process.returncode(), Some(code), "{command}");
            }
        });
        no_child_is_left();
    }

    /// SP-18: whoever writes to a child that is gone, or has closed its input, hears of it from `drain`.
    fn broken_stdin(el) {
        let much = pattern(1_000_000);
        complete(el, async {
            for command in ["read x; exit", "read x; exec <&-; exec sleep 60"] {
                let mut process = shell(command).await.unwrap();
                write(&mut process, b"\n");
                write(&mut process, &much);
                let error = process.stdin.as_ref().unwrap().drain().await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
                // And again, and it is closed.
                assert!(process.stdin.as_ref().unwrap().is_closing());
                process.stdin.as_mut().unwrap().write(b"more");
                let error = process.stdin.as_ref().unwrap().drain().await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
                let _ = process.kill();
                process.wait().await.unwrap();
            }
        });
        no_child_is_left();
    }

    /// SP-18: so does one who writes when the child has been waited for.
    fn stdin_of_one_that_has_exited(el) {
        complete(el, async {
            let mut process = exec("true", &[]).await.unwrap();
            process.wait().await.unwrap();
            let mut failed = None;
            for _ in 0..1000 {
                write(&mut process, b"hello\n");
                if let Err(error) = process.stdin.as_ref().unwrap().drain().await {
                    failed = Some(error);
                    break;
                }
                yield_now().await;
            }
            let error = failed.expect("a child that is gone cannot be written to");
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        });
        no_child_is_left();
    }
}

on_every_loop! {
    /// SP-16: no input, and an empty one, close it alike.
    fn communicate_without_input(el) {
        complete(el, async {
            for input in [None, Some(&b""[..])] {
                let mut process = exec("cat", &[]).await.unwrap();
                assert_eq!(process.communicate(input).await.unwrap(), (Some(vec![]), Some(vec![])));
                assert_eq!(process.returncode(), Some(0));
            }
        });
        no_child_is_left();
    }

    /// SP-16: streams that are no pipes, or go elsewhere, or were taken, are `None`.
    fn communicate_about_some_streams(el) {
        complete(el, async {
            let nothing = create_subprocess_shell("echo x; echo y >&2; exit 4")
                .stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = nothing.await.unwrap();
            assert_eq!(process.communicate(None).await.unwrap(), (None, None));
            assert_eq!(process.returncode(), Some(4));

            let mut process = create_subprocess_shell("echo out; echo err >&2")
                .stdout(Stdio::piped()).stderr(Stdio::to_stdout()).await.unwrap();
            assert!(process.stdin.is_none() && process.stderr.is_none());
            assert_eq!(process.communicate(None).await.unwrap(), (Some(b"out\nerr\n".to_vec()), None));

            let mut process = shell("echo out; echo err >&2").await.unwrap();
            let mut stdout = process.stdout.take().unwrap();
            assert_eq!(process.communicate(None).await.unwrap(), (None, Some(b"err\n".to_vec())));
            assert_eq!(stdout.read_to_end().await.unwrap(), b"out\n");
        });
        no_child_is_left();
    }

    /// SP-16: input for a stream that is no pipe is refused, by the name of the method, and the child is none the worse.
    fn communicate_with_input_for_nobody(el) {
        complete(el, async {
            let mut process = create_subprocess_exec("cat", [""; 0])
                .stdin(Stdio::null()).stdout(Stdio::piped()).await.unwrap();
            let error = process.communicate(Some(b"x")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("communicate") && error.to_string().contains("stdin"), "{error}");
            assert_eq!(process.communicate(None).await.unwrap(), (Some(vec![]), None));
        });
        no_child_is_left();
    }

    /// SP-16: what was written and read before is not written and read again.
    fn communicate_after_a_conversation(el) {
        complete(el, async {
            let mut process = exec("cat", &[]).await.unwrap();
            write(&mut process, b"one\ntwo\n");
            assert_eq!(line(&mut process).await, "one\n");
            let (out, _) = process.communicate(Some(b"three\n")).await.unwrap();
            assert_eq!(out.unwrap(), b"two\nthree\n");
            // It is over, and may be asked again.
            assert_eq!(process.communicate(None).await.unwrap(), (Some(vec![]), Some(vec![])));
            assert_eq!(process.wait().await.unwrap().code(), Some(0));
        });
        no_child_is_left();
    }

    /// SP-16: of a child that is killed meanwhile there is what it has written until then.
    fn communicate_with_one_that_is_killed(el) {
        complete(el, async {
            let mut process = shell("echo first; kill -KILL $$; echo second").await.unwrap();
            assert_eq!(process.communicate(Some(b"x")).await.unwrap().0.unwrap(), b"first\n");
            assert_eq!(process.returncode(), Some(-9));
            assert_eq!(process.status().unwrap().code(), None);
        });
        no_child_is_left();
    }

    /// SP-06: `communicate` reads until nobody can write any more, though the child has ended; `wait` does not.
    fn communicate_while_a_grandchild_has_the_pipe(el) {
        complete(el, async {
            let mut process = shell("exec 3<&0; (read x <&3; echo \"late $x\") & exit 8").await.unwrap();
            assert_eq!(process.wait().await.unwrap().code(), Some(8));
            let (out, err) = process.communicate(Some(b"word\n")).await.unwrap();
            assert_eq!((out.unwrap(), err.unwrap()), (b"late word\n".to_vec(), vec![]));
        });
        no_child_is_left();
    }

    /// SP-21: `communicate` reads more than any limit; whoever reads lines is bound by it.
    fn limits(el) {
        complete(el, async {
            let mut process = shell("head -c 500000 /dev/zero").limit(10).await.unwrap();
            assert_eq!(process.communicate(None).await.unwrap().0.unwrap().len(), 500_000);
            let mut process = shell("echo short; echo a line that is too long").limit(10).await.unwrap();
            assert_eq!(line(&mut process).await, "short\n");
            let error = process.stdout.as_mut().unwrap().readline().await.unwrap_err();
            assert!(matches!(error, ReadError::Overrun(_)), "{error:?}");
            process.communicate(None).await.unwrap();
        });
        no_child_is_left();
    }
}
