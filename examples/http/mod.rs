//! What `http_server` and `https_server` share: an HTTP/1.1 server for the files of a folder, over whatever carries it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use roundelay::{
    CancelOnDrop, KeepOpen, Protocol, ProtocolRef, Server, Transport, TransportId, get_running_loop, spawn,
    spawn_blocking, stdin, timeout,
};

/// The largest file that is read and written, in bytes: with its head in one system call.
const SMALL: u64 = 32 * 1024;
/// The longest head of a request, in bytes; when more than that waits for an answer, reading is paused.
const LONGEST_HEAD: usize = 16 * 1024;
/// The most header lines of a request.
const MOST_HEADERS: usize = 64;
/// A connection on which nothing happens for so long is closed.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How long a server that is stopped goes on with what it has begun.
const GRACE: Duration = Duration::from_secs(10);

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
    let input = &input[..input.len().min(LONGEST_HEAD)];
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let len = match head.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() < LONGEST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(fatal("431 Request Header Fields Too Large"));
        }
        Err(_) => return Err(fatal("400 Bad Request")),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(fatal("405 Method Not Allowed")),
    };
    let (mut hosts, mut close, mut keep) = (0, false, head.version == Some(1));
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("connection") {
            for token in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                close |= token.eq_ignore_ascii_case(b"close");
                keep |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        hosts += usize::from(is("host"));
        // What follows would be taken for the next request.
        if is("transfer-encoding") || is("content-length") && header.value.trim_ascii() != b"0" {
            return Err(fatal("413 Content Too Large"));
        }
    }
    // Only a client of the old HTTP/1.0 need not say which host it means.
    if hosts > 1 || hosts == 0 && head.version == Some(1) {
        return Err(fatal("400 Bad Request"));
    }
    let path = head.path.and_then(decode).ok_or(fatal("400 Bad Request"))?;
    Ok(Some((len, Request { method, path, keep_alive: keep && !close })))
}

/// The path of a request target: without scheme and host, which a proxy sends too, without the query, and decoded.
fn decode(target: &str) -> Option<String> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        _ if target.starts_with('/') => target,
        _ => return None,
    };
    let path = target.split('?').next().filter(|path| !path.is_empty()).unwrap_or("/");
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(*high)? * 16 + digit(*low)?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// The file under `root` that a path names. No path leads out of the root, not by `..` and not by a link.
fn locate(root: &Path, path: &str) -> Result<PathBuf, Refusal> {
    let mut file = root.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        // `..`, and what its owner keeps out of sight: `.git`, `.env`.
        if part.starts_with('.') || part.contains('\\') {
            return Err(refusal("404 Not Found"));
        }
        file.push(part);
    }
    if file.is_dir() {
        file.push("index.html");
    } else if path.ends_with('/') {
        return Err(refusal("404 Not Found"));
    }
    match file.canonicalize() {
        // Only files are opened: to open a FIFO would be to wait for somebody who writes into it.
        Ok(real) if real.starts_with(root) && real.is_file() => Ok(real),
        _ => Err(refusal("404 Not Found")),
    }
}

/// What is to be sent of a file.
enum Body {
    Nothing,
    Bytes(Vec<u8>),
    File(File),
}

/// A file that was asked for.
struct Found {
    body: Body,
    len: u64,
    content_type: &'static str,
}

/// Opens a file. Blocks.
fn open(root: &Path, path: &str, method: Method) -> Result<Found, Refusal> {
    let location = locate(root, path)?;
    let file = File::open(&location).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => refusal("403 Forbidden"),
        _ => refusal("404 Not Found"),
    })?;
    let mut len = file.metadata().map_err(|_| refusal("404 Not Found"))?.len();
    let body = match method {
        Method::Head => Body::Nothing,
        Method::Get if len > SMALL => Body::File(file),
        Method::Get => {
            let mut bytes = Vec::with_capacity(len as usize);
            file.take(SMALL).read_to_end(&mut bytes).map_err(|_| refusal("500 Internal Server Error"))?;
            // It may have changed since.
            len = bytes.len() as u64;
            Body::Bytes(bytes)
        }
    };
    Ok(Found { body, len, content_type: content_type(&location) })
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

/// The date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(time: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut day = seconds / 86_400;
    let weekday = WEEKDAYS[(day % 7) as usize];
    let (mut year, mut month) = (1970, 0);
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (name, days) = (MONTHS[month], DAYS[month] + u64::from(leap && month == 1));
        if day < days {
            let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
            return format!("{weekday}, {:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1);
        }
        day -= days;
        month = (month + 1) % 12;
        year += u64::from(month == 0);
    }
}

fn head(status: &str, content_type: &str, len: u64, keep_alive: bool) -> String {
    let date = date(SystemTime::now());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nServer: roundelay\r\nDate: {date}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {len}\r\n{allow}Connection: {connection}\r\n\r\n"
    )
}

/// The folder that is served, and who is connected.
pub(crate) struct Site {
    root: PathBuf,
    connections: RefCell<HashMap<TransportId, Transport>>,
    stopping: Cell<bool>,
}

