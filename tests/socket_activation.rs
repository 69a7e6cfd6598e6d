//! Sockets that a process is started with: `listen_fds`, and the example that serves them.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/greeting.rs"]
mod greeting;
#[path = "common/program.rs"]
mod program;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::env;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, id};

use roundelay::{Address, EventLoop, ListenFd, listen_fds};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Signal;

use common::alone;
use fork::{fork, in_own_process};
use greeting::{ask, connect, end, ended};
use program::{Running, example};
use tcp::{Echo, complete, plain_listener, plain_pair};
use unix::Folder;
use unsafe_calls::{put_at_three, set, with_sockets};

/// The tests' own unsafe code.
mod unsafe_calls {
    #![allow(unsafe_code)]

    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const FIRST: RawFd = 3;

    /// Puts descriptors at 3 and so on, and lets programs inherit them.
    fn put(fds: &[RawFd]) -> io::Result<()> {
        // First all of them out of each other's way.
        let mut aside = [-1; 8];
        for (aside, fd) in aside.iter_mut().zip(fds) {
            // SAFETY: the calls are given numbers, and the one below closes nothing that this process uses afterwards.
            *aside = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 100) };
        }
        for (at, fd) in (FIRST..).zip(&aside[..fds.len()]) {
            // SAFETY: see above.
            if unsafe { libc::dup2(*fd, at) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// The same in this process, which was forked for that and has one thread; what was there is gone.
    pub(super) fn put_at_three(fds: &[BorrowedFd<'_>]) {
        put(&fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>()).unwrap();
    }

    /// Starts a program with them.
    pub(super) fn with_sockets(command: &mut Command, sockets: Vec<OwnedFd>) -> &mut Command {
        let fds: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let put_there = move || {
            let _kept = &sockets;
            put(&fds)
        };
        // SAFETY: some calls that may be made after a fork.
        unsafe { command.pre_exec(put_there) }
    }

    /// Sets a variable in a process that has one thread, or none that reads the environment.
    pub(super) fn set(variable: &str, value: &str) {
        // SAFETY: see above.
        unsafe { std::env::set_var(variable, value) };
    }
}

/// Runs `body` in a process that was started with descriptors, and with an environment that tells of them. `pid` is whom it
/// is for: this process if it is none.
#[track_caller]
fn started(fds: &[BorrowedFd<'_>], pid: Option<&str>, variables: &[(&str, &str)], body: impl FnOnce()) {
    let child = fork(|| {
        put_at_three(fds);
        set("LISTEN_PID", &pid.map_or_else(|| id().to_string(), str::to_owned));
        for (variable, value) in variables {
            set(variable, value);
        }
        body();
    });
    child.wait();
}

/// What is left of it in the environment.
fn left() -> Vec<&'static str> {
    let all = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
    all.into_iter().filter(|variable| env::var_os(variable).is_some()).collect()
}

/// Whether programs that this one starts inherit it.
fn is_inherited(fd: RawFd) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    u32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC as u32 == 0
}

fn is_open(fd: RawFd) -> bool {
    std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists()
}

/// Each socket comes once, in order, with its name and its kind; no program inherits it, and the environment is clean.
#[test]
fn each_socket_comes_once() {
    in_own_process(|| {
        let folder = Folder::new();
        let (tcp, address) = plain_listener();
        let unix = UnixListener::bind(folder.path("it")).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (_client, connection) = plain_pair();
        let fds = [tcp.as_fd(), unix.as_fd(), udp.as_fd(), connection.as_fd()];
        let variables = [("LISTEN_FDS", "4"), ("LISTEN_FDNAMES", "web:local::connection")];
        started(&fds, None, &variables, || {
            assert!((3..7).all(is_inherited));
            let sockets = listen_fds().unwrap();
            let names: Vec<_> = sockets.iter().map(ListenFd::name).collect();
            assert_eq!(names, ["web", "local", "", "connection"]);
            let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
            assert_eq!(numbers, [3, 4, 5, 6]);
            let kinds: Vec<_> =
                sockets.iter().map(|fd| (fd.is_listening().unwrap(), fd.is_datagram().unwrap())).collect();
            assert_eq!(kinds, [(true, false), (true, false), (false, true), (false, false)]);
            let addresses: Vec<_> = sockets.iter().map(|fd| fd.local_addr().unwrap()).collect();
            assert_eq!(addresses[..2], [Address::Ip(address), folder.path("it").into()]);
            assert!(!(3..7).any(is_inherited));
            let shown = format!("{:?}", sockets[0]);
            assert!(shown.contains("\"web\"") && shown.contains("fd: 3"), "{shown}");
            assert!(left().is_empty());

            // Who says the same once more is not heard.
            set("LISTEN_PID", &id().to_string());
            set("LISTEN_FDS", "4");
            assert!(listen_fds().unwrap().is_empty());
            drop(sockets);
            assert!((3..7).all(|fd| !is_open(fd)));
        });
    });
}

/// Without names they are all called the same; and where there are other threads, the environment stays as it is.
#[test]
fn without_names_and_among_threads() {
    in_own_process(|| {
        let (tcp, _) = plain_listener();
        started(&[tcp.as_fd(), tcp.as_fd()], None, &[("LISTEN_FDS", "2")], || {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || ended.recv());
            let sockets = listen_fds().unwrap();
            assert_eq!(sockets.iter().map(ListenFd::name).collect::<Vec<_>>(), ["unknown", "unknown"]);
            assert_eq!(left(), ["LISTEN_PID", "LISTEN_FDS"]);
            assert!(listen_fds().unwrap().is_empty());
            drop(end);
            thread.join().unwrap().unwrap_err();
        });
    });
}

