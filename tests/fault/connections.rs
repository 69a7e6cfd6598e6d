//! Connections and servers over TCP.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{KeepOpen, Protocol, TcpListener, TcpStream, Transport};

use crate::sweep::{Stage, check_bytes, pattern, sweep};

/// Enough to fill a socket's buffers, so that something is queued.
pub const BYTES: usize = 600_000;

/// Sends back what it gets, and the end after it.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// Sends some bytes, then the end, and keeps what comes back.
#[derive(Clone)]
pub struct Client {
    pub bytes: Rc<Vec<u8>>,
    pub arrived: Rc<RefCell<Vec<u8>>>,
    pub done: Rc<Cell<bool>>,
}

impl Client {
    pub fn new() -> Self {
        Self::with(BYTES)
    }
    pub fn with(bytes: usize) -> Self {
        Self { bytes: Rc::new(pattern(bytes)), arrived: Rc::default(), done: Rc::default() }
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) {
        let (first, rest) = self.bytes.split_at(self.bytes.len() / 3);
        transport.write(first);
        transport.writelines(&[std::io::IoSlice::new(&rest[..7]), std::io::IoSlice::new(&rest[7..])]);
        transport.write_eof();
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.arrived.borrow_mut().extend_from_slice(data);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<std::io::Error>) {
        self.done.set(true);
    }
}

/// The server of a scenario is gone, with its connections.
pub fn shut_down(stage: &Stage<'_>, server: roundelay::Server) {
    server.close();
    server.abort_clients();
    let closed = server.clone();
    stage.complete(async move { closed.wait_closed().await });
}

#[test]
fn echo_through_protocols() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let server_witness = witness.clone();
        let creating = el.create_server(move || server_witness.protocol("server", Echo), ("127.0.0.1", 0));
        let Some(server) = witness.check("create_server", stage.complete(creating.into_future())) else { return };
        let client = Client::new();
        let watched = witness.protocol("client", client.clone());
        let connecting = el.create_connection(move || watched, server.local_addrs()[0]);
        let connected = witness.check("create_connection", stage.complete(connecting.into_future()));
        if let Some((transport, _)) = connected {
            stage.run_until(|| client.done.get());
            assert!(transport.is_closing());
            check_bytes(witness, &client.bytes, &client.arrived.borrow());
        }
        shut_down(stage, server);
    });
}

#[test]
fn echo_through_streams() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let handler = async |mut reader: roundelay::StreamReader, mut writer: roundelay::StreamWriter| {
                loop {
                    let data = reader.read(64 * 1024).await?;
                    if data.is_empty() {
                        writer.close();
                        return writer.wait_closed().await;
                    }
                    writer.write(&data);
                    writer.drain().await?;
                }
            };
            let server = roundelay::start_server(handler, ("127.0.0.1", 0)).await;
            let Some(server) = witness.check("start_server", server) else { return };
            let opened = roundelay::open_connection(server.local_addrs()[0]).await;
            if let Some((mut reader, mut writer)) = witness.check("open_connection", opened) {
                let bytes = pattern(BYTES);
                writer.write(&bytes);
                writer.write_eof();
                let mut arrived = Vec::new();
                loop {
                    match reader.read(100_000).await {
                        Ok(data) if data.is_empty() => break,
                        Ok(data) => arrived.extend(data),
                        Err(error) => break witness.error("read", &error),
                    }
                }
                writer.close();
                witness.check("wait_closed", writer.wait_closed().await);
                if arrived.len() < bytes.len() {
                    // The server's handler has been told, and the exception handler need not be: the peer is gone.
                    witness.error("the end", &std::io::ErrorKind::UnexpectedEof.into());
                }
                check_bytes(&witness, &bytes, &arrived);
            }
            server.shutdown(Duration::from_secs(1)).await;
        });
    });
}

#[test]
fn plain_streams() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let Some(listener) = witness.check("bind", TcpListener::bind(("127.0.0.1", 0)).await) else { return };
            let Some(address) = witness.check("local_addr", listener.local_addr()) else { return };
            let Some(mut client) = witness.check("connect", TcpStream::connect(address).await) else { return };
            let Some((mut server, _)) = witness.check("accept", listener.accept().await) else { return };
            let bytes = pattern(BYTES);
            let (sent, copy) = (witness.clone(), bytes.clone());
            let writing = roundelay::spawn(async move {
                let written = client.write_all(&copy).await;
                sent.check("write_all", written);
                // Dropped, it is closed in any case.
                sent.check("close", client.close().await);
            });
            let mut arrived = Vec::new();
            // `read_to_end` keeps what came before an error.
            witness.check("read_to_end", server.read_to_end(&mut arrived).await);
            drop(server);
            writing.await.unwrap();
            check_bytes(&witness, &bytes, &arrived);
        });
    });
}