impl Site {
    /// # Errors
    ///
    /// There is no such folder.
    pub(crate) fn new(root: &Path) -> io::Result<Rc<Self>> {
        let root = root.canonicalize()?;
        Ok(Rc::new(Self { root, connections: RefCell::default(), stopping: Cell::new(false) }))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Ends the server in an orderly way: idle connections are closed, the others when they have been answered, at most
    /// one request each. Those that take longer are cut off: false.
    pub(crate) async fn stop(&self, server: &Server, grace: Duration) -> bool {
        server.close();
        self.stopping.set(true);
        let connections: Vec<Transport> = self.connections.borrow().values().cloned().collect();
        for transport in connections {
            let http = transport.protocol().and_then(|protocol| protocol.downcast::<Http>());
            if http.is_some_and(|http| http.with(|http| http.answering.is_none())) {
                transport.close();
            }
        }
        let in_time = timeout(grace, server.wait_closed()).await.is_ok();
        if !in_time {
            server.abort_clients();
            server.wait_closed().await;
        }
        in_time
    }
}

/// One connection.
pub(crate) struct Http {
    site: Rc<Site>,
    /// What has arrived and is not answered.
    arrived: BytesMut,
    /// Answers it; ends with the connection.
    answering: Option<CancelOnDrop<()>>,
    /// The peer will send no more.
    ended: bool,
}

impl Http {
    pub(crate) fn new(site: &Rc<Site>) -> Self {
        Self { site: site.clone(), arrived: BytesMut::new(), answering: None, ended: false }
    }

    /// The next request, or `None` when nothing is left to answer for now.
    fn next(&mut self, transport: &Transport) -> Option<Result<Request, Refusal>> {
        let parsed = parse(&self.arrived).transpose();
        if let Some(Ok((len, _))) = parsed {
            self.arrived.advance(len);
        }
        if self.arrived.len() <= LONGEST_HEAD {
            transport.resume_reading();
        }
        if parsed.is_none() {
            // This task is about to end: it must not be cancelled by its own handle.
            drop(self.answering.take().map(CancelOnDrop::detach_on_drop));
            if self.ended || self.site.stopping.get() {
                transport.close();
            }
        }
        if self.arrived.is_empty() {
            // An idle connection keeps no memory.
            self.arrived = BytesMut::new();
        }
        parsed.map(|parsed| {
            parsed
                .map(|(_, request)| Request { keep_alive: request.keep_alive && !self.site.stopping.get(), ..request })
        })
    }
}

impl Protocol for Http {
    fn connection_made(&mut self, transport: &Transport) {
        if self.site.stopping.get() {
            return transport.close();
        }
        self.site.connections.borrow_mut().insert(transport.id(), transport.clone());
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.arrived.extend_from_slice(data);
        if self.arrived.len() > LONGEST_HEAD {
            transport.pause_reading();
        }
        if self.answering.is_none() {
            let Some(own) = transport.protocol().and_then(|protocol| protocol.downcast::<Http>()) else { return };
            let task = spawn(answer_all(own, transport.clone(), self.site.clone()));
            self.answering = Some(task.cancel_on_drop());
        }
    }

    /// A client may say that it has no more requests before it has read the answers. With TLS that ends both directions.
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.ended = true;
        if self.answering.is_some() && transport.can_write_eof() { KeepOpen::Yes } else { KeepOpen::No }
    }

    fn connection_lost(&mut self, transport: &Transport, _: Option<io::Error>) {
        self.answering = None;
        self.site.connections.borrow_mut().remove(&transport.id());
    }
}

/// Answers the requests of a connection, one after the other.
async fn answer_all(http: ProtocolRef<Http>, transport: Transport, site: Rc<Site>) {
    while let Some(request) = http.with(|http| http.next(&transport)) {
        match answer(request, &transport, &site.root).await {
            Ok(true) => {}
            Ok(false) => return transport.close(),
            // Half of an answer cannot be taken back.
            Err(_) => return transport.abort(),
        }
        // The next answer when the peer has read enough of this one.
        if transport.ready().await.is_err() {
            return;
        }
    }
}

/// Answers one request: false if it is to be the last.
async fn answer(request: Result<Request, Refusal>, transport: &Transport, root: &Path) -> io::Result<bool> {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => return Ok(refuse(transport, &refusal, false, false)),
    };
    let (folder, path) = (root.to_path_buf(), request.path);
    let opened = spawn_blocking(move || open(&folder, &path, request.method)).await?;
    let Found { body, len, content_type } = match opened {
        Ok(found) => found,
        Err(refusal) => return Ok(refuse(transport, &refusal, request.keep_alive, request.method == Method::Head)),
    };
    let head = head("200 OK", content_type, len, request.keep_alive);
    match body {
        Body::Nothing => transport.write(head.as_bytes()),
        Body::Bytes(bytes) => transport.writelines(&[IoSlice::new(head.as_bytes()), IoSlice::new(&bytes)]),
        Body::File(file) => {
            transport.write(head.as_bytes());
            if get_running_loop()?.sendfile(transport, &file).count(len).await? < len {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
            }
        }
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

/// Serves until a line arrives on the standard input, and then stops in an orderly way. Without any input: for ever.
pub(crate) async fn serve(server: &Server, site: &Site) -> io::Result<()> {
    let Ok(mut input) = stdin() else { return server.serve_forever().await };
    if !input.readline().await.is_ok_and(|line| !line.is_empty()) {
        return server.serve_forever().await;
    }
    let in_time = site.stop(server, GRACE).await;
    println!("{}", if in_time { "stopped" } else { "stopped; some were cut off" });
    Ok(())
}
