//! The examples of TLS do what their first paragraphs say: to each other, and to curl.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/program.rs"]
mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use certificates::{Authority, Files, authority, localhost};
use program::{Running, available, example, output};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The example `https_server` with a folder of files.
struct Site {
    server: Running,
    address: SocketAddr,
    /// Whom to trust.
    ca: PathBuf,
    folder: TempDir,
    big: Vec<u8>,
}

impl Site {
    /// With a certificate that it makes.
    fn start() -> Self {
        let mut site = Self::launch(&mut Command::new(example("https_server")), PathBuf::new());
        let line = site.server.line();
        let words: Vec<&str> = line.split(' ').collect();
        let ["curl", "--cacert", ca, url] = words[..] else { panic!("{line:?}") };
        assert_eq!(url, site.url("/Cargo.toml"));
        site.ca = ca.into();
        site
    }

    fn launch(command: &mut Command, ca: PathBuf) -> Self {
        let folder = TempDir::new().unwrap();
        let big: Vec<u8> = (0..5_000_000_u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
        fs::write(folder.path().join("big.bin"), &big).unwrap();
        fs::write(folder.path().join("small.txt"), "small\n").unwrap();
        let command = command.args(["--addr", "127.0.0.1:0", "--root"]).arg(folder.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut server = Running { child, stdout };
        let address = server.address();
        Self { server, address, ca, folder, big }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--ipv4",
            "--max-time",
            "60",
            "--cacert",
        ]);
        command.arg(&self.ca);
        command
    }

    fn https_get(&self) -> Command {
        let mut command = Command::new(example("https_get"));
        command.arg("--cacert").arg(&self.ca);
        command
    }

    /// As somebody does who presses Enter.
    fn stop(&mut self) {
        self.server.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn tls_echo_talks_to_itself() {
    let shown = text(&output(&mut Command::new(example("tls_echo"))));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("Tls13, TLS13_"), "{shown}");
    assert_eq!(lines[1..], ["echoed: one", "echoed: two", "echoed: three"]);
}

/// A server and a client that have their PEM files; the client refuses one that somebody else vouches for.
#[test]
fn tls_echo_echoes_with_files() {
    let files = Files::new(authority(), localhost());
    let mut command = Command::new(example("tls_echo"));
    let mut server = Running::start(command.args(["server", "127.0.0.1:0"]).arg(&files.cert).arg(&files.key));
    let port = server.address().port().to_string();
    let talk = |ca: &PathBuf| {
        let mut command = Command::new(example("tls_echo"));
        command.args(["client", "127.0.0.1", &port]).arg(ca);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may not want to hear it.
        let _ = child.stdin.take().unwrap().write_all(b"one\ntwo");
        child.wait_with_output().unwrap()
    };
    let Output { status, stdout, stderr } = talk(&files.ca);
    assert!(status.success(), "{}", text(&stderr));
    let shown = text(&stdout);
    assert!(shown.starts_with("Tls13, ") && shown.ends_with("echoed: one\nechoed: two"), "{shown}");

    let other = files.write("other.pem", Authority::new("somebody else").pem());
    let Output { status, stderr, .. } = talk(&other);
    assert!(!status.success() && text(&stderr).contains("UnknownIssuer"), "{}", text(&stderr));
    let Output { status, stderr, .. } = talk(&files.key);
    assert!(!status.success() && text(&stderr).contains("key.pem"), "{}", text(&stderr));
}

#[test]
fn tls_chat_talks_to_itself() {
    let shown = text(&output(&mut Command::new(example("tls_chat"))));
    let expected = [
        "alice hears: alice: is anybody here?",
        "alice hears: * bob has come",
        "alice hears: bob: I am",
        "bob hears: bob: I am",
        "alice hears: * bob has gone",
        "alice hears: * the server ends",
        "all have gone",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

/// A server and a guest that have their PEM files. SIGTERM ends the server, which tells its guest and waits for the end of the
/// connection; and so the guest's program ends, although its input does not.
#[test]
fn tls_chat_ends_in_an_orderly_way() {
    let files = Files::new(authority(), localhost());
    let mut command = Command::new(example("tls_chat"));
    let mut server = Running::start(command.args(["server", "127.0.0.1:0"]).arg(&files.cert).arg(&files.key));
    let mut command = Command::new(example("tls_chat"));
    command.args(["client", &format!("localhost:{}", server.address().port())]).arg(&files.ca);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut guest = Running { child, stdout };
    assert_eq!(guest.line(), "* what is your name?");
    input.write_all(b"carol\nhello\n").unwrap();
    assert_eq!(guest.line(), "carol: hello");

    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert_eq!(server.line(), "got signal SIGTERM");
    assert_eq!(guest.line(), "* the server ends");
    assert_eq!(server.line(), "all have gone");
    assert!(server.child.wait().unwrap().success());
    assert!(guest.child.wait().unwrap().success());
    drop(input);
}

/// TL-01: curl fetches from the HTTP server behind TLS, many files over one connection, and a large one, which goes out by
/// `sendfile`'s fallback.
#[test]
fn https_server_serves_curl() {
    if !available("curl") {
        return;
    }
    let site = Site::start();
    assert!(output(site.curl().arg(site.url("/big.bin"))) == site.big);
    let mut command = site.curl();
    command.args(["--write-out", "%{http_version} %{num_connects} %{ssl_verify_result}\n"]);
    for _ in 0..100 {
        command.arg(site.url("/small.txt"));
    }
    let lines = text(&output(&mut command));
    let expected = format!("small\n1.1 1 0\n{}", "small\n1.1 0 0\n".repeat(99));
    assert_eq!(lines, expected);
    // Neither by another name, nor without knowing whom to trust.
    let wrong = site.curl().arg(format!("https://127.0.0.2:{}/", site.address.port())).output().unwrap();
    assert!(!wrong.status.success());
    let unknown = Command::new("curl").args(["--silent", "--noproxy", "*", &site.url("/small.txt")]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(60));
    // Somebody who speaks no TLS is let go.
    let mut plain = TcpStream::connect(site.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!text(&answer).contains("HTTP"), "{}", text(&answer));
    assert_eq!(output(site.curl().arg(site.url("/small.txt"))), b"small\n");
}

/// A server that is told to stop refuses newcomers, and ends when the client that it is sending to has everything. The file
/// of its certificate goes with it.
#[test]
fn https_server_stops_gracefully() {
    if !available("curl") {
        return;
    }
    let mut site = Site::start();
    // More than fits on the way; while nobody reads what curl prints, it reads nothing either.
    let huge = site.big.repeat(5);
    fs::write(site.folder.path().join("huge.bin"), &huge).unwrap();
    let mut curl = site.curl().arg(site.url("/huge.bin")).stdout(Stdio::piped()).spawn().unwrap();
    let mut fetched = vec![0; 1000];
    let mut stdout = curl.stdout.take().unwrap();
    stdout.read_exact(&mut fetched).unwrap();
    site.stop();
    // It hears of it in one of its next turns.
    while TcpStream::connect(site.address).is_ok() {}
    assert!(site.server.child.try_wait().unwrap().is_none());
    stdout.read_to_end(&mut fetched).unwrap();
    assert!(curl.wait().unwrap().success());
    assert!(fetched == huge, "{} of {} bytes", fetched.len(), huge.len());
    assert_eq!(site.server.line(), "stopped");
    assert!(site.server.child.wait().unwrap().success());
    assert!(!site.ca.exists());
}

/// Files instead of a certificate of its own making; without the key it says how it is used.
#[test]
fn https_server_takes_files() {
    let files = Files::new(authority(), localhost());
    let mut command = Command::new(example("https_server"));
    let site = Site::launch(command.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key), files.ca.clone());
    assert_eq!(output(site.https_get().arg(site.url("/small.txt"))), b"small\n");
    let wrong = Command::new(example("https_server")).arg("--cert").arg(&files.cert).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).starts_with("usage: https_server"));
}

