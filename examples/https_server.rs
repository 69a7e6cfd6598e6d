//! The server of `http_server` behind TLS: nothing of it changes, for to a protocol TLS is a transport like any other.
//!
//! The certificate is made at the start, for `localhost` and the loopback's addresses, unless one is given by its files
//! (the chain and the key, both PEM). What is made is written to a file that lives as long as the server, so that a client
//! can be told to trust it. A client that begins a handshake and says no more is let go after ten seconds; nobody waits for
//! it meanwhile.
//!
//! Try it: `cargo run --release --features tls --example https_server` says what to type, a line of `curl --cacert`
//! (usage: `https_server [--addr 127.0.0.1:8443] [--root .] [--cert FILE --key FILE]`). Enter stops the server: who is just
//! being answered gets the answer.

mod http;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Http, IDLE, Site};
use roundelay::{TlsAcceptor, TlsIdentity, get_running_loop};
use tempfile::TempDir;

struct Options {
    addr: SocketAddr,
    root: PathBuf,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn options() -> Option<Options> {
    let addr = SocketAddr::from(([127, 0, 0, 1], 8443));
    let mut options = Options { addr, root: PathBuf::from("."), cert: None, key: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--root" => options.root = args.next()?.into(),
            "--cert" => options.cert = Some(args.next()?.into()),
            "--key" => options.key = Some(args.next()?.into()),
            _ => return None,
        }
    }
    Some(options).filter(|options| options.cert.is_some() == options.key.is_some())
}

/// A certificate of our own making, and the folder with the file that says so; it goes when it is dropped.
fn made() -> io::Result<(TlsIdentity, TempDir)> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let folder = tempfile::Builder::new().prefix("https_server-").tempdir()?;
    fs::write(folder.path().join("cert.pem"), made.cert.pem())?;
    Ok((TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?, folder))
}

fn main() -> io::Result<()> {
    let Some(Options { addr, root, cert, key }) = options() else {
        eprintln!("usage: https_server [--addr 127.0.0.1:8443] [--root .] [--cert FILE --key FILE]");
        std::process::exit(2);
    };
    let (identity, folder) = match (cert, key) {
        (Some(cert), Some(key)) => (TlsIdentity::from_pem_files(cert, key)?, None),
        _ => made().map(|(identity, folder)| (identity, Some(folder)))?,
    };
    let acceptor = TlsAcceptor::builder().identity(identity).alpn(["http/1.1"]).build()?;
    let site = Site::new(&root)?;
    roundelay::block_on(async {
        let served = site.clone();
        let server = get_running_loop()?
            .create_server(move || Http::new(&served), addr)
            .tls(acceptor)
            .tls_handshake_timeout(Duration::from_secs(10))
            .idle_timeout(IDLE)
            .await?;
        let addr = server.local_addrs()[0];
        println!("serving {} on https://{addr}", site.root().display());
        if let Some(folder) = &folder {
            let cert = folder.path().join("cert.pem");
            println!("curl --cacert {} https://localhost:{}/Cargo.toml", cert.display(), addr.port());
        }
        http::serve(&server, &site).await
    })
}
