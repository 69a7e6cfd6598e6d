//! Web sockets by async-tungstenite, beside Python's `websockets`.

use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;

use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, accept_async, client_async};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt, SinkExt, StreamExt};
use roundelay::{CancelOnDrop, EventLoop, TcpListener, TcpStream, TlsAcceptor, UnixStream, spawn, yield_now};
use roundelay_ecosystem::python_with;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::alone;
use crate::identity::Identity;
use crate::program::{Running, example};
use crate::{on_each_selector, output, with};

const CLIENT: &str = include_str!("websocket_client.py");
const SERVER: &str = include_str!("websocket_server.py");

/// Python with a script.
fn python(script: &str) -> Option<Command> {
    let mut python = python_with("websockets")?;
    python.args(["-c", script]);
    Some(python)
}

/// The same command once more.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

/// Sends back what it gets; gives how many messages that were.
async fn echo<S>(stream: S) -> Result<u64, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = accept_async(stream).await?;
    let mut count = 0;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            count += 1;
            socket.send(message).await?;
        }
    }
    Ok(count)
}

/// Serves clients, one after the other, until it is dropped.
async fn serve(tls: Option<TlsAcceptor>) -> (SocketAddr, CancelOnDrop<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = match &tls {
                None => echo(stream).await,
                Some(tls) => echo(tls.accept(stream).await.unwrap()).await,
            };
        }
    });
    (address, serving.cancel_on_drop())
}

async fn connect(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(format!("ws://{address}/"), stream).await.unwrap().0
}

async fn next(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> Message {
    socket.next().await.unwrap().unwrap()
}

/// Python sends short and long messages, in pieces, with pings between them, and takes leave; what is too long is refused.
/// Behind TLS it is the same.
#[test]
fn python_talks_to_a_server() {
    with(
        || Some((python(CLIENT)?, Identity::new())),
        async |_, (python, identity)| {
            let (address, _serving) = serve(None).await;
            let mut client = again(python);
            client.arg(format!("ws://{address}/"));
            assert_eq!(output(client).await, "done\n");
            let (address, _serving) = serve(Some(identity.acceptor(&[]))).await;
            let mut client = again(python);
            client.args([format!("wss://localhost:{}/", address.port()), identity.path("cert.pem")]);
            assert_eq!(output(client).await, "done\n");
        },
    );
}

/// A server of Python's answers a client, in pieces, too, is answered its pings, and takes leave.
#[test]
fn a_client_talks_to_python() {
    let needed = || {
        let identity = Identity::new();
        let mut plain = Running::start(&mut python(SERVER)?);
        let mut tls = Running::start(python(SERVER)?.args(["cert.pem", "key.pem"].map(|name| identity.path(name))));
        let addresses = (plain.address(), tls.address());
        Some((plain, tls, addresses, identity))
    };
    with(needed, async |_, (_plain, _tls, (plain, tls), identity)| {
        talk(&mut connect(*plain).await).await;
        let stream = TcpStream::connect(*tls).await.unwrap();
        let stream = identity.connector(&[]).connect(stream, "localhost").await.unwrap();
        talk(&mut client_async("wss://localhost/", stream).await.unwrap().0).await;
    });
}

async fn talk(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) {
    socket.send(Message::text("häß")).await.unwrap();
    assert_eq!(next(socket).await, Message::text("häß"));
    let big: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
    socket.send(Message::binary(big.clone())).await.unwrap();
    assert!(next(socket).await.into_data() == big);
    socket.send(Message::text("pieces")).await.unwrap();
    assert_eq!(next(socket).await, Message::text("one two three"));
    // The server says so when it has been answered, which is by reading on.
    socket.send(Message::text("ping")).await.unwrap();
    assert_eq!(next(socket).await, Message::Ping("there?".into()));
    assert_eq!(next(socket).await, Message::text("pong"));
    socket.send(Message::Ping("and you?".into())).await.unwrap();
    assert_eq!(next(socket).await, Message::Pong("and you?".into()));
    socket.send(Message::text("close")).await.unwrap();
    let Message::Close(Some(frame)) = next(socket).await else { panic!("no farewell") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "as you like"));
    assert!(socket.next().await.is_none());
}

