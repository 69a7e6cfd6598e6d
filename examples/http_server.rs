//! An HTTP/1.1 server for the files of a folder: keep-alive, pipelining, and a bound on memory.
//!
//! The protocol parses requests as they arrive and puts them into a queue; one task per busy connection takes them out
//! in order, so that pipelined answers come in the order of their requests. Disks block, so files are opened and read
//! by `spawn_blocking`, a chunk at a time, and the next chunk is read when `ready` says that the peer has taken enough
//! of the last one: a client that asks for a big file and reads nothing costs one chunk and the high-water mark. While
//! many requests wait, reading is paused.
//!
//! Try it: `cargo run --release --example http_server`, then `curl http://127.0.0.1:8080/Cargo.toml`
//! (usage: `http_server [--addr 127.0.0.1:8080] [--root .]`)

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{CancelOnDrop, Protocol, ProtocolRef, Transport, spawn, spawn_blocking};

/// What is read from a file at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// The most header lines of a request.
const MOST_HEADERS: usize = 64;
/// Requests of one connection that may wait before reading is paused.
const MOST_WAITING: usize = 32;
/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// A request, as far as this server is interested in it.
struct Request {
    method: Method,
    /// Decoded, without the query.
    path: String,
    keep_alive: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Get,
    Head,
}

/// Why there is no file to send.
struct Refusal {
    status: &'static str,
    /// Whether the connection is of no use any more.
    fatal: bool,
}

const fn refusal(status: &'static str) -> Refusal {
    Refusal { status, fatal: false }
}

const fn fatal(status: &'static str) -> Refusal {
    Refusal { status, fatal: true }
}

/// Takes one request from the front of the input: how long it is, or `None` if it has not arrived whole.
fn parse(input: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() > LONGEST_HEAD => {
            return Err(fatal("431 Request Header Fields Too Large"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(fatal("431 Request Header Fields Too Large")),
        Err(_) => return Err(fatal("400 Bad Request")),
    };
    let mut keep_alive = head.version == Some(1);
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("connection") {
            let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            for token in value.split(',').map(str::trim) {
                keep_alive = match token {
                    "close" => false,
                    "keep-alive" => true,
                    _ => keep_alive,
                };
            }
        }
        // What follows would be taken for the next request.
        if is("transfer-encoding") || is("content-length") && header.value.trim_ascii() != b"0" {
            return Err(fatal("413 Content Too Large"));
        }
    }
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(fatal("405 Method Not Allowed")),
    };
    let path = head.path.and_then(decode).ok_or(fatal("400 Bad Request"))?;
    Ok(Some((len, Request { method, path, keep_alive })))
}

/// The path of a request target, without its query and its percent signs.
fn decode(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?;
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|path| path.starts_with('/') && !path.contains('\0'))
}

/// The file under `root` that a path names. No path leads out of the root, not by `..` and not by a link.
fn locate(root: &Path, path: &str) -> Result<PathBuf, Refusal> {
    let mut file = root.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." || part.contains('\\') {
            return Err(refusal("404 Not Found"));
        }
        file.push(part);
    }
    if file.is_dir() {
        file.push("index.html");
    }
    match file.canonicalize() {
        Ok(real) if real.starts_with(root) => Ok(real),
        _ => Err(refusal("404 Not Found")),
    }
}

/// An open file and its length. Blocks.
fn open(root: &Path, path: &str) -> Result<(File, u64, &'static str), Refusal> {
    let location = locate(root, path)?;
    let file = File::open(&location).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => refusal("403 Forbidden"),
        _ => refusal("404 Not Found"),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok((file, metadata.len(), content_type(&location))),
        _ => Err(refusal("404 Not Found")),
    }
}

/// The next chunk of a file, at most `limit` bytes. Blocks.
fn read_chunk(mut file: File, limit: u64) -> io::Result<(File, Vec<u8>)> {
    let mut chunk = Vec::with_capacity(CHUNK.min(usize::try_from(limit).unwrap_or(CHUNK)));
    file.by_ref().take(limit.min(CHUNK as u64)).read_to_end(&mut chunk)?;
    Ok((file, chunk))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "md" | "rs" | "toml") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/octet-stream",
    }
}

fn head(status: &str, content_type: &str, len: u64, keep_alive: bool) -> String {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status}\r\nServer: roundelay\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\
         Connection: {connection}\r\n\r\n"
    )
}

/// One connection.
struct Http {
    root: Rc<Path>,
    /// The beginning of a request whose end has not arrived.
    partial: Vec<u8>,
    waiting: VecDeque<Result<Request, Refusal>>,
    /// Answers what waits; ends with the connection.
    answering: Option<CancelOnDrop<()>>,
    /// Nothing that arrives is of interest any more.
    deaf: bool,
}

