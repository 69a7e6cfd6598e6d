//! A mail server that speaks a little SMTP (RFC 5321) and STARTTLS (RFC 3207), and a client that hands it a message.
//!
//! The connection begins in clear. The server says that it can do better, the client asks for it, and both go on over TLS
//! with the reader and the writer that they have. Two things are easy to get wrong. What a client has sent behind its
//! `STARTTLS` without waiting for the answer must not be taken for something that was said by TLS: whoever sits between the
//! two could put commands there. `start_tls` takes it for the peer's first words of TLS, which it is not, and the connection
//! fails. And all that was said before is worth nothing afterwards, for the same reason: both sides begin anew with `EHLO`.
//! Nothing is read from the moment in which `start_tls` is called; so it is called before the server's answer is sent.
//!
//! Try it: `cargo run --features tls --example starttls` runs server and client in one program, with a certificate of its
//! own; `.. starttls 127.0.0.1:2525` serves until it is killed:
//! `openssl s_client -connect 127.0.0.1:2525 -starttls smtp -crlf`

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use roundelay::{
    Server, StreamReader, StreamWriter, TlsAcceptor, TlsConnector, TlsIdentity, open_connection, start_server,
};

/// A client's side of the server.
struct Session {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Session {
    /// The next command in upper case, and all of its line. `None` at the end.
    async fn command(&mut self) -> io::Result<Option<(String, String)>> {
        let line = self.reader.readline().await?;
        if line.is_empty() {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        Ok(Some((verb, line)))
    }

    fn answer(&mut self, text: &str) {
        // In one piece: some clients take the end of a line that comes later for the first of TLS.
        self.writer.write(format!("{text}\r\n").as_bytes());
    }

    fn is_secret(&self) -> bool {
        self.writer.extra_info().tls.is_some()
    }

    /// The lines up to one with a dot alone.
    async fn message(&mut self) -> io::Result<usize> {
        let mut lines = 0;
        while self.reader.readline().await? != b".\r\n" {
            lines += 1;
            if self.reader.at_eof() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(lines)
    }

    async fn run(mut self, acceptor: TlsAcceptor) -> io::Result<()> {
        self.answer("220 localhost ESMTP");
        while let Some((verb, line)) = self.command().await? {
            match verb.as_str() {
                "EHLO" if self.is_secret() => self.answer("250 localhost"),
                "EHLO" => self.answer("250-localhost\r\n250 STARTTLS"),
                "STARTTLS" if self.is_secret() => self.answer("503 It is TLS already"),
                "STARTTLS" => {
                    let starting =
                        self.writer.start_tls(acceptor.clone()).tls_handshake_timeout(Duration::from_secs(10));
                    self.answer("220 Go ahead");
                    starting.await?;
                }
                "MAIL" | "RCPT" if !self.is_secret() => self.answer("530 Must issue a STARTTLS command first"),
                "MAIL" | "RCPT" | "NOOP" => self.answer("250 OK"),
                "DATA" if self.is_secret() => {
                    self.answer("354 End with a dot alone");
                    let lines = self.message().await?;
                    self.answer(&format!("250 OK, {lines} lines"));
                }
                "QUIT" => {
                    self.answer("221 Bye");
                    break;
                }
                _ => self.answer(&format!("500 What is {line:?}?")),
            }
        }
        self.writer.close();
        self.writer.wait_closed().await
    }
}

async fn serve(acceptor: TlsAcceptor, addr: SocketAddr) -> io::Result<Server> {
    let handler = async move |reader, writer| Session { reader, writer }.run(acceptor.clone()).await;
    start_server(handler, addr).await
}

/// Says something, unless it is empty, and checks the answer; gives its text.
async fn say(reader: &mut StreamReader, writer: &mut StreamWriter, line: &str, code: &str) -> io::Result<String> {
    if !line.is_empty() {
        println!("client: {line}");
        writer.write(format!("{line}\r\n").as_bytes());
    }
    let mut text = String::new();
    loop {
        let line = String::from_utf8_lossy(&reader.readline().await?).trim_end().to_owned();
        println!("server: {line}");
        if !line.starts_with(code) {
            return Err(io::Error::other(format!("the server has answered {line:?} in place of {code}")));
        }
        text.push_str(&line);
        // A dash in place of the blank says that there is more.
        if line.as_bytes().get(code.len()) != Some(&b'-') {
            return Ok(text);
        }
    }
}

async fn send_mail(addr: SocketAddr, connector: TlsConnector) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(addr).await?;
    let (reader, writer) = (&mut reader, &mut writer);
    say(reader, writer, "", "220").await?;
    let offered = say(reader, writer, "EHLO client", "250").await?;
    // Whoever takes this line out of the answer must not be able to read the mail.
    if !offered.contains("STARTTLS") {
        return Err(io::Error::other("the server knows no TLS"));
    }
    say(reader, writer, "MAIL FROM:<me@example.org>", "530").await?;
    say(reader, writer, "STARTTLS", "220").await?;
    writer.start_tls(connector).server_hostname("localhost").await?;
    let tls = writer.extra_info().tls.expect("it has just begun");
    println!("({:?} with {})", tls.version, tls.server_name.unwrap_or_default());

    say(reader, writer, "EHLO client", "250").await?;
    say(reader, writer, "MAIL FROM:<me@example.org>", "250").await?;
    say(reader, writer, "RCPT TO:<you@example.org>", "250").await?;
    say(reader, writer, "DATA", "354").await?;
    let stored = say(reader, writer, "Subject: hello\r\n\r\nNobody else can read this.\r\n.", "250").await?;
    assert!(stored.ends_with("3 lines"), "{stored}");
    say(reader, writer, "QUIT", "221").await?;
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).build()?;
    let addr = std::env::args().nth(1).map(|addr| addr.parse());
    roundelay::block_on(async {
        match addr {
            Some(addr) => {
                let addr = addr.map_err(|_| io::Error::other("usage: starttls [ADDR:PORT]"))?;
                let server = serve(acceptor, addr).await?;
                println!("listening on {}", server.local_addrs()[0]);
                server.serve_forever().await
            }
            None => {
                let server = serve(acceptor, ([127, 0, 0, 1], 0).into()).await?;
                send_mail(server.local_addrs()[0], connector).await?;
                server.shutdown(Duration::from_secs(1)).await;
                Ok(())
            }
        }
    })
}
