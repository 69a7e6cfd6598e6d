//! The example `http_server`, as its users see it: by curl, and by clients that misbehave.

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use program::{Running, available, example, expect, output};
use tempfile::TempDir;

const BIG: usize = 10 * 1024 * 1024;

struct Site {
    server: Running,
    address: SocketAddr,
    folder: TempDir,
    big: Vec<u8>,
}

impl Site {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        // Not compressible to a pattern: a chunk in the wrong place shows.
        let big: Vec<u8> = (0..BIG as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
        fs::write(root.join("big.bin"), &big).unwrap();
        fs::write(root.join("small.txt"), "small\n").unwrap();
        fs::write(root.join("empty.txt"), "").unwrap();
        fs::write(root.join("with space.txt"), "space\n").unwrap();
        fs::write(root.join("sub/index.html"), "<p>index</p>\n").unwrap();
        fs::write(folder.path().join("secret.txt"), "secret\n").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), root.join("link.txt")).unwrap();
        let mut command = Command::new(example("http_server"));
        let mut server = Running::start(command.args(["--addr", "127.0.0.1:0", "--root"]).arg(&root));
        let address = server.address();
        Self { server, address, folder, big }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Sends a request as it is, and gives the first line of the answer.
    fn status(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        while !answer.contains(&b'\n') {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "no answer to {request:?}");
            answer.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned()
    }
}

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--path-as-is", "--max-time", "60"]);
    command
}

#[test]
fn curl_fetches_a_big_file_byte_for_byte() {
    if !available("curl") {
        return;
    }
    let site = Site::start();
    let fetched = output(curl().arg(site.url("/big.bin")));
    assert!(fetched == site.big, "{} of {} bytes, or others", fetched.len(), site.big.len());
}

#[test]
fn curl_makes_two_hundred_requests_on_one_connection() {
    if !available("curl") {
        return;
    }
    let site = Site::start();
    let mut command = curl();
    command.args(["--write-out", "%{http_code} %{num_connects}\n"]);
    for i in 0..200 {
        command.args(["--output", "/dev/null"]).arg(site.url(&format!("/small.txt?{i}")));
    }
    let report = String::from_utf8(output(&mut command)).unwrap();
    let mut lines = report.lines();
    assert_eq!(lines.next(), Some("200 1"));
    assert_eq!(lines.filter(|line| *line == "200 0").count(), 199, "{report}");
}

#[test]
fn fifty_clients_fetch_at_once() {
    if !available("curl") {
        return;
    }
    let site = Site::start();
    let mut clients = Vec::new();
    for i in 0..50 {
        let file = site.folder.path().join(format!("fetched{i}"));
        let child = curl().arg("--output").arg(&file).arg(site.url("/big.bin")).spawn().unwrap();
        clients.push((child, file));
    }
    for (mut child, file) in clients {
        assert!(child.wait().unwrap().success());
        assert!(fs::read(file).unwrap() == site.big);
    }
}

#[test]
fn a_client_that_reads_nothing_costs_a_chunk_and_the_high_water_mark() {
    let mut site = Site::start();
    // What the server needs anyway shows in a whole fetch.
    let mut stream = site.connect();
    stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let before = site.server.resident();

    let clients: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = site.connect();
            stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // Others are served meanwhile; by the time they have their answers, the stalled ones have had their turns.
    for _ in 0..20 {
        assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
    }
    let grown = site.server.resident().saturating_sub(before);
    // A chunk of 64 KiB, a queue of 64 KiB and one more chunk on top, for each; not 10 MB.
    assert!(grown < 10 * 256 * 1024 + 1024 * 1024, "ten clients that do not read cost {grown} bytes");
    drop(clients);
    assert!(site.server.child.try_wait().unwrap().is_none());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = Site::start();
    let mut stream = site.connect();
    let paths = ["/small.txt", "/missing", "/empty.txt", "/with%20space.txt", "/sub/", "/small.txt"];
    let requests: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    // In two pieces that split a request.
    let (first, second) = requests.as_bytes().split_at(70);
    stream.write_all(first).unwrap();
    stream.write_all(second).unwrap();
    let mut answer = |status: &str, content_type: &str, body: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: roundelay\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Connection: keep-alive\r\n\r\n{body}",
            body.len()
        );
        expect(&mut stream, head.as_bytes());
    };
    let text = "text/plain; charset=utf-8";
    answer("200 OK", text, "small\n");
    answer("404 Not Found", text, "404 Not Found\n");
    answer("200 OK", text, "");
    answer("200 OK", text, "space\n");
    answer("200 OK", "text/html; charset=utf-8", "<p>index</p>\n");
    answer("200 OK", text, "small\n");
}

#[test]
fn many_pipelined_requests_are_all_answered() {
    let site = Site::start();
    let mut stream = site.connect();
    let mut sender = stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..500 {
            sender.write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        sender.write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    });
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    thread.join().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 501);
}

#[test]
fn no_path_escapes_the_folder() {
    let site = Site::start();
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt", "/..%2fsecret.txt", "/link.txt"] {
        let status = site.status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status, "HTTP/1.1 404 Not Found", "{path}");
    }
    for path in ["secret.txt", "/%00", "/%zz", "/%f", "/%ff"] {
        let status = site.status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{path}");
    }
    // A folder has no listing.
    assert_eq!(site.status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
}

#[test]
fn bad_requests_are_refused_and_the_server_lives_on() {
    let site = Site::start();
    let cases = [
        ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("POST /small.txt HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /small.txt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 413 Content Too Large"),
        ("GET /small.txt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 413 Content Too Large"),
    ];
    for (request, status) in cases {
        assert_eq!(site.status(request), status, "{request:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    assert_eq!(site.status(&long), "HTTP/1.1 431 Request Header Fields Too Large");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert_eq!(site.status(&many), "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(site.status("HEAD /small.txt HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let site = Site::start();
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
    let mut last = site.connect();
    let before = site.server.descriptors();
    for _ in 0..50 {
        let mut stream = site.connect();
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        drop(stream);
    }
    // Each of these is answered after the server has had its turns with those.
    for _ in 0..500 {
        last.write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 1024];
        assert!(last.read(&mut answer).unwrap() > 0);
        if site.server.descriptors() <= before {
            return;
        }
    }
    panic!("{} descriptors, {before} before", site.server.descriptors());
}
