//! What is measured side by side: roundelay, tokio's `current_thread` with a `LocalSet`, and smol's `LocalExecutor`,
//! behind one trait; and the work that is the same for all, in [`work`].
//!
//! Each bench uses a part of it.
#![allow(dead_code)]

pub(crate) mod work;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use roundelay::{EventLoop, Protocol, Transport};

/// The read buffer of a connection where each has its own.
const BUFFER: usize = 4096;

/// A runtime that can do what all of them can.
pub(crate) trait Runtime: 'static {
    const NAME: &'static str;
    type Join: Future<Output = u64> + 'static;

    fn new() -> Self;
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
    fn spawn(future: impl Future<Output = u64> + 'static) -> Self::Join;
    /// Lets the task go on by itself.
    fn detach(join: Self::Join);
    fn yield_now() -> impl Future<Output = ()> + 'static;
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static;
    /// Echoes whatever comes on the connections of a listener, without end.
    fn serve(listener: TcpListener) -> impl Future<Output = io::Result<u64>> + 'static;
    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<impl EchoClient>>;
}

pub(crate) trait EchoClient {
    /// Sends the message and waits until it has come back.
    fn round_trip(&mut self, message: &mut [u8]) -> impl Future<Output = io::Result<()>>;
}

/// A listening socket for [`Runtime::serve`]. What it accepts inherits its options.
pub(crate) fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    plain_congestion_control(&socket);
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Where BBR is the default, its pacing timers would be what is measured.
pub(crate) fn plain_congestion_control(socket: &socket2::Socket) {
    // Where there is no such choice, what there is will do.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_congestion(b"reno");
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// A connection of the runtimes whose streams have the traits of `futures`.
struct Client<S>(S);

impl<S: futures::AsyncRead + futures::AsyncWrite + Unpin> EchoClient for Client<S> {
    async fn round_trip(&mut self, message: &mut [u8]) -> io::Result<()> {
        use futures::{AsyncReadExt, AsyncWriteExt};
        self.0.write_all(message).await?;
        self.0.read_exact(message).await
    }
}

/// One connection of a server, where streams have the traits of `futures`.
async fn echo(mut stream: impl futures::AsyncRead + futures::AsyncWrite + Unpin) -> io::Result<()> {
    use futures::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Serves by a [`Protocol`].
pub(crate) struct Roundelay(pub(crate) EventLoop);

/// A task is done with an output, or was cancelled; nobody cancels one here.
pub(crate) struct Joined(roundelay::Task<u64>);

impl Future for Joined {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.expect("not cancelled"))
    }
}

pub(crate) struct EchoProtocol;

impl Protocol for EchoProtocol {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

impl Runtime for Roundelay {
    const NAME: &'static str = "roundelay";
    type Join = Joined;

    fn new() -> Self {
        Self(EventLoop::new().expect("a loop can be made"))
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.run_until_complete(future).expect("nobody stops it")
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> Joined {
        Joined(roundelay::spawn(future))
    }
    fn detach(join: Joined) {
        drop(join);
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        roundelay::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        roundelay::sleep(time)
    }
    async fn serve(listener: TcpListener) -> io::Result<u64> {
        let server = roundelay::get_running_loop()?.create_server(|| EchoProtocol, listener).await?;
        server.serve_forever().await?;
        Ok(0)
    }
    async fn connect(address: SocketAddr) -> io::Result<impl EchoClient> {
        Ok(Client(roundelay::TcpStream::connect(address).await?))
    }
}

/// What [`Roundelay`] does by a protocol, by a task for each connection.
pub(crate) async fn serve_streams(listener: TcpListener) -> io::Result<u64> {
    let listener = roundelay::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        drop(roundelay::spawn(echo(stream)));
    }
}

pub(crate) struct Tokio(tokio::runtime::Runtime, tokio::task::LocalSet);

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    type Join = futures::future::Map<tokio::task::JoinHandle<u64>, fn(Result<u64, tokio::task::JoinError>) -> u64>;

    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be made");
        Self(runtime, tokio::task::LocalSet::new())
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.1.block_on(&self.0, future)
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> Self::Join {
        use futures::FutureExt;
        tokio::task::spawn_local(future).map(|joined| joined.expect("not cancelled"))
    }
    fn detach(join: Self::Join) {
        drop(join);
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        tokio::task::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        // Out of budget, it would be pending without having armed its timer.
        tokio::task::unconstrained(tokio::time::sleep(time))
    }
    async fn serve(listener: TcpListener) -> io::Result<u64> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                let mut buffer = vec![0; BUFFER];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => return io::Result::Ok(()),
                        n => stream.write_all(&buffer[..n]).await?,
                    }
                }
            });
        }
    }
    async fn connect(address: SocketAddr) -> io::Result<impl EchoClient> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        struct TokioClient(tokio::net::TcpStream);
        impl EchoClient for TokioClient {
            async fn round_trip(&mut self, message: &mut [u8]) -> io::Result<()> {
                self.0.write_all(message).await?;
                self.0.read_exact(message).await.map(|_| ())
            }
        }
        let client = tokio::net::TcpStream::connect(address).await?;
        client.set_nodelay(true)?;
        Ok(TokioClient(client))
    }
}

thread_local! {
    static EXECUTOR: Rc<smol::LocalExecutor<'static>> = Rc::new(smol::LocalExecutor::new());
}

pub(crate) struct Smol;

impl Runtime for Smol {
    const NAME: &'static str = "smol";
    type Join = smol::Task<u64>;

    fn new() -> Self {
        Self
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        EXECUTOR.with(|executor| smol::block_on(executor.run(future)))
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> smol::Task<u64> {
        EXECUTOR.with(|executor| executor.spawn(future))
    }
    fn detach(join: smol::Task<u64>) {
        join.detach();
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        smol::future::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        let timer = smol::Timer::after(time);
        async move {
            timer.await;
        }
    }
    async fn serve(listener: TcpListener) -> io::Result<u64> {
        let listener = smol::Async::new(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            EXECUTOR.with(|executor| executor.spawn(echo(stream)).detach());
        }
    }
    async fn connect(address: SocketAddr) -> io::Result<impl EchoClient> {
        let client = smol::Async::<std::net::TcpStream>::connect(address).await?;
        client.get_ref().set_nodelay(true)?;
        Ok(Client(client))
    }
}
