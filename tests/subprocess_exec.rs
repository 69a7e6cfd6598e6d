//! What can be set about a child process.

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/processes.rs"]
mod processes;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use collector::{collect, in_a_child};
use common::{complete, on_loop, open_descriptors, run_until};
use processes::unsafe_calls;
use processes::{NONE, Told, await_zombie, gate, inherited, is_reaped};
use roundelay::{
    CreateSubprocess, EventLoop, Process, StartError, Stdio, create_subprocess_exec, create_subprocess_shell,
};
use rustix::io::{FdFlags, fcntl_getfd};

/// What a program writes to its output, without the line's end. It must succeed.
fn output(el: &EventLoop, make: impl FnOnce() -> CreateSubprocess + 'static) -> String {
    let output = complete(el, async move { make().stdout(Stdio::piped()).await?.output().await }).unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn output_of(el: &EventLoop, command: &'static str) -> String {
    output(el, move || create_subprocess_shell(command))
}

/// Runs a shell's command to its end, which must be a good one.
fn run(el: &EventLoop, command: &str, set: impl FnOnce(CreateSubprocess) -> CreateSubprocess + 'static) {
    let command = command.to_owned();
    let status = complete(el, async move { set(create_subprocess_shell(command)).await?.wait().await }).unwrap();
    assert!(status.success(), "{status}");
}

/// Why a program cannot be started.
fn refused(el: &EventLoop, make: impl FnOnce() -> CreateSubprocess + 'static) -> io::Error {
    let before = (open_descriptors(), el.stats().transports);
    let (error, written) = collect(|| complete(el, async move { make().await.map(drop) }).unwrap_err());
    assert_eq!((open_descriptors(), el.stats().transports), before);
    assert!(written.is_empty(), "{written:?}");
    error
}

fn sorted(mut numbers: Vec<i32>) -> Vec<i32> {
    numbers.sort_unstable();
    numbers
}

fn numbers(text: &str) -> Vec<i32> {
    sorted(text.split_whitespace().map(|number| number.parse().unwrap()).collect())
}

fn contents(mut file: &File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

on_every_loop! {
    /// SP-01: a program gets its arguments as they are, and a shell its command.
    fn arguments(el) {
        let args = ["%s|", "two words", "", "*", "$HOME", "'"];
        assert_eq!(output(el, move || create_subprocess_exec("printf", args)), "two words||*|$HOME|'|");
        let more = || create_subprocess_exec("printf", ["%s|"]).arg("one").args(["two", "three"]);
        assert_eq!(output(el, more), "one|two|three|");
        assert_eq!(output_of(el, "x=6; echo $((x * 7))"), "42");
    }

    /// SP-01: each stream is a pipe, /dev/null, a file, a socket, or what this process has.
    fn kinds_of_streams(el) {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(b"from a file\n").unwrap();
        input.rewind().unwrap();
        let (theirs, theirs_too) = (out.try_clone().unwrap(), err.try_clone().unwrap());
        run(el, "cat; echo wrong >&2", |it| it.stdin(input).stdout(theirs).stderr(theirs_too));
        assert_eq!((contents(&out), contents(&err)), ("from a file\n".into(), "wrong\n".into()));

        run(el, "test -z \"$(cat)\" && test -c /dev/stdin && echo lost && echo lost >&2", |it| {
            it.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
        });

        let (mut ours, theirs) = UnixStream::pair().unwrap();
        run(el, "echo by socket", |it| it.stdout(theirs));
        let mut received = String::new();
        ours.read_to_string(&mut received).unwrap();
        assert_eq!(received, "by socket\n");

        let own = fs::read_link("/proc/self/fd/0").unwrap();
        let theirs = output_of(el, "readlink /proc/self/fd/0");
        assert_eq!(theirs, own.to_str().unwrap());
    }

    /// SP-01: errors go where the output goes, whatever that is.
    fn errors_to_the_output(el) {
        let (process, told) = (el, Told::new());
        let start = process.subprocess_shell(told.protocol(), "echo one; echo two >&2; echo three");
        complete(el, start.stderr(Stdio::to_stdout())).unwrap();
        run_until(el, || told.is_over());
        assert_eq!(told.received(), "one\ntwo\nthree\n");

        let file = tempfile::tempfile().unwrap();
        let theirs = file.try_clone().unwrap();
        run(el, "echo one; echo two >&2", |it| it.stdout(theirs).stderr(Stdio::to_stdout()));
        assert_eq!(contents(&file), "one\ntwo\n");

        let same = "test \"$(readlink /proc/$$/fd/1)\" = \"$(readlink /proc/$$/fd/2)\"";
        run(el, same, |it| it.stdout(Stdio::null()).stderr(Stdio::to_stdout()));
        run(el, same, |it| it.stdout(Stdio::inherit()).stderr(Stdio::to_stdout()));
    }

    /// SP-34: outputs that change places do.
    fn swapped_outputs(el) {
        let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        for (a, b) in [(0, 1), (1, 0)] {
            let [out, err] = [a, b].map(|place: usize| files[place].try_clone().unwrap());
            run(el, "echo out; echo err >&2", |it| it.stdout(out).stderr(err));
        }
        assert_eq!(files.each_ref().map(contents), ["out\nerr\n", "err\nout\n"]);
    }

    /// SP-12: what cannot be started is an error of the call, which names it; nothing is told, and nothing is left.
    fn programs_that_cannot_be_started(el) {
        let error = refused(el, || create_subprocess_exec("no-such-program-here", ["x"]));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = "cannot start \"no-such-program-here\": No such file or directory (os error 2)";
        assert_eq!(error.to_string(), text);
        let inner: &StartError = error.get_ref().unwrap().downcast_ref().unwrap();
        assert_eq!(inner.program, "no-such-program-here");
        assert_eq!(inner.error.raw_os_error(), Some(2));
        assert_eq!(inner.source().unwrap().to_string(), inner.error.to_string());

        let error = refused(el, || create_subprocess_exec("ls", NONE).current_dir("/no/such/dir"));
        assert_eq!(error.to_string(), "cannot start \"ls\" in \"/no/such/dir\": No such file or directory (os error 2)");

        let error = refused(el, || create_subprocess_exec("/etc/passwd", NONE).stdout(Stdio::piped()));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);

        let told = Told::new();
        let error = complete(el, el.subprocess_exec(told.protocol(), "/no/such/program", NONE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(told.take().is_empty());

        // A name that no program can have.
        let error = refused(el, || create_subprocess_exec("true", ["a\0b"]));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    /// SP-12: settings that do not go together are refused by name.
    fn settings_that_do_not_go_together(el) {
        let error = refused(el, || create_subprocess_exec("true", NONE).stdin(Stdio::to_stdout()));
        let text = "create_subprocess_exec: Stdio::to_stdout() is for stderr() alone, and was given to stdin()";
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, text));
        let error = refused(el, || create_subprocess_shell("true").stdout(Stdio::to_stdout()));
        assert!(error.to_string().starts_with("create_subprocess_shell: Stdio::to_stdout() is for"), "{error}");
        let error = refused(el, || create_subprocess_exec("true", NONE).start_new_session(true).process_group(0));
        let text = "create_subprocess_exec: start_new_session() and process_group() exclude each other";
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, text));
        let error = refused(el, || create_subprocess_exec("true", NONE).limit(0));
        assert_eq!(error.to_string(), "create_subprocess_exec: limit() must be above zero");
        let told = Told::new();
        let error = complete(el, el.subprocess_exec(told.protocol(), "true", NONE).stdin(Stdio::to_stdout())).unwrap_err();
        assert!(error.to_string().starts_with("subprocess_exec: Stdio::to_stdout()"), "{error}");
    }

    /// SP-13: a hundred processes leave no descriptor.
    fn no_descriptor_is_left(el) {
        let before = open_descriptors();
        for _ in 0..if cfg!(debug_assertions) { 20 } else { 100 } {
            assert_eq!(output_of(el, "echo x"), "x");
        }
        assert_eq!(open_descriptors(), before);
    }

    /// SP-14: no process has our end of another one's input, so that closing it is the end of that one's input; nor has it
    /// any other descriptor of ours.
    fn nobody_else_has_the_input(el) {
        let told = [Told::new(), Told::new()];
        let [first, second] = told.each_ref().map(|told| {
            complete(el, el.subprocess_exec(told.protocol(), "cat", NONE)).unwrap().0
        });
        first.pipe_transport(0).unwrap().close();
        run_until(el, || told[0].is_over());
        assert_eq!((first.returncode(), second.returncode()), (Some(0), None));
        second.close();
        run_until(el, || told[1].is_over());
        let _open = TcpListener::bind("127.0.0.1:0").unwrap();
        let seen = output(el, || create_subprocess_exec("ls", ["/proc/self/fd"]).stdin(Stdio::piped()));
        // The first free number is ls's own.
        let mut expected = inherited();
        expected.extend((3..).find(|fd| !expected.contains(fd)));
        assert_eq!(numbers(&seen), sorted(expected));
    }

    /// SP-15: a program may open its input by name.
    fn dev_stdin(el) {
        let (out, _) = complete(el, async {
            let cat = create_subprocess_exec("cat", ["/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            cat.await?.communicate(Some(b"by name")).await
        })
        .unwrap();
        assert_eq!(out.unwrap(), b"by name");
    }

    /// SP-22: variables are added, left out, or make up the whole environment, though that is none.
    fn environment(el) {
        let added = || create_subprocess_shell("echo $ADDED $MORE").env("ADDED", "a").envs([("MORE", "b")]);
        assert_eq!(output(el, added), "a b");
        let inherited = || create_subprocess_exec("printenv", ["PATH"]);
        assert_eq!(output(el, inherited), std::env::var("PATH").unwrap());
        let removed = || create_subprocess_shell("echo ${CARGO_MANIFEST_DIR-none}").env_remove("CARGO_MANIFEST_DIR");
        assert_eq!(output(el, removed), "none");
        let none = || create_subprocess_exec("/usr/bin/env", NONE).env_clear();
        assert_eq!(output(el, none), "");
        let only = || create_subprocess_exec("/usr/bin/env", NONE).env("BEFORE", "x").env_clear().env("ONLY", "this");
        assert_eq!(output(el, only), "ONLY=this");
    }

    /// SP-22: a directory, and a name that is not the program's.
    fn directory_and_name(el) {
        assert_eq!(output(el, || create_subprocess_exec("pwd", ["-P"]).current_dir("/usr")), "/usr");
        let named = || create_subprocess_exec("/bin/sh", ["-c", "echo $0; tr '\\0' '\\n' < /proc/$$/cmdline | head -n 1"]).arg0("other");
        assert_eq!(output(el, named), "other\nother");
    }

    /// SP-22: a session, or a group, of its own.
    fn sessions_and_groups(el) {
        // What comes behind the name in brackets: state, parent, group, session.
        let show = "cut -d ' ' -f 5,6 /proc/$$/stat; echo $$";
        let fields = |text: String| -> Vec<i32> { text.split_whitespace().map(|word| word.parse().unwrap()).collect() };
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let own: Vec<i32> = own.rsplit(") ").next().unwrap().split(' ').skip(2).take(2).map(|n| n.parse().unwrap()).collect();
        let plain = fields(output_of(el, show));
        assert_eq!(plain[..2], own);
        let session = fields(output(el, move || create_subprocess_shell(show).start_new_session(true)));
        assert_eq!((session[0], session[1]), (session[2], session[2]));
        let group = fields(output(el, move || create_subprocess_shell(show).process_group(0)));
        assert_eq!((group[0], group[1]), (group[2], own[1]));
        let not = fields(output(el, move || create_subprocess_shell(show).start_new_session(false)));
        assert_eq!(not[..2], own);
    }

    /// SP-22: descriptors that are passed have their numbers, and only those; they are closed on this side.
    fn descriptors_are_passed(el) {
        let mut file = tempfile::tempfile().unwrap();
        write!(file, "passed").unwrap();
        let (other, more) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
        let passed = [file.as_raw_fd(), more.as_raw_fd()];
        let before = open_descriptors();
        let (theirs, theirs_too): (OwnedFd, OwnedFd) = (file.into(), more.into());
        let command = format!("cat /dev/fd/{}; ls /proc/$$/fd", passed[0]);
        let shown = output(el, move || create_subprocess_shell(command).pass_fds([theirs, theirs_too]));
        let expected = [inherited(), passed.to_vec()].concat();
        let seen = numbers(shown.strip_prefix("passed").unwrap());
        assert_eq!(seen, sorted(expected));
        assert_eq!(open_descriptors(), before - 2);
        // Marked for everybody else as it was.
        assert!(fcntl_getfd(&other).unwrap().contains(FdFlags::CLOEXEC));
    }

    /// SP-22: what runs before the program does so in its order, after all else; its error is that of the call.
    fn before_the_program(el) {
        let hooked = || create_subprocess_shell("umask; test $(cut -d ' ' -f 6 /proc/$$/stat) = $$").start_new_session(true);
        assert_eq!(output(el, move || hooked().pre_exec(unsafe_calls::set_umask(0o13)).pre_exec(unsafe_calls::set_umask(0o31))), "0031");
        let error = refused(el, || {
            create_subprocess_exec("true", NONE).stdout(Stdio::piped()).pre_exec(unsafe_calls::failing_hook(libc::EDOM))
        });
        let inner: &StartError = error.get_ref().unwrap().downcast_ref().unwrap();
        assert_eq!(inner.error.raw_os_error(), Some(libc::EDOM));
    }

    /// SP-22: whatever the standard library's command can do can be done, but for the streams.
    fn any_command(el) {
        let set = || {
            create_subprocess_exec("false", NONE).command(|command| {
                *command = Command::new("echo");
                command.arg("another").stdout(std::process::Stdio::null());
            })
        };
        assert_eq!(output(el, set), "another");
    }

    /// SP-22: another user or group is asked for, where that is allowed; else the call says so.
    fn another_user(el) {
        let make = || create_subprocess_shell("id -u; id -g").uid(65534).gid(65534).stdout(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            assert_eq!(output(el, make), "65534\n65534");
        } else {
            assert_eq!(refused(el, make).kind(), ErrorKind::PermissionDenied);
        }
    }

    /// SP-33: a process begins with no signal blocked, and with SIGPIPE as it is for everybody.
    fn signals_are_reset(el) {
        fn set(text: &str, name: &str) -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        }
        const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(set(&own, "SigIgn:") & SIGPIPE != 0 && set(&own, "SigCgt:") != 0);
        let started = unsafe_calls::with_blocked(libc::SIGUSR1, || {
            let own = fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(set(&own, "SigBlk:") != 0);
            // In either way of starting a program.
            [false, true].map(|session| {
                output(el, move || create_subprocess_exec("cat", ["/proc/self/status"]).start_new_session(session))
            })
        });
        for theirs in started {
            assert_eq!((set(&theirs, "SigBlk:"), set(&theirs, "SigIgn:") & SIGPIPE, set(&theirs, "SigCgt:")), (0, 0, 0));
        }
    }

    /// A process is killed with the last handle to it, if that is asked for, and goes on otherwise.
    fn killed_with_the_last_handle(el) {
        let (told, kept) = (Told::new(), Told::new());
        let start = el.subprocess_exec(told.protocol(), "cat", NONE).kill_on_drop(true);
        let (process, _) = complete(el, start).unwrap();
        let clone = process.clone();
        let wait = process.wait();
        drop(process);
        common::settle(el);
        assert_eq!(clone.returncode(), None);
        drop(clone);
        assert!(!complete(el, wait).unwrap().success());
        run_until(el, || told.is_over());
        assert!(told.has("exited -9"));

        let (process, _) = complete(el, el.subprocess_exec(kept.protocol(), "cat", NONE)).unwrap();
        let (stdin, pid) = (process.pipe_transport(0).unwrap(), process.pid());
        drop(process);
        common::settle(el);
        assert!(!is_reaped(pid));
        stdin.close();
        run_until(el, || kept.is_over());
        assert!(kept.has("exited 0"));
    }
}

/// SP-12, SP-34: a process whose own standard streams are closed, so that descriptors have their numbers: what is for a child
/// gets to its place all the same, and such a number is not passed.
#[test]
fn streams_in_each_others_places() {
    let body = || {
        let el = &EventLoop::new().unwrap();
        unsafe_calls::close_stdin();
        // Has the number 0 now, and is to be the output.
        let file = tempfile::tempfile().unwrap();
        assert_eq!(file.as_raw_fd(), 0);
        let kept = file.as_fd().try_clone_to_owned().unwrap();
        run(el, "echo out", |it| it.stdout(file).stdin(Stdio::null()));
        let kept = File::from(kept);
        assert_eq!(contents(&kept), "out\n");
        // The pipe's end is 0 where the input is to be, and where it is not.
        assert_eq!(output_of(el, "echo by pipe"), "by pipe");
        let (out, _) = complete(el, async {
            let cat = create_subprocess_exec("cat", NONE).stdin(Stdio::piped()).stdout(Stdio::piped());
            cat.await?.communicate(Some(b"through")).await
        })
        .unwrap();
        assert_eq!(out.unwrap(), b"through");
        let zero = File::open("/dev/null").unwrap();
        assert_eq!(zero.as_raw_fd(), 0);
        let make = || create_subprocess_exec("true", NONE).pass_fds([zero]);
        let error = complete(el, async { make().await.map(drop) }).unwrap_err();
        let text = "create_subprocess_exec: descriptor 0 of pass_fds() has the number of a standard stream: see stdin(), \
                        stdout() and stderr()";
        assert_eq!(error.to_string(), text);
    };
    in_a_child("streams_in_each_others_places", body);
}

/// What a builder says of itself.
#[test]
fn builders_as_text() {
    on_loop(|el| {
        let told = Told::new();
        let start = el.subprocess_exec(told.protocol(), "ls", ["-l"]).stderr(Stdio::to_stdout()).stdin(Stdio::null());
        let text = format!("{start:?}");
        assert!(
            text.contains("\"ls\" \"-l\"") && text.contains("stdin: null, stdout: piped, stderr: to_stdout"),
            "{text}"
        );
        let text = complete(el, async { format!("{:?}", create_subprocess_shell("exit 1")) });
        assert!(text.contains("\"/bin/sh\" \"-c\" \"exit 1\"") && text.contains("stdin: inherit"), "{text}");
        let (gate, theirs) = gate();
        let command = format!("cat {}", gate.path);
        let process: Process =
            complete(el, async move { create_subprocess_shell(command).pass_fds([theirs]).await }).unwrap();
        assert!(format!("{process:?}").starts_with("<Process <SubprocessTransport "), "{process:?}");
        drop(gate);
        await_zombie(process.pid());
        complete(el, process.wait()).unwrap();
    });
}
