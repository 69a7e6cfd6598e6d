//! The inspector: who may connect, what is answered, and what it leaves as it was. And `roundelay-top`, which shows it.

#![cfg(feature = "inspector")]

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/program.rs"]
mod program;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::{alone, complete, on_loop, on_manual_clock, run_alone, run_until, settle};
use fork::fork;
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use program::{Running, example, output};
use roundelay::{EventLoop, sleep};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("rdl").tempdir().unwrap();
    let path = folder.path().join("inspector");
    (folder, path)
}

/// A client on the loop itself.
struct Client(BufReader<roundelay::UnixStream>);

impl Client {
    async fn connect(path: &PathBuf) -> Self {
        Self(BufReader::new(roundelay::UnixStream::connect(path).await.unwrap()))
    }

    async fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    async fn ask(&mut self, request: &str) -> Value {
        self.say(&format!("{request}\n")).await;
        self.hear().await
    }

    async fn ended(&mut self) -> bool {
        self.0.read(&mut [0; 10]).await.is_ok_and(|n| n == 0)
    }
}

on_every_loop! {
    /// Metrics, tasks, and both: one JSON object a line, with who it is.
    fn a_request_is_answered(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        assert_eq!(inspector.path(), path);
        complete(el, async {
            let task = el.task_builder().name("the \"sleeper\"").spawn(sleep(Duration::from_secs(3600)));
            let mut client = Client::connect(&path).await;
            let metrics = client.ask("metrics").await;
            assert_eq!(metrics["format"], 1);
            assert_eq!(metrics["pid"], std::process::id());
            assert_eq!(metrics["loop"], el.id());
            assert_eq!(metrics["roundelay"], env!("CARGO_PKG_VERSION"));
            assert!(metrics["program"].as_str().unwrap().starts_with("inspector-"), "{metrics}");
            assert!(metrics["name"].is_null() && metrics["tasks"].is_null());
            assert_eq!(metrics["metrics"]["tasks"], 1);
            let tasks = client.ask("tasks").await;
            assert!(tasks["metrics"].is_null());
            let of_task = |tasks: &Value| {
                let tasks = tasks["tasks"]["tasks"].as_array().unwrap();
                tasks.iter().find(|found| found["id"] == task.id().as_u64()).unwrap().clone()
            };
            assert_eq!(of_task(&tasks)["name"], "the \"sleeper\"");
            assert_eq!(of_task(&tasks)["state"], "pending");
            // From the first answer on they say what they wait for.
            assert_eq!(of_task(&tasks)["waits_for"][0]["kind"], "timer", "{tasks}");
            assert!(el.inspection());
            let all = client.ask("  all\r").await;
            assert!(of_task(&all)["spawned_at"].as_str().unwrap().starts_with("tests/inspector.rs:"));
            assert!(all["metrics"]["turns"].as_u64() > metrics["metrics"]["turns"].as_u64());
            assert_eq!(inspector.clients(), 1);
            task.cancel();
        });
        run_until(el, || inspector.clients() == 0);
        assert_eq!(el.inspection(), el.debug());
    }

    /// Requests that come together are answered in order, also those of a client that says no more.
    fn requests_may_come_together(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        complete(el, async {
            let mut client = Client::connect(&path).await;
            client.say("metrics\nnonsense\ntas").await;
            assert_eq!(client.hear().await["format"], 1);
            let error = client.hear().await;
            let known = "unknown request \"nonsense\": there are \"metrics\", \"tasks\" and \"all\"";
            assert_eq!(error["error"], known);
            client.say("ks\nall\n").await;
            client.0.get_mut().close().await.unwrap();
            assert!(client.hear().await["tasks"].is_object());
            assert!(client.hear().await["metrics"].is_object());
            assert!(client.ended().await);
        });
        run_until(el, || inspector.clients() == 0);
    }

    /// What is no request is told, and a line without an end ends the connection.
    fn a_long_line_is_refused(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        complete(el, async {
            let mut client = Client::connect(&path).await;
            let error = client.ask(&"x".repeat(64)).await;
            assert!(error["error"].as_str().unwrap().starts_with("unknown request"), "{error}");
            assert!(client.ask("\u{1}\u{ff}").await["error"].is_string());
            client.say(&"y".repeat(65)).await;
            assert_eq!(client.hear().await["error"], "a request has no more than 64 bytes");
            assert!(client.ended().await);
        });
        run_until(el, || inspector.clients() == 0);
    }

    /// Eight are served, and the ninth is told; when one leaves there is room.
    fn clients_are_bounded(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        complete(el, async {
            let mut clients = Vec::new();
            for _ in 0..8 {
                let mut client = Client::connect(&path).await;
                client.ask("metrics").await;
                clients.push(client);
            }
            let mut ninth = Client::connect(&path).await;
            assert_eq!(ninth.hear().await["error"], "8 clients are connected: try again later");
            assert!(ninth.ended().await);
            clients.pop();
            while inspector.clients() == 8 {
                roundelay::yield_now().await;
            }
            assert_eq!(Client::connect(&path).await.ask("metrics").await["format"], 1);
        });
        drop(inspector);
    }

    /// With its end the clients are let go of and the file is gone; so with the end of the loop.
    fn the_end_of_the_inspector(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        let mut client = complete(el, async {
            let mut client = Client::connect(&path).await;
            client.ask("metrics").await;
            client
        });
        inspector.close();
        assert!(!path.exists());
        assert!(complete(el, client.ended()));
        drop(client);

        let inspector = el.serve_inspector(&path).unwrap();
        let mut late = UnixStream::connect(&path).unwrap();
        settle(el);
        assert_eq!(inspector.clients(), 1);
        el.close();
        assert!(!path.exists());
        assert_eq!(late.read(&mut [0; 10]).unwrap(), 0);
        drop(inspector);
        assert!(el.serve_inspector(&path).is_err());
    }
}

