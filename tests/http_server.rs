//! The example `http_server`, as its users see it: by curl, and by clients that misbehave.

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use program::{Running, available, example, output};
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
        // AddressSanitizer, if this is built with it, holds on to what is freed, and keeps stacks of its own: too much for
        // the test that looks at the memory.
        command.env("ASAN_OPTIONS", "quarantine_size_mb=1:detect_stack_use_after_return=0");
        let mut server = Running::start(command.args(["--addr", "127.0.0.1:0", "--root"]).arg(&root));
        let address = server.address();
        Self { server, address, folder, big }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // So that a test of a server that says nothing fails.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// A connection on whose way little fits: the kernel keeps tens of kilobytes for it, not megabytes.
    fn connect_narrowly(&self) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_tcp_mss(536).unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends what it sends, says that no more comes, and gives all that is answered.
    fn half_closed(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
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

/// The next answer: its head without the date, and its body.
fn answer(stream: &mut impl BufRead, has_body: bool) -> (String, String) {
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the end of file in {head:?}");
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            len = value.trim().parse().unwrap();
        }
        if !line.starts_with("Date: ") {
            head.push_str(&line);
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; if has_body { len } else { 0 }];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
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

/// The bound holds for answers that have no file in them too: sooner or later such a client can write no more.
#[test]
fn a_client_that_pipelines_and_reads_nothing_is_not_read_any_more() {
    let site = Site::start();
    for target in ["GET /nope", "GET /empty.txt", "HEAD /big.bin"] {
        let mut probe = BufReader::new(site.connect());
        let mut flood = site.connect_narrowly();
        flood.set_nonblocking(true).unwrap();
        let request = format!("{target}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1000));
        let (mut written, mut without_progress) = (0, 0);
        // While others are answered so often, what the server has in its buffer of this one could be answered several
        // times.
        while without_progress < 1500 {
            match flood.write(&request.as_bytes()[written % request.len()..]) {
                Ok(n) => (written, without_progress) = (written + n, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    without_progress += 1;
                    probe.get_mut().write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    assert_eq!(answer(&mut probe, true).1, "small\n");
                }
            }
            assert!(written < 32 * 1024 * 1024, "{target}: the server takes whatever it is sent");
        }
        // When the client reads at last, nothing is missing.
        flood.set_nonblocking(false).unwrap();
        let mut sender = flood.try_clone().unwrap();
        let rest = request.as_bytes()[written % request.len()..].to_vec();
        let thread = std::thread::spawn(move || {
            sender.write_all(&rest).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let mut answers = String::new();
        flood.read_to_string(&mut answers).unwrap();
        thread.join().unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), written / request.len() + 1, "{target}");
    }
}

#[test]
fn a_client_that_ends_its_half_is_answered() {
    let site = Site::start();
    let one = "GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = site.half_closed(one);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nsmall\n"), "{answer}");
    let answer = site.half_closed(&one.repeat(100));
    assert_eq!(answer.matches("\r\n\r\nsmall\n").count(), 100);
    let answer = site.half_closed("GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\nGET /small");
    assert!(answer.contains(&format!("Content-Length: {BIG}\r\n")), "{}", &answer[..500]);
    // There is nothing to say to half a request, and to none.
    assert_eq!(site.half_closed("GET /small"), "");
    assert_eq!(site.half_closed(""), "");
}

