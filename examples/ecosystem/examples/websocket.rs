//! Web sockets, by async-tungstenite, over streams of this crate: a server that echoes, and a client.
//!
//! The library wants `AsyncRead` and `AsyncWrite` of the `futures` crate, which the streams have, those of TLS as those of
//! TCP, and starts nothing by itself: one task per connection is all there is. The echo waits until its answer is with the kernel before it reads on,
//! so a client that sends and never reads comes to a stand by itself, and takes no memory.
//!
//! On SIGINT or SIGTERM the server takes leave of everybody: it says that it is going away, and waits for the answers, but
//! not for long.
//!
//! Try it:
//! * `cargo run --example websocket -- server 127.0.0.1:8765`, and in another terminal
//! * `cargo run --example websocket -- client ws://127.0.0.1:8765`, which sends what is typed;
//! * with `CERT KEY`, two files in PEM, the server speaks TLS, and `client wss://HOST:PORT CA` trusts the one in a file.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{accept_async_with_config, client_async};
use futures::future::{Either, select};
use futures::{AsyncRead, AsyncWrite, StreamExt};
use roundelay::{
    LoopFuture, SignalKind, TaskGroup, TcpListener, TcpStream, TlsAcceptor, TlsConnector, TlsIdentity,
    get_running_loop, signal, stdin, timeout,
};

const USAGE: &str =
    "usage: websocket server ADDR:PORT [CERT KEY] | websocket client ws://HOST:PORT | client wss://HOST:PORT CA";

/// Who has not asked for a web socket after so long is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the server waits for those who are to take leave.
const GRACE: Duration = Duration::from_secs(5);

/// The longest message.
const LONGEST: usize = 16 << 20;

/// Sends back what one client says, until that one or the server has enough.
async fn echo<S>(stream: S, stop: impl Future) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = WebSocketConfig::default().max_message_size(Some(LONGEST)).read_buffer_size(16 << 10);
    let accepted = timeout(HANDSHAKE, accept_async_with_config(stream, Some(limits))).await;
    let mut socket = accepted.map_err(io::Error::from)??;
    let mut stop = pin!(stop);
    loop {
        let message = match select(socket.next(), &mut stop).await {
            Either::Left((Some(message), _)) => message?,
            Either::Left((None, _)) => return Ok(()),
            Either::Right(_) => break,
        };
        // Pings are answered, and a farewell returned, by the library.
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "the server is going away".into() })).await?;
    // What the client has sent before it heard of it is of no interest any more, but for its farewell.
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}

/// Serves until a signal says that it is enough.
async fn serve(addr: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}://{}", if tls.is_some() { "wss" } else { "ws" }, listener.local_addr()?);
    let stop: LoopFuture<()> = get_running_loop()?.create_future();
    let mut signals = futures::stream::select(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut clients = 0_u64;
    let served = TaskGroup::try_scope(async |group| {
        loop {
            let (stream, peer) = match select(pin!(listener.accept()), signals.next()).await {
                Either::Left((accepted, _)) => accepted?,
                Either::Right(_) => break,
            };
            clients += 1;
            let (stop, tls) = (stop.clone(), tls.clone());
            group.spawn_infallible(async move {
                let echoed = match tls {
                    None => echo(stream, stop).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => echo(stream, stop).await,
                        Err(error) => Err(error.into()),
                    },
                };
                match echoed {
                    Ok(()) => println!("{peer} has left"),
                    Err(error) => println!("{peer} is lost: {error}"),
                }
            });
        }
        let _ = stop.set_result(());
        let el = get_running_loop()?;
        let group = group.clone();
        el.call_later(GRACE, move || group.cancel());
        Ok(())
    });
    served.await.map_err(io::Error::other)?;
    println!("stopped after {clients} clients");
    Ok(())
}

/// Connects, over TLS if a file says whom to trust.
async fn connect(url: &str, ca: Option<&str>) -> Result<(), Error> {
    let scheme = if ca.is_some() { "wss://" } else { "ws://" };
    let address = url.strip_prefix(scheme).and_then(|rest| rest.split('/').next());
    let (host, port) = address.and_then(|address| address.rsplit_once(':')).ok_or_else(|| io::Error::other(USAGE))?;
    let stream = TcpStream::connect((host, port)).await?;
    match ca {
        None => talk(url, stream).await,
        Some(ca) => {
            let connector = TlsConnector::builder().roots_from_pem_file(ca).build()?;
            talk(url, connector.connect(stream, host).await?).await
        }
    }
}

/// Sends what is typed, and shows what comes.
async fn talk(url: &str, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    let (mut socket, _) = client_async(url, stream).await?;
    let mut input = stdin()?;
    loop {
        let line = input.readline().await.map_err(io::Error::from)?;
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        socket.send(Message::text(line)).await?;
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => {
                println!("closed: {frame:?}");
                return Ok(());
            }
            Some(message) => println!("{}", message?),
            None => return Ok(()),
        }
    }
    socket.close(None).await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["server", addr, ref files @ ..] => {
            let addr = addr.parse().map_err(|_| io::Error::other(USAGE))?;
            let tls = match files {
                [] => None,
                [cert, key] => {
                    let identity = TlsIdentity::from_pem_files(cert, key)?;
                    Some(TlsAcceptor::builder().identity(identity).build()?)
                }
                _ => return Err(io::Error::other(USAGE)),
            };
            roundelay::block_on(serve(addr, tls))
        }
        ["client", url] => roundelay::block_on(connect(url, None)).map_err(io::Error::other),
        ["client", url, ca] => roundelay::block_on(connect(url, Some(ca))).map_err(io::Error::other),
        _ => Err(io::Error::other(USAGE)),
    }
}
