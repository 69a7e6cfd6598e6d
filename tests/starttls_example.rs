//! The example of STARTTLS, with itself and with OpenSSL's client.

#![cfg(feature = "__tls")]

#[path = "common/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use program::{Running, example, output};

#[test]
fn starttls_sends_itself_a_mail() {
    let shown = String::from_utf8(output(&mut Command::new(example("starttls")))).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[..4],
        ["server: 220 localhost ESMTP", "client: EHLO client", "server: 250-localhost", "server: 250 STARTTLS"]
    );
    assert!(lines.contains(&"server: 530 Must issue a STARTTLS command first"), "{shown}");
    let change = lines.iter().position(|line| *line == "server: 220 Go ahead").unwrap();
    assert_eq!(lines[change + 1], "(Tls13 with localhost)");
    assert!(lines.contains(&"server: 250 OK, 3 lines"), "{shown}");
    assert_eq!(lines.last(), Some(&"server: 221 Bye"));
}

/// SR-22: STARTTLS with a client that nobody here wrote.
#[test]
fn starttls_serves_openssl() {
    let mut server = Running::start(Command::new(example("starttls")).arg("127.0.0.1:0"));
    let address = server.address().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-starttls", "smtp", "-crlf", "-quiet", "-ign_eof", "-connect", &address]);
    let mut client = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
        Ok(client) => client,
        Err(error) => return eprintln!("SKIPPED: openssl cannot be started: {error}"),
    };
    // The quick client says all of it at once.
    client.stdin.take().unwrap().write_all(b"EHLO here\nSTARTTLS\nMAIL FROM:<a@b>\nQUIT\n").unwrap();
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(client.wait().unwrap().success());
    for line in ["250 localhost\r\n", "503 It is TLS already\r\n", "250 OK\r\n", "221 Bye\r\n"] {
        assert!(said.contains(line), "{line:?} is not in {said:?}");
    }
}

/// SR-22: commands behind STARTTLS are not run; the server goes on with others.
#[test]
fn starttls_takes_no_commands_from_between() {
    let mut server = Running::start(Command::new(example("starttls")).arg("127.0.0.1:0"));
    let address = server.address();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"STARTTLS\r\nNOOP\r\nQUIT\r\n").unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    let clear = b"220 localhost ESMTP\r\n220 Go ahead\r\n";
    assert_eq!(&said[..clear.len()], clear);
    // An alert is all that follows.
    assert!(said[clear.len()..].starts_with(&[21, 3]) && said.len() < clear.len() + 20, "{said:?}");
    let mut next = TcpStream::connect(address).unwrap();
    program::expect(&mut next, b"220 localhost ESMTP\r\n");
}