#[test]
#[cfg(unix)]
fn what_is_not_a_file_keeps_nobody_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let site = Site::start();
    mknodat(CWD, site.folder.path().join("root/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    // As many as would block any pool.
    for _ in 0..64 {
        assert_eq!(site.status("GET /fifo HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
    }
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn a_connection_is_kept_unless_one_side_says_otherwise() {
    let site = Site::start();
    let kept = |version: &str, headers: &str| {
        let mut stream = BufReader::new(site.connect());
        let request = format!("GET /small.txt HTTP/{version}\r\nHost: x\r\n{headers}\r\n");
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let head = answer(&mut stream, true).0;
        let kept = head.contains("Connection: keep-alive\r\n");
        assert!(kept != head.contains("Connection: close\r\n"), "{head}");
        if !kept {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        kept
    };
    assert!(kept("1.1", ""));
    assert!(!kept("1.1", "Connection: close\r\n"));
    assert!(!kept("1.1", "Connection: close, keep-alive\r\n"));
    assert!(!kept("1.1", "Connection: Keep-Alive\r\nConnection: Close\r\n"));
    assert!(!kept("1.0", ""));
    assert!(kept("1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn answers_say_when_they_were_given() {
    if !available("date") {
        return;
    }
    let site = Site::start();
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = seconds();
    let answer = site.half_closed("HEAD /small.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = answer.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap();
    let expected: Vec<String> = (before..=seconds())
        .map(|time| {
            let mut date = Command::new("date");
            date.env("LC_ALL", "C").args(["-u", "-d", &format!("@{time}"), "+%a, %d %b %Y %H:%M:%S GMT"]);
            String::from_utf8(output(&mut date)).unwrap().trim().to_owned()
        })
        .collect();
    assert!(expected.iter().any(|expected| expected == said), "{said:?} is none of {expected:?}");
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
    let mut stream = BufReader::new(stream);
    let mut check = |status: &str, content_type: &str, body: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: roundelay\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Connection: keep-alive\r\n\r\n",
            body.len()
        );
        assert_eq!(answer(&mut stream, true), (head, body.to_owned()));
    };
    let text = "text/plain; charset=utf-8";
    check("200 OK", text, "small\n");
    check("404 Not Found", text, "404 Not Found\n");
    check("200 OK", text, "");
    check("200 OK", text, "space\n");
    check("200 OK", "text/html; charset=utf-8", "<p>index</p>\n");
    check("200 OK", text, "small\n");
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
    for path in ["secret.txt", "/%00", "/%zz", "/%f", "/%ff", "/%+1", "/%1", "*", "ftp://x/small.txt"] {
        let status = site.status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{path}");
    }
    // What its owner keeps out of sight, by its own name or inside.
    fs::create_dir(site.folder.path().join("root/.git")).unwrap();
    fs::write(site.folder.path().join("root/.git/config"), "secret\n").unwrap();
    fs::write(site.folder.path().join("root/.env"), "secret\n").unwrap();
    for path in ["/.git/config", "/.env", "/%2eenv", "/sub/../.env", "/.git/"] {
        let status = site.status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status, "HTTP/1.1 404 Not Found", "{path}");
    }
    // A file is no folder.
    assert_eq!(site.status("GET /small.txt/ HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
    for path in ["/sub/", "/sub", "/./small.txt", "http://x/small.txt", "HTTP://x:80/sub/?query", "/small.txt?%zz"] {
        let status = site.status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
    }
    assert_eq!(site.status("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
    // A folder has no listing.
    assert_eq!(site.status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
}

#[test]
fn bad_requests_are_refused_and_the_server_lives_on() {
    let site = Site::start();
    let cases = [
        ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("POST /small.txt HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("POST /small.txt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /small.txt HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("GET /small.txt HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "HTTP/1.1 400 Bad Request"),
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
    let refused = site.half_closed("POST /small.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"), "{refused}");
    assert_eq!(site.status("HEAD /small.txt HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let site = Site::start();
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
    let mut last = site.connect();
    let mut ask = || {
        last.write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(last.read(&mut [0; 1024]).unwrap() > 0);
    };
    // Once it has its answer, it is among the descriptors of the server.
    ask();
    let before = site.server.descriptors();
    for _ in 0..50 {
        let mut stream = site.connect();
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        drop(stream);
    }
    // Each of these is answered after the server has had its turns with those.
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        ask();
        if site.server.descriptors() <= before {
            return;
        }
    }
    panic!("{} descriptors, {before} before", site.server.descriptors());
}

/// Files just below and above the size from which they are sent by the system, pipelined on one connection: each whole,
/// with its own length, in order.
#[test]
fn small_and_large_files_in_turns() {
    let site = Site::start();
    let sizes = [1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 100_000];
    for size in sizes {
        fs::write(site.folder.path().join(format!("root/{size}.txt")), vec![b'a' + (size % 26) as u8; size]).unwrap();
    }
    let stream = site.connect();
    let mut requests = String::new();
    for size in sizes.iter().chain(sizes.iter().rev()) {
        requests += &format!("GET /{size}.txt HTTP/1.1\r\nHost: x\r\n\r\nHEAD /{size}.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    (&stream).write_all(requests.as_bytes()).unwrap();
    let mut reader = BufReader::new(&stream);
    for &size in sizes.iter().chain(sizes.iter().rev()) {
        let (head, body) = answer(&mut reader, true);
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(body.len() == size && body.bytes().all(|byte| byte == b'a' + (size % 26) as u8));
        let (head, _) = answer(&mut reader, false);
        assert!(head.contains(&format!("Content-Length: {size}\r\n")), "{head}");
    }
}

/// A hundred clients that ask for a large file and do not read it cost no memory of the server's for it, and hold nobody up.
#[test]
fn files_on_their_way_cost_no_memory() {
    let site = Site::start();
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = site.connect();
            stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            // The head is there: the file is on its way.
            stream.read_exact(&mut [0; 15]).unwrap();
            stream
        })
        .collect();
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
    let resident = site.server.resident();
    assert!(resident < 40 << 20, "{resident} bytes for a hundred files");
    drop(silent);
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
}

/// A file that becomes shorter while it is sent ends the connection: half of an answer is not passed off as a whole one.
#[test]
fn a_file_that_shrinks_ends_the_connection() {
    let site = Site::start();
    let path = site.folder.path().join("root/shrinks.bin");
    fs::write(&path, &site.big).unwrap();
    let mut stream = site.connect_narrowly();
    stream.write_all(b"GET /shrinks.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_err() || rest.len() < BIG - 1000, "{} bytes came", rest.len());
    assert_eq!(site.status("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
}