/// TL-03: the client prints status and body, and refuses a server that nobody it trusts vouches for.
#[test]
fn https_get_gets() {
    let site = Site::start();
    let got = site.https_get().arg(site.url("/big.bin")).output().unwrap();
    assert_eq!(text(&got.stderr), "200 OK\n");
    assert!(got.stdout == site.big);
    let got = site.https_get().arg(format!("https://{}", site.address)).output().unwrap();
    assert_eq!((&*text(&got.stderr), &*text(&got.stdout)), ("404 Not Found\n", "404 Not Found\n"));
    // The platform trusts many, but not this one.
    let refused = Command::new(example("https_get")).arg(site.url("/")).output().unwrap();
    assert!(!refused.status.success());
    let refused = Command::new(example("https_get")).arg("http://localhost/").output().unwrap();
    assert!(text(&refused.stderr).contains("usage: https_get"), "{}", text(&refused.stderr));
}

/// TL-33: a body whose end is the connection's is whole if the server says so; of one that is cut off, the client says so.
/// One in chunks says itself where it ends.
#[test]
fn https_get_tells_a_cut_off_body() {
    const SERVER: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
while True:
    sock, _ = listener.accept()
    try:
        sock = context.wrap_socket(sock, server_side=True)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += sock.recv(65536)
        if b"/chunked" in request:
            head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            sock.sendall(head + b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        else:
            sock.sendall(b"HTTP/1.0 200 Fine\r\n\r\nhello")
        if b"/whole" in request:
            sock.unwrap()
    except OSError:
        pass
    sock.close()
"#;
    if !available("python3") {
        return;
    }
    let files = Files::new(authority(), localhost());
    let mut python = Command::new("python3");
    let mut server = Running::start(python.args(["-c", SERVER]).arg(&files.cert).arg(&files.key));
    let address = server.address();
    let get = |path: &str| {
        let url = format!("https://{address}{path}");
        Command::new(example("https_get")).arg("--cacert").arg(&files.ca).arg(url).output().unwrap()
    };
    let whole = get("/whole");
    assert_eq!((&*text(&whole.stderr), &*text(&whole.stdout)), ("200 Fine\n", "hello"));
    assert!(whole.status.success());
    let chunked = get("/chunked");
    assert_eq!((&*text(&chunked.stderr), &*text(&chunked.stdout)), ("200 OK\n", "hello world"));
    assert!(chunked.status.success());
    let cut_off = get("/cut-off");
    assert!(!cut_off.status.success() && text(&cut_off.stderr).contains("cut off"), "{}", text(&cut_off.stderr));
}