/// Attempts that race, from a local address: whichever fails, another one may take its place, and no socket is left.
#[test]
fn attempts_that_race() {
    struct Nothing;
    impl Protocol for Nothing {}
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let refused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|closed| closed.local_addr()).unwrap();
        let mut targets = vec![refused];
        targets.extend(listeners.iter().map(|listener| listener.local_addr().unwrap()));
        let client = witness.protocol("client", Nothing);
        let connecting = el.create_connection(move || client, targets);
        let connecting = connecting.local_addr(("127.0.0.1", 0)).happy_eyeballs_delay(Duration::ZERO);
        let connected = witness.check("create_connection", stage.complete(connecting.into_future()));
        if let Some((transport, _)) = connected {
            transport.close();
            stage.run_until(|| transport.protocol().is_none());
        }
    });
}

/// A server with all that can be set, on all interfaces of both families, and one over a socket that is there.
#[test]
fn servers_with_all_options() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (witness.clone(), witness.clone());
        let everywhere = el.create_server(move || first.protocol("server", Echo), ("", 0)).reuse_address(true);
        let everywhere = everywhere.reuse_port(true).keep_alive(true).max_connections(1).backlog(5);
        let everywhere = everywhere.idle_timeout(Duration::from_secs(3600)).start_serving(false);
        let over_given = el.create_server(move || second.protocol("server", Echo), given).keep_alive(true);
        let made = [
            witness.check("create_server", stage.complete(everywhere.into_future())),
            witness.check("create_server with a socket", stage.complete(over_given.into_future())),
        ];
        for server in made.into_iter().flatten() {
            let starting = server.clone();
            let started = stage.complete(async move { starting.start_serving().await });
            if witness.check("start_serving", started).is_some() {
                for address in server.local_addrs() {
                    let loopback: std::net::IpAddr =
                        if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
                    let client = Client::with(1000);
                    let watched = witness.protocol("client", client.clone());
                    let connecting = el.create_connection(move || watched, (loopback, address.port()));
                    let connected = stage.complete(connecting.into_future());
                    if witness.check("create_connection", connected).is_some() {
                        stage.run_until(|| client.done.get());
                        check_bytes(witness, &client.bytes, &client.arrived.borrow());
                    }
                }
            }
            shut_down(stage, server);
        }
    });
}

/// Plain streams whose attempts race, and the options of theirs.
#[test]
fn plain_streams_that_race() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let Some(listener) = witness.check("bind", TcpListener::bind(("127.0.0.1", 0)).await) else { return };
            let Some(address) = witness.check("local_addr", listener.local_addr()) else { return };
            let refused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|closed| closed.local_addr()).unwrap();
            let connecting = TcpStream::connect(vec![refused, address, address]);
            let connecting = connecting.happy_eyeballs_delay(Duration::ZERO).local_addr(("127.0.0.1", 0));
            let Some(client) = witness.check("connect", connecting.all_errors(true).await) else { return };
            witness.check("set_nodelay", client.set_nodelay(false));
            witness.check("nodelay", client.nodelay());
            witness.check("peer_addr", client.peer_addr());
            witness.check("shutdown", client.shutdown(std::net::Shutdown::Both));
        });
    });
}

/// Sockets that were made elsewhere become plain streams.
#[test]
fn streams_over_given_sockets() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let Some(listener) = witness.check("listener", TcpListener::from_std(listener)) else { return };
            let given = std::net::TcpStream::connect(address).unwrap();
            let Some(mut client) = witness.check("stream", TcpStream::from_std(given)) else { return };
            let Some((mut server, _)) = witness.check("accept", listener.accept().await) else { return };
            let bytes = pattern(1000);
            witness.check("write_all", client.write_all(&bytes).await);
            drop(client);
            let mut arrived = Vec::new();
            witness.check("read_to_end", server.read_to_end(&mut arrived).await);
            check_bytes(&witness, &bytes, &arrived);
        });
    });
}