/// What is for another process, or says nothing, is left as it is, the descriptors too.
#[test]
fn what_is_for_others_is_left_alone() {
    in_own_process(|| {
        assert!(listen_fds().unwrap().is_empty());
        let (tcp, _) = plain_listener();
        let parent = id().to_string();
        for (pid, variables) in [
            (Some(parent.as_str()), &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")][..]),
            (Some(parent.as_str()), &[("LISTEN_FDS", "nonsense")]),
            (None, &[("LISTEN_FDNAMES", "web")]),
            (None, &[("LISTEN_FDS", "0")]),
            (None, &[("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")]),
        ] {
            started(&[tcp.as_fd()], pid, variables, || {
                assert!(listen_fds().unwrap().is_empty());
                assert!(is_open(3) && is_inherited(3));
                let is_taken = variables[0].1 == "0";
                assert_eq!(left().len(), if is_taken { 0 } else { variables.len() + 1 });
            });
        }
    });
}

/// Whom it is for, what else the environment says, and what is wrong with it.
type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a str);

/// What contradicts itself is an error that says how, and nothing is taken; also of several none.
#[test]
fn what_cannot_be_is_refused() {
    in_own_process(|| {
        let (tcp, _) = plain_listener();
        let file = File::open("/dev/null").unwrap();
        let no_socket = format!("descriptor 4 is no socket: {}", io::Error::from_raw_os_error(libc::ENOTSOCK));
        let most = i64::from(i32::MAX) - 2;
        let cases: [Case<'_>; 10] = [
            (Some("me"), &[("LISTEN_FDS", "1")], "LISTEN_PID=\"me\" is no number"),
            (None, &[("LISTEN_FDS", "")], "LISTEN_FDS=\"\" is no number"),
            (None, &[("LISTEN_FDS", "1x")], "LISTEN_FDS=\"1x\" is no number"),
            (None, &[("LISTEN_FDS", "-1")], "LISTEN_FDS=-1: there cannot be so many"),
            (None, &[("LISTEN_FDS", &most.to_string())], "LISTEN_FDS=2147483645: there cannot be so many"),
            (None, &[("LISTEN_FDS", "2")], &no_socket),
            (None, &[("LISTEN_FDS", "99")], &no_socket),
            (None, &[("LISTEN_FDS", "2000000000")], &no_socket),
            (
                None,
                &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:b")],
                "LISTEN_FDNAMES=[\"a\", \"b\"]: 2 names for 1 sockets",
            ),
            (None, &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a")], ""),
        ];
        for (pid, variables, text) in cases {
            started(&[tcp.as_fd(), file.as_fd()], pid, variables, || {
                if text.is_empty() {
                    assert_eq!(listen_fds().unwrap().len(), 1);
                    return;
                }
                let error = listen_fds().unwrap_err();
                assert_eq!(
                    (error.kind(), error.to_string()),
                    (io::ErrorKind::InvalidInput, format!("listen_fds: {text}"))
                );
                assert!((3..5).all(|fd| is_open(fd) && is_inherited(fd)));
                assert_eq!(left().len(), variables.len() + 1);
                // Set right, they are there.
                set("LISTEN_PID", &id().to_string());
                set("LISTEN_FDS", "1");
                set("LISTEN_FDNAMES", "a");
                assert_eq!(listen_fds().unwrap().len(), 1);
            });
        }
        started(&[tcp.as_fd()], None, &[("LISTEN_FDS", "60")], || {
            let error = listen_fds().unwrap_err().to_string();
            // What else this test has open may come first.
            let of_descriptor = error.starts_with("listen_fds: descriptor ");
            assert!(of_descriptor && (error.ends_with(" is not open") || error.contains("no socket")), "{error}");
        });
    });
}

/// They are served as any other socket; the file of a unix socket stays when its server ends, for it is not the server's.
#[test]
fn they_are_served() {
    in_own_process(|| {
        let folder = Folder::new();
        let (tcp, address) = plain_listener();
        let [unix, other] = ["unix", "other"].map(|name| UnixListener::bind(folder.path(name)).unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (client, connection) = plain_pair();
        // Where nothing takes its place.
        let mut client = TcpStream::from(fcntl_dupfd_cloexec(client, 50).unwrap());
        let fds = [tcp.as_fd(), unix.as_fd(), other.as_fd(), udp.as_fd(), connection.as_fd()];
        started(&fds, None, &[("LISTEN_FDS", "5")], || {
            let sockets = listen_fds().unwrap();
            let owner = EventLoop::new().unwrap();
            let el = &owner;
            let [tcp, unix, other, udp, connection]: [ListenFd; 5] = sockets.try_into().unwrap();
            let tcp = complete(el, el.create_server(|| Echo, tcp)).unwrap();
            assert_eq!(tcp.local_addrs(), [address]);
            let unix = complete(el, el.create_unix_server(|| Echo, unix)).unwrap();
            assert!(unix::echoes(el, &folder.path("unix")));
            let other = complete(el, async { roundelay::UnixListener::bind(other) }).unwrap();
            drop(other);
            let udp = complete(el, el.create_datagram_endpoint(|| Deaf).sock(udp)).unwrap().0;
            let connection = complete(el, el.connect_accepted_socket(|| Echo, connection)).unwrap().0;
            io::Write::write_all(&mut client, b"hello").unwrap();
            assert_eq!(tcp::receive(el, &mut client, 5), b"hello");
            tcp::close(el, &connection);
            udp.close();
            common::settle(el);
            tcp::end(el, &tcp);
            tcp::end(el, &unix);
            // What its own server would have removed.
            assert_eq!(folder.names(), ["other", "unix"]);
            owner.close();
            assert!(owner.stats().is_balanced(), "{:?}", owner.stats());
            drop(owner);
            assert!((3..8).all(|fd| !is_open(fd)));
        });
    });
}

struct Deaf;

impl roundelay::DatagramProtocol for Deaf {}

/// Starts the example as systemd does.
fn activated(sockets: &[BorrowedFd<'_>], names: &str, args: &[&str]) -> Running {
    let sockets: Vec<OwnedFd> = sockets.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    let mut command = Command::new("sh");
    // It becomes the program, and has its number.
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(example("socket_activation")).args(args);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    Running::start(with_sockets(&mut command, sockets))
}

/// The example serves a TCP and a unix socket that are there before it is; who comes while it is not there waits for the
/// next one.
#[test]
fn the_example_serves_what_it_is_given() {
    let _alone = alone();
    let folder = Folder::new();
    let path = folder.path("greeter");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = tcp.local_addr().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        // Before there is anybody.
        let early = connect(address);
        let mut server = activated(&[tcp.as_fd(), unix.as_fd()], "web:local", &[]);
        assert_eq!(server.line(), format!("serving web on {address}"));
        assert_eq!(server.line(), format!("serving local on {path:?}"));
        let process = format!("process {}", server.child.id());
        assert_eq!(ask(&early), format!("request 1 of {process}"));
        assert_eq!(ask(&UnixStream::connect(&path).unwrap()), format!("request 2 of {process}"));
        assert_eq!(end(server, signal), ["2 requests on 2 connections"]);
        assert!(path.exists());
    }
}

/// Where nobody comes it ends by itself, and nothing is lost: whoever comes then starts the next one.
#[test]
fn the_example_ends_when_nobody_comes() {
    let _alone = alone();
    let (tcp, address) = plain_listener();
    for _ in 0..2 {
        let client = connect(address);
        let mut server = activated(&[tcp.as_fd()], "web", &["--idle", "0.05"]);
        server.line();
        assert!(ask(&client).starts_with("request 1 of process"));
        drop(client);
        assert_eq!(ended(server), ["1 requests on 1 connections"]);
    }
}

/// Without sockets it opens one of its own; with one that does not listen it says so, and ends.
#[test]
fn the_example_without_sockets_and_with_a_wrong_one() {
    let _alone = alone();
    let mut command = Command::new(example("socket_activation"));
    let mut server = Running::start(command.args(["--addr", "127.0.0.1:0"]));
    let address = server.address();
    assert!(ask(&connect(address)).starts_with("request 1 of process"));
    assert_eq!(end(server, Signal::TERM), ["1 requests on 1 connections"]);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = activated(&[udp.as_fd()], "datagrams", &[]);
    assert!(!server.child.wait().unwrap().success());
}

/// The idle time is a number of seconds.
#[test]
fn the_example_says_how_it_is_used() {
    let _alone = alone();
    for args in [&["--idle", "-1"][..], &["--addr"], &["--idle", "x"], &["what"]] {
        let output = Command::new(example("socket_activation")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: socket_activation"));
    }
}