impl Http {
    fn new(root: Rc<Path>) -> Self {
        Self { root, partial: Vec::new(), waiting: VecDeque::new(), answering: None, deaf: false }
    }

    /// The next request, or `None` when there is nothing left to do.
    fn next(&mut self, transport: &Transport) -> Option<Result<Request, Refusal>> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            // This task is about to end: it must not be cancelled by its own handle.
            drop(self.answering.take().map(CancelOnDrop::detach_on_drop));
        }
        if self.waiting.len() < MOST_WAITING {
            transport.resume_reading();
        }
        next
    }
}

impl Protocol for Http {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if self.deaf {
            return;
        }
        self.partial.extend_from_slice(data);
        let mut used = 0;
        while !self.deaf {
            let parsed = match parse(&self.partial[used..]) {
                Ok(None) => break,
                Ok(Some((len, request))) => {
                    used += len;
                    self.deaf = !request.keep_alive;
                    Ok(request)
                }
                Err(refusal) => {
                    self.deaf = true;
                    Err(refusal)
                }
            };
            self.waiting.push_back(parsed);
        }
        self.partial.drain(..used);
        if self.waiting.len() >= MOST_WAITING || self.deaf {
            transport.pause_reading();
        }
        if self.answering.is_none() && !self.waiting.is_empty() {
            let Some(own) = transport.protocol().and_then(|protocol| protocol.downcast::<Http>()) else { return };
            let task = spawn(answer_all(own, transport.clone(), self.root.clone()));
            self.answering = Some(task.cancel_on_drop());
        }
    }

    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.answering = None;
    }
}

/// Answers the requests of a connection, one after the other.
async fn answer_all(http: ProtocolRef<Http>, transport: Transport, root: Rc<Path>) {
    while let Some(request) = http.with(|http| http.next(&transport)) {
        match answer(request, &transport, &root).await {
            Ok(true) => {}
            Ok(false) => return transport.close(),
            // Half of an answer cannot be taken back.
            Err(_) => return transport.abort(),
        }
    }
}

/// Answers one request: false if it is to be the last.
async fn answer(request: Result<Request, Refusal>, transport: &Transport, root: &Rc<Path>) -> io::Result<bool> {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => return Ok(refuse(transport, &refusal, false, false)),
    };
    let (folder, path) = (root.to_path_buf(), request.path);
    let opened = spawn_blocking(move || open(&folder, &path)).await?;
    let (mut file, len, content_type) = match opened {
        Ok(opened) => opened,
        Err(refusal) => return Ok(refuse(transport, &refusal, request.keep_alive, request.method == Method::Head)),
    };
    let head = head("200 OK", content_type, len, request.keep_alive);
    if request.method == Method::Head || len == 0 {
        transport.write(head.as_bytes());
        return Ok(request.keep_alive);
    }
    let (mut head, mut left) = (Some(head), len);
    while left > 0 {
        let (back, chunk) = spawn_blocking(move || read_chunk(file, left)).await??;
        file = back;
        if chunk.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
        }
        left -= chunk.len() as u64;
        match head.take() {
            Some(head) => transport.writelines(&[IoSlice::new(head.as_bytes()), IoSlice::new(&chunk)]),
            None => transport.write_owned(chunk),
        }
        transport.ready().await?;
    }
    Ok(request.keep_alive)
}

fn refuse(transport: &Transport, refusal: &Refusal, keep_alive: bool, head_only: bool) -> bool {
    let keep_alive = keep_alive && !refusal.fatal;
    let body = format!("{}\n", refusal.status);
    let head = head(refusal.status, "text/plain; charset=utf-8", body.len() as u64, keep_alive);
    let body = if head_only { "" } else { &body };
    transport.writelines(&[IoSlice::new(head.as_bytes()), IoSlice::new(body.as_bytes())]);
    keep_alive
}

struct Options {
    addr: SocketAddr,
    root: PathBuf,
}

fn options() -> Option<Options> {
    let mut options = Options { addr: SocketAddr::from(([127, 0, 0, 1], 8080)), root: PathBuf::from(".") };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--root" => options.root = args.next()?.into(),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> io::Result<()> {
    let Some(Options { addr, root }) = options() else {
        eprintln!("usage: http_server [--addr 127.0.0.1:8080] [--root .]");
        std::process::exit(2);
    };
    let root: Rc<Path> = root.canonicalize()?.into();
    roundelay::block_on(async {
        let (el, served) = (roundelay::get_running_loop()?, root.clone());
        let server = el.create_server(move || Http::new(served.clone()), addr).idle_timeout(IDLE).await?;
        println!("serving {} on http://{}", root.display(), server.local_addrs()[0]);
        server.serve_forever().await
    })
}