/// A client that sends and never reads comes to a stand, and so does the server; what was sent is all there when it is read.
#[test]
fn a_slow_reader_holds_up_whoever_writes() {
    const COUNT: u32 = 300;
    on_each_selector(async |_| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let echoing = spawn(echo(theirs));
        let (mut writer, mut reader) = client_async("ws://here/", ours).await.unwrap().0.split();
        let sent = Rc::new(Cell::new(0));
        let counter = sent.clone();
        let writing = spawn(async move {
            for n in 0..COUNT {
                writer.send(Message::binary(vec![n as u8; 10_000 + n as usize])).await?;
                counter.set(n + 1);
            }
            writer.close().await
        });
        // When nothing moves any more.
        let mut quiet = 0;
        let mut before = 0;
        while quiet < 1000 {
            yield_now().await;
            quiet = if sent.get() == before { quiet + 1 } else { 0 };
            before = sent.get();
        }
        assert!((1..COUNT / 2).contains(&before), "{before} messages were sent to somebody who does not read");
        for n in 0..COUNT {
            let message = reader.next().await.unwrap().unwrap().into_data();
            assert!(message.len() == 10_000 + n as usize && message.iter().all(|&byte| byte == n as u8));
        }
        assert!(reader.next().await.is_none_or(|farewell| farewell.unwrap().is_close()));
        writing.await.unwrap().unwrap();
        assert_eq!(echoing.await.unwrap().unwrap(), u64::from(COUNT));
    });
}

/// A client that goes without taking leave, in the middle of a message, is an error of its task and of nobody else.
#[test]
fn a_client_that_is_cut_off_is_told_apart() {
    on_each_selector(async |_| {
        for after in [0, 1, 7, 500] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let echoing = spawn(echo(theirs));
            let (mut socket, _) = client_async("ws://here/", ours).await.unwrap();
            socket.send(Message::text("hello")).await.unwrap();
            assert_eq!(next(&mut socket).await, Message::text("hello"));
            // All of one binary message, masked, of a thousand bytes.
            let mut message = vec![0x82, 0x80 | 126, 1000_u16.to_be_bytes()[0], 1000_u16.to_be_bytes()[1]];
            message.resize(4 + 4 + 1000, 1);
            socket.get_mut().write_all(&message[..after]).await.unwrap();
            drop(socket);
            let error = echoing.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Protocol(_) | Error::Io(_)), "{error}");
        }
        // Nor is it one who never wanted a web socket.
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let echoing = spawn(echo(theirs));
        ours.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(echoing.await.unwrap().is_err());
    });
}

/// The example's server takes leave of everybody when it is told to stop; its client talks to it and to Python, behind TLS,
/// too.
#[test]
fn the_example_serves_and_talks() {
    let _alone = alone();
    let mut command = Command::new(example("websocket"));
    let mut server = Running::start(command.args(["server", "127.0.0.1:0"]));
    let address = server.address();
    if let Some(mut python) = python(CLIENT) {
        let ran = python.arg(format!("ws://{address}/")).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "done\n");
        assert!(server.line().ends_with("has left"));
        assert!(server.line().contains("is lost: Space limit exceeded"));
    }
    let el = EventLoop::new().unwrap();
    let stayed = async {
        let mut socket = connect(address).await;
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("hello"));
        kill_process(Pid::from_child(&server.child), Signal::INT).unwrap();
        let Message::Close(Some(frame)) = next(&mut socket).await else { panic!("no farewell") };
        assert_eq!(frame.code, CloseCode::Away);
        assert!(socket.next().await.is_none());
    };
    crate::common::complete(&el, stayed);
    el.close();
    assert!(server.line().ends_with("has left"));
    assert!(server.line().starts_with("stopped after "));
    assert!(server.child.wait().unwrap().success());

    let identity = Identity::new();
    let files = ["cert.pem", "key.pem"].map(|name| identity.path(name));
    for is_tls in [false, true] {
        let mut servers = Vec::new();
        let mut command = Command::new(example("websocket"));
        servers.push(Running::start(command.args(["server", "127.0.0.1:0"]).args(files.iter().filter(|_| is_tls))));
        if let Some(mut python) = python(SERVER) {
            servers.push(Running::start(python.args(files.iter().filter(|_| is_tls))));
        }
        for (mut server, pieces) in servers.into_iter().zip(["pieces", "one two three"]) {
            let scheme = if is_tls { "wss" } else { "ws" };
            let mut command = Command::new(example("websocket"));
            command.args(["client", &format!("{scheme}://localhost:{}/", server.address().port())]);
            command.args(is_tls.then_some(&files[0])).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut client = command.spawn().unwrap();
            client.stdin.take().unwrap().write_all("hello\nhäß\npieces\n".as_bytes()).unwrap();
            let ran = client.wait_with_output().unwrap();
            assert!(ran.status.success());
            assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("hello\nhäß\n{pieces}\n"));
        }
    }
}
