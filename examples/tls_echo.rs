//! An echo server behind TLS, and a client that talks to it.
//!
//! The only difference to `echo_streams` is `.tls(..)`: an acceptor for servers, which says who they are, and a connector
//! for clients, which says whom they trust. Everything else, flow control and the end included, is as it was. Each side
//! can see what was agreed on: the version, the cipher, and who the other one is.
//!
//! Try it:
//! * `cargo run --features tls --example tls_echo` runs server and client in one program, with a certificate of its own;
//! * `.. tls_echo -- server 127.0.0.1:8888 CERT KEY` serves until it is killed, with a chain and a key from PEM files;
//! * `.. tls_echo -- client localhost 8888 CA` sends it what is typed, if its certificate is from an authority in the file.

use std::io;
use std::time::Duration;

use roundelay::{
    ReadError, StreamReader, StreamWriter, TlsAcceptor, TlsConnector, TlsIdentity, open_connection, start_server, stdin,
};

const USAGE: &str = "usage: tls_echo [server ADDR:PORT CERT KEY | client HOST PORT CA]";

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            break;
        }
        writer.write(&data);
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

/// Sends a line and waits for it to come back.
async fn talk(reader: &mut StreamReader, writer: &mut StreamWriter, line: &[u8]) -> Result<(), ReadError> {
    writer.write(line);
    writer.drain().await?;
    print!("echoed: {}", String::from_utf8_lossy(&reader.readexactly(line.len()).await?));
    Ok(())
}

fn show(writer: &StreamWriter) {
    if let Some(tls) = writer.extra_info().tls {
        println!("{:?}, {}", tls.version, tls.cipher_suite);
    }
}

/// Server and client in one program, the one with a certificate that the other trusts.
async fn talk_to_myself() -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).build()?;

    let server = start_server(echo, ("127.0.0.1", 0)).tls(acceptor).await?;
    // The certificate is for a name, not for this address.
    let connection = open_connection(server.local_addrs()[0]).tls(connector).server_hostname("localhost");
    let (mut reader, mut writer) = connection.await?;
    show(&writer);
    for line in ["one\n", "two\n", "three\n"] {
        talk(&mut reader, &mut writer, line.as_bytes()).await?;
    }
    writer.close();
    writer.wait_closed().await?;
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

async fn serve(addr: &str, acceptor: TlsAcceptor) -> io::Result<()> {
    let server = start_server(echo, addr).tls(acceptor).await?;
    println!("listening on {}", server.local_addrs()[0]);
    server.serve_forever().await
}

async fn client(host: &str, port: u16, connector: TlsConnector) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection((host, port)).tls(connector).await?;
    show(&writer);
    let mut input = stdin()?;
    loop {
        let line = input.readline().await?;
        if line.is_empty() {
            break;
        }
        talk(&mut reader, &mut writer, &line).await?;
    }
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => roundelay::block_on(talk_to_myself()),
        ["server", addr, cert, key] => {
            let acceptor = TlsAcceptor::builder().identity(TlsIdentity::from_pem_files(cert, key)?).build()?;
            roundelay::block_on(serve(addr, acceptor))
        }
        ["client", host, port, ca] => {
            let port = port.parse().map_err(|_| io::Error::other(USAGE))?;
            let connector = TlsConnector::builder().roots_from_pem_file(ca).build()?;
            roundelay::block_on(client(host, port, connector))
        }
        _ => Err(io::Error::other(USAGE)),
    }
}