/// Whatever the umask, nobody else may connect.
#[test]
fn the_file_is_private() {
    let _alone = alone();
    for umask in [0, 0o777] {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        let (_folder, path) = {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            let folder = folder();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
            folder
        };
        run_alone(EventLoop::builder, |el| {
            let _inspector = el.serve_inspector(&path).unwrap();
            let data = path.symlink_metadata().unwrap();
            assert!(data.file_type().is_socket());
            assert_eq!(data.permissions().mode() & 0o7777, 0o600, "umask {umask:o}");
        });
        rustix::process::umask(before);
    }
}

/// A live one is refused and stays, a stale one is replaced, and what is no socket is left alone.
#[test]
fn what_is_in_the_way() {
    on_loop(|el| {
        let (_folder, path) = folder();
        let first = el.serve_inspector(&path).unwrap();
        let error = el.serve_inspector(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("a socket that is open is bound to it"), "{error}");
        assert!(path.exists());
        drop(first);

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(el.serve_inspector(&path).unwrap());
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        let error = el.serve_inspector(&path).unwrap_err();
        assert!(error.to_string().contains("what is there is no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        // Another one that has taken its place is not removed.
        std::fs::remove_file(&path).unwrap();
        let inspector = el.serve_inspector(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(inspector);
        assert!(path.exists());
        drop(other);
    });
}

/// Paths that cannot be: the error says why.
#[test]
fn impossible_paths() {
    on_loop(|el| {
        let error = |path: &str| {
            let error = el.serve_inspector(path).unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, text) = error("");
        assert_eq!((kind, &*text), (ErrorKind::InvalidInput, "EventLoop::serve_inspector(): the path is empty"));
        let (kind, text) = error("\0name");
        let expected = "EventLoop::serve_inspector(): an abstract name has no permissions";
        assert_eq!((kind, &*text), (ErrorKind::InvalidInput, expected));
        let (kind, text) = error(&format!("/tmp/{}", "x".repeat(200)));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(text.starts_with("EventLoop::serve_inspector(): "), "{text}");
        let (kind, text) = error("/nonexistent-folder/inspector");
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(text.contains("/nonexistent-folder/inspector"), "{text}");
    });
}

/// A client that does not read is not read from, and makes room for another one after a while.
#[test]
fn a_slow_reader_makes_room() {
    on_manual_clock(|el, clock| {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        // Answers that no socket holds.
        let name = "long ".repeat(1000);
        let task = || el.task_builder().name(&*name).spawn(std::future::pending::<()>());
        let tasks: Vec<_> = (0..200).map(|_| task()).collect();
        let mut clients: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients[3].write_all(b"tasks\ntasks\n").unwrap();
        settle(el);
        assert_eq!(inspector.clients(), 8);

        let turned_away = |el: &EventLoop| {
            let mut more = UnixStream::connect(&path).unwrap();
            settle(el);
            more.set_nonblocking(true).unwrap();
            more.read(&mut [0; 10]).is_ok()
        };
        assert!(turned_away(el));
        clock.advance(Duration::from_secs(5));
        assert!(!turned_away(el));
        settle(el);
        // The one that was waited for is gone; the others are not.
        let mut rest = Vec::new();
        clients[3].read_to_end(&mut rest).unwrap();
        assert!(!rest.ends_with(b"\n"));
        clients[2].write_all(b"metrics\n").unwrap();
        settle(el);
        clients[2].set_nonblocking(true).unwrap();
        assert!(clients[2].read(&mut [0; 10]).is_ok());
        drop(tasks);
    });
}

/// It does not show itself among tasks, transports and servers, and does not keep the loop from ending.
#[test]
fn it_disturbs_nothing() {
    let _alone = alone();
    let (_folder, path) = folder();
    let client = roundelay::block_on(async {
        let el = roundelay::get_running_loop().unwrap();
        let _inspector = el.serve_inspector(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"all\n").unwrap();
        client.set_nonblocking(true).unwrap();
        let mut answer = [0; 65536];
        let n = loop {
            match client.read(&mut answer) {
                Ok(n) => break n,
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        };
        let answer: Value = serde_json::from_slice(&answer[..n]).unwrap();
        let metrics = &answer["metrics"];
        assert_eq!((&metrics["transports"], &metrics["servers"]), (&0.into(), &0.into()));
        assert_eq!((&metrics["tasks"], &metrics["handles"]), (&0.into(), &0.into()));
        assert_eq!(answer["tasks"]["tasks"].as_array().unwrap().len(), 1);
        client
    });
    drop(client);
    assert!(!path.exists());
}

/// Several loops of a process each have their own.
#[test]
fn two_loops_have_two_inspectors() {
    on_loop(|el| {
        let (_folder, path) = folder();
        let _inspector = el.serve_inspector(&path).unwrap();
        let other_path = path.with_extension("other");
        let mut answers = std::thread::scope(|scope| {
            let remote = scope.spawn(|| {
                roundelay::block_on(async {
                    let el = roundelay::get_running_loop().unwrap();
                    let _inspector = el.serve_inspector(&other_path).unwrap();
                    let mut client = Client::connect(&other_path).await;
                    (client.ask("metrics").await, el.id())
                })
            });
            let own = complete(el, async { Client::connect(&path).await.ask("metrics").await });
            let (other, other_id) = remote.join().unwrap();
            [(own, el.id()), (other, other_id)].into_iter()
        });
        assert!(answers.all(|(answer, id)| answer["loop"] == id));
    });
}

forked! {
    /// The inspector is the parent's: a child that goes on with the loop has none, and leaves the file and the clients alone.
    /// What was counted is there in both.
    fn a_child_has_no_inspector(el) {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        run_until(el, || inspector.clients() == 1);
        let turns = el.metrics().turns;
        fork(|| {
            el.after_fork_child().unwrap();
            assert_eq!(inspector.clients(), 0);
            el.run_once(Some(Duration::ZERO)).unwrap();
            assert_eq!(el.metrics().turns, turns + 1);
            el.close();
        })
        .wait();
        assert!(path.exists());
        client.write_all(b"metrics\n").unwrap();
        client.set_nonblocking(true).unwrap();
        run_until(el, || client.read(&mut [0; 10]).is_ok_and(|n| n == 10));
    }
}

struct Chat {
    _folder: TempDir,
    path: PathBuf,
    _running: Running,
    address: std::net::SocketAddr,
}

fn chat() -> Chat {
    let (folder, path) = folder();
    let mut running = Running::start(Command::new(example("chat")).arg("127.0.0.1:0").arg("--inspect").arg(&path));
    let address = running.address();
    assert_eq!(running.line(), format!("inspector at {}", path.display()));
    Chat { _folder: folder, path, _running: running, address }
}

fn top(arguments: &[&str], chat: &Chat) -> String {
    String::from_utf8(output(Command::new(example("roundelay-top")).args(arguments).arg(&chat.path))).unwrap()
}

/// `roundelay-top --json` prints what the inspector says.
#[test]
fn top_prints_json() {
    let _alone = alone();
    let chat = chat();
    let _talker = std::net::TcpStream::connect(chat.address).unwrap();
    let answer: Value = serde_json::from_str(&top(&["--json"], &chat)).unwrap();
    assert_eq!(answer["program"], "chat");
    assert_eq!(answer["metrics"]["servers"], 1);
    let names: Vec<_> = answer["tasks"]["tasks"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert!(names.contains(&&"report".into()), "{names:?}");
}

/// `roundelay-top --once` prints a picture, as plain text.
#[test]
fn top_prints_once() {
    let _alone = alone();
    let chat = chat();
    let shown = top(&["--once", "--interval", "0.05"], &chat);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("chat  pid "), "{shown}");
    assert!(lines[1].starts_with("turns/s "), "{shown}");
    assert!(lines.iter().any(|line| line.contains("NAME") && line.contains("POLLS/s")), "{shown}");
    assert!(lines.iter().any(|line| line.contains(" report ") && line.contains("pending")), "{shown}");
    assert!(!shown.contains('\u{1b}'));
}

/// Where nobody listens, and for a wrong command line, it says so.
#[test]
fn top_says_what_is_wrong() {
    let _alone = alone();
    let (_folder, path) = folder();
    let run = |arguments: &[&str]| {
        let output = Command::new(example("roundelay-top")).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = run(&["--once", path.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot connect to"), "{error}");
    let (code, error) = run(&["--twice", "x"]);
    assert_eq!(code, 2);
    assert!(error.contains("unknown option --twice") && error.contains("usage: "), "{error}");
    assert_eq!(run(&[]).0, 2);
    assert_eq!(run(&["--help"]).0, 0);
}

/// `roundelay-top` bears numbers of any size.
#[test]
fn top_bears_any_number() {
    let _alone = alone();
    let (_folder, path) = folder();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let histogram = r#"{"max_ns":18446744073709551615,"buckets":[[9223372036854775808,1]]}"#;
    let mut metrics = format!(r#""lag":{histogram},"lateness":{histogram}"#);
    for key in [
        "turns",
        "polls",
        "callbacks",
        "events",
        "posts",
        "timers_fired",
        "spawned",
        "bytes_in",
        "bytes_out",
        "ready",
        "longest_ready",
        "timers",
        "descriptors",
        "transports",
        "servers",
        "uptime_ns",
        "idle_ns",
        "busy_ns",
    ] {
        metrics.push_str(&format!(r#","{key}":18446744073709551615"#));
    }
    let task = r#"{"id":1,"name":"far\u009b2J\u001b[2J","state":"x","spawned_at":"","age":1e300,"polls":1}"#;
    let answer = format!(
        r#"{{"roundelay":"0","pid":1,"program":"far","loop":1,"name":null,"metrics":{{{metrics}}},"tasks":{{"tasks":[{task}]}}}}"#
    );
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        while let Ok(1..) = client.read(&mut [0; 10]) {
            client.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    });
    let output =
        Command::new(example("roundelay-top")).args(["--once", "--interval", "0.05"]).arg(&path).output().unwrap();
    let (shown, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{error}");
    assert!(shown.contains(" far"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{9b}']), "{shown}");
    server.join().unwrap();
}

/// An answer that was taken in parts leaves a loop that rests.
#[test]
fn a_long_answer_leaves_the_loop_at_rest() {
    on_loop(|el| {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        let tasks: Vec<_> = (0..5000).map(|_| el.create_task(std::future::pending::<()>())).collect();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"tasks\n").unwrap();
        client.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        run_until(el, || {
            let mut part = vec![0; 1 << 16];
            while let Ok(n @ 1..) = client.read(&mut part) {
                answer.extend_from_slice(&part[..n]);
            }
            answer.ends_with(b"\n")
        });
        assert!(answer.len() > 1_000_000);
        for _ in 0..3 {
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        let events = el.metrics().events;
        for _ in 0..5 {
            assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
        }
        assert_eq!(el.metrics().events, events);
        // And one that listens.
        client.write_all(b"metrics\n").unwrap();
        run_until(el, || client.read(&mut [0; 10]).is_ok());
        drop((client, inspector));
        tasks.iter().for_each(|task| _ = task.cancel());
        settle(el);
    });
}

/// Clients that leave at any byte, with and without reading.
#[test]
fn clients_that_leave_at_any_moment() {
    on_loop(|el| {
        let (_folder, path) = folder();
        let inspector = el.serve_inspector(&path).unwrap();
        let future = el.create_future::<()>();
        let task = el.create_task(async { future.await.unwrap() });
        let said = b"tasks\nall\nmetrics\nnonsense\ntasks";
        for end in 0..=said.len() {
            for turns in 0..4 {
                let mut client = UnixStream::connect(&path).unwrap();
                client.write_all(&said[..end]).unwrap();
                if end % 2 == 0 {
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                }
                for _ in 0..turns {
                    el.run_once(Some(Duration::ZERO)).unwrap();
                }
                drop(client);
                if end % 3 == 0 {
                    run_until(el, || inspector.clients() == 0);
                }
            }
            run_until(el, || inspector.clients() == 0);
        }
        // One that floods and reads nothing is not read from for ever.
        let mut flood = UnixStream::connect(&path).unwrap();
        flood.set_nonblocking(true).unwrap();
        let mut sent = 0;
        for _ in 0..2000 {
            while let Ok(n) = flood.write(&b"all\n".repeat(100)) {
                sent += n;
            }
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(sent < 10_000_000, "{sent}");
        drop(flood);
        run_until(el, || inspector.clients() == 0);
        settle(el);
        assert!(!el.inspection());
        task.cancel();
        settle(el);
    });
}
