//! Fetches a page over TLS: prints the status line to the standard error, the body to the standard output.
//!
//! The server must have a certificate for the host in the URL, from somebody whom this machine trusts (the platform's
//! store) or, with `--cacert`, from those in the file alone. A body without a length ends with the connection; then the
//! connection has to end properly, so that nobody in between can cut it short unnoticed.
//!
//! Try it: `cargo run --features tls --example https_get -- https://www.rust-lang.org/`, or with the `https_server` of the
//! other example: `.. -- --cacert FILE https://localhost:8443/Cargo.toml`

use std::io::{self, ErrorKind};
use std::time::Duration;

use roundelay::{StreamReader, StreamWriter, TlsConnector, open_connection, stdout, timeout};

const USAGE: &str = "usage: https_get [--cacert FILE] https://HOST[:PORT]/PATH";
/// A server that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes of a body are taken at once.
const CHUNK: usize = 64 * 1024;
const MOST_HEADERS: usize = 128;

struct Url {
    host: String,
    port: u16,
    /// The host as the URL has it, and the port if it is not the usual one.
    authority: String,
    path: String,
}

impl Url {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or("");
        let (host, port) = match authority.rsplit_once(':') {
            // The colons in the brackets of an IPv6 address separate no port.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, 443),
        };
        let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url =
            Self { host: plain.to_owned(), port, authority: authority.to_owned(), path: format!("{slash}{path}") };
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        Some(url).filter(|url| !url.host.is_empty() && visible(&url.authority) && visible(&url.path))
    }
}

/// How one knows where a body ends.
enum Length {
    Bytes(u64),
    Chunked,
    ToTheEnd,
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.into())
}

/// Waits for the server, but not for ever.
async fn patiently<T, E: Into<io::Error>>(future: impl Future<Output = Result<T, E>>) -> io::Result<T> {
    timeout(PATIENCE, future).await?.map_err(Into::into)
}

/// Reads the head of the answer: the status line, and what is said about the body.
async fn head(reader: &mut StreamReader) -> io::Result<(String, Length)> {
    let head = patiently(reader.readuntil(b"\r\n\r\n")).await?;
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&head).map_err(|error| bad(format!("the server speaks no HTTP: {error}")))?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok().map(str::trim)
    };
    let code = response.code.unwrap_or_default();
    let length = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        Length::Chunked
    } else if matches!(code, 204 | 304) {
        Length::Bytes(0)
    } else {
        match header("content-length") {
            Some(length) => Length::Bytes(length.parse().map_err(|_| bad("a Content-Length that is no number"))?),
            None => Length::ToTheEnd,
        }
    };
    Ok((format!("{code} {}", response.reason.unwrap_or_default()), length))
}

/// Copies so many bytes.
async fn copy(reader: &mut StreamReader, output: &mut StreamWriter, mut left: u64) -> io::Result<()> {
    while left > 0 {
        let data = patiently(reader.read(left.min(CHUNK as u64) as usize)).await?;
        if data.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{left} bytes of the body are missing")));
        }
        left -= data.len() as u64;
        output.write_owned(data);
        output.drain().await?;
    }
    Ok(())
}

async fn copy_body(reader: &mut StreamReader, output: &mut StreamWriter, length: Length) -> io::Result<()> {
    match length {
        Length::Bytes(length) => copy(reader, output, length).await,
        Length::ToTheEnd => loop {
            let data = patiently(reader.read(CHUNK)).await?;
            if data.is_empty() {
                return Ok(());
            }
            output.write_owned(data);
            output.drain().await?;
        },
        Length::Chunked => loop {
            let line = patiently(reader.readuntil(b"\r\n")).await?;
            let line = std::str::from_utf8(&line).unwrap_or_default();
            let size = line.split(';').next().unwrap_or_default().trim();
            match u64::from_str_radix(size, 16).map_err(|_| bad("a chunk without its size"))? {
                0 => return Ok(()),
                size => copy(reader, output, size).await?,
            }
            patiently(reader.readexactly(2)).await?;
        },
    }
}

async fn get(url: &Url, connector: TlsConnector) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection((&*url.host, url.port))
        .tls(connector)
        .tls_handshake_timeout(PATIENCE)
        .tls_shutdown_timeout(Duration::from_secs(1))
        .await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, url.authority);
    writer.write(request.as_bytes());
    let (status, length) = loop {
        let (status, length) = head(&mut reader).await?;
        // Something that goes before the answer.
        if !status.starts_with('1') {
            break (status, length);
        }
    };
    eprintln!("{status}");
    let mut output = stdout()?;
    copy_body(&mut reader, &mut output, length).await?;
    output.close();
    output.wait_closed().await?;
    // Everything is here: how the connection ends is of no interest any more.
    writer.close();
    let _ = writer.wait_closed().await;
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (url, connector) = match args[..] {
        [url] => (url, TlsConnector::builder()),
        ["--cacert", file, url] => (url, TlsConnector::builder().roots_from_pem_file(file)),
        _ => return Err(io::Error::other(USAGE)),
    };
    let url = Url::parse(url).ok_or_else(|| io::Error::other(USAGE))?;
    let connector = connector.alpn(["http/1.1"]).require_close_notify(true).build()?;
    match roundelay::block_on(get(&url, connector)) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
