//! Servers and their connections.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use roundelay::{EventLoop, LoopFuture, Server, Transport, open_connection, start_server};

use crate::common::Log;
use crate::support::{Peer, Recorder, add_reader, connected, connected_differs, describe, remove_reader, settle, yes};

fn client(address: SocketAddr) -> io::Result<Peer> {
    TcpStream::connect(address).map(Peer::keep)
}

/// What the next arrival at a plain socket is.
async fn heard(el: &EventLoop, peer: &Peer) -> String {
    let readable = el.create_future();
    let setter = readable.clone();
    add_reader(el, peer, move || drop(setter.set_result(())));
    readable.await.unwrap();
    remove_reader(el, peer);
    match peer.receive() {
        (data, end) if data.is_empty() => end.trim().into(),
        (data, _) => describe(&data),
    }
}

/// Numbers the connections of a server.
#[derive(Clone)]
struct Counted {
    log: Log,
    echo: bool,
    made: Vec<LoopFuture<Transport>>,
    lost: Vec<LoopFuture<()>>,
    count: Rc<RefCell<usize>>,
}

impl Counted {
    fn new(el: &EventLoop, log: &Log) -> Self {
        let made = (0..9).map(|_| el.create_future()).collect();
        let lost = (0..9).map(|_| el.create_future()).collect();
        Self { log: log.clone(), echo: false, made, lost, count: Rc::default() }
    }

    /// What is received goes back in capitals.
    fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    fn protocol(&self) -> Recorder {
        let number = *self.count.borrow();
        *self.count.borrow_mut() += 1;
        self.log.push(format!("factory {number}"));
        let (made, lost) = (self.made[number].clone(), self.lost[number].clone());
        let recorder = Recorder::new(&self.log)
            .name(&format!("server {number}"))
            .then("made", move |transport| made.set_result(transport.clone()).unwrap())
            .then("lost", move |_| lost.set_result(()).unwrap());
        if !self.echo {
            return recorder;
        }
        recorder.then_with("data", |transport, data| transport.write(&data.to_ascii_uppercase()))
    }

    /// The transport of a connection, once it is made.
    async fn made(&self, number: usize) -> Transport {
        self.made[number].clone().await.unwrap()
    }

    async fn lost(&self, number: usize) {
        self.lost[number].clone().await.unwrap();
    }

    async fn serve(&self, el: &EventLoop, start_serving: bool) -> Server {
        let own = self.clone();
        let server = el.create_server(move || own.protocol(), ("127.0.0.1", 0)).start_serving(start_serving);
        server.await.unwrap()
    }
}

/// SV-01: accept, answer, end.
#[test]
fn serve_and_answer() {
    connected("serve_and_answer", async |el, log| {
        let factory = Counted::new(&el, &log).echo();
        let server = factory.serve(&el, true).await;
        yes(&log, "serving", server.is_serving());
        let peer = client(server.local_addrs()[0]).unwrap();
        factory.made(0).await;
        peer.send(b"hello");
        log.push(heard(&el, &peer).await);
        peer.close();
        factory.lost(0).await;
        server.close();
        yes(&log, "serving", server.is_serving());
    });
}

/// SV-19: connections that have waited are accepted in one event, and each is made when it is accepted.
#[test]
fn connections_that_wait_to_be_accepted() {
    let here = [
        "factory 0",
        "server 0 made",
        "factory 1",
        "server 1 made",
        "factory 2",
        "server 2 made",
        "server 0 eof",
        "server 1 eof",
        "server 2 eof",
        "server 0 lost None",
        "server 1 lost None",
        "server 2 lost None",
    ];
    connected_differs("connections_that_wait_to_be_accepted", "made-when-accepted", &here, async |el, log| {
        let factory = Counted::new(&el, &log);
        let server = factory.serve(&el, false).await;
        let address = server.local_addrs()[0];
        server.start_serving().await.unwrap();
        let clients = [(); 3].map(|()| client(address).unwrap());
        for number in 0..3 {
            factory.made(number).await;
        }
        for peer in clients {
            peer.close();
        }
        for number in 0..3 {
            factory.lost(number).await;
        }
        server.close();
    });
}

/// SV-10, P25: bound and not listening, until it is told to.
#[test]
fn not_serving_at_first() {
    connected("not_serving_at_first", async |el, log| {
        let factory = Counted::new(&el, &log);
        let server = factory.serve(&el, false).await;
        let address = server.local_addrs()[0];
        yes(&log, "serving", server.is_serving());
        if client(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            log.push("refused");
        }
        server.start_serving().await.unwrap();
        server.start_serving().await.unwrap();
        yes(&log, "serving", server.is_serving());
        let peer = client(address).unwrap();
        factory.made(0).await;
        peer.close();
        factory.lost(0).await;
        server.close();
    });
}

/// SV-13, P25: a server that is closed refuses at once; its connections go on.
#[test]
fn close_with_live_clients() {
    connected("close_with_live_clients", async |el, log| {
        let factory = Counted::new(&el, &log).echo();
        let server = factory.serve(&el, true).await;
        let address = server.local_addrs()[0];
        let peer = client(address).unwrap();
        factory.made(0).await;
        server.close();
        server.close();
        log.push(format!("sockets {}", server.sockets().len()));
        settle().await;
        if client(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            log.push("refused");
        }
        peer.send(b"still there");
        log.push(heard(&el, &peer).await);
        peer.close();
        factory.lost(0).await;
    });
}

/// CL-08: the server's side may be the one that closes.
#[test]
fn server_closes_its_clients_one_by_one() {
    connected("server_closes_its_clients_one_by_one", async |el, log| {
        let factory = Counted::new(&el, &log);
        let server = factory.serve(&el, true).await;
        let peer = client(server.local_addrs()[0]).unwrap();
        let transport = factory.made(0).await;
        transport.write(b"farewell");
        transport.close();
        factory.lost(0).await;
        log.push(heard(&el, &peer).await);
        log.push(heard(&el, &peer).await);
        server.close();
    });
}

/// SV-14: `wait_closed` waits for the close and for the last connection.
#[test]
fn waiting_for_the_end_of_a_server() {
    connected("waiting_for_the_end_of_a_server", async |el, log| {
        let factory = Counted::new(&el, &log);
        let server = factory.serve(&el, true).await;
        let peer = client(server.local_addrs()[0]).unwrap();
        factory.made(0).await;
        let (own, waited) = (log.clone(), server.clone());
        let task = el.create_task(async move {
            waited.wait_closed().await;
            own.push("server has ended");
        });
        settle().await;
        log.push("close");
        server.close();
        settle().await;
        yes(&log, "done", task.is_done());
        peer.close();
        task.await.unwrap();
        server.wait_closed().await;
    });
}

/// SV-16, SV-17: a server closes or aborts its connections.
#[test]
fn close_and_abort_of_clients() {
    connected("close_and_abort_of_clients", async |el, log| {
        for (name, method) in
            [("close_clients", Server::close_clients as fn(&Server)), ("abort_clients", Server::abort_clients)]
        {
            let factory = Counted::new(&el, &log);
            let server = factory.serve(&el, true).await;
            let peer = client(server.local_addrs()[0]).unwrap();
            factory.made(0).await.write(b"farewell");
            log.push(name);
            method(&server);
            server.close();
            server.wait_closed().await;
            log.push("server has ended");
            log.push(heard(&el, &peer).await);
            log.push(heard(&el, &peer).await);
        }
    });
}

/// SV-11, P26: serving for ever, once; cancelling it closes the server.
#[test]
fn serving_for_ever() {
    connected("serving_for_ever", async |el, log| {
        let server = Counted::new(&el, &log).serve(&el, false).await;
        let serve = |name: &'static str| {
            let (own, served) = (log.clone(), server.clone());
            async move {
                if served.serve_forever().await.is_err() {
                    own.push(format!("{name} refused"));
                }
            }
        };
        let task = el.create_task(serve("first"));
        settle().await;
        yes(&log, "serving", server.is_serving());
        serve("second").await;
        task.cancel();
        settle().await;
        if task.is_cancelled() {
            log.push("first cancelled");
        }
        yes(&log, "serving", server.is_serving());
        yes(&log, "done", task.is_done());
        serve("third").await;
    });
}

/// SR-01: a server of streams and its client.
#[test]
fn stream_server() {
    connected("stream_server", async |el, log| {
        let done = el.create_future();
        let (own, setter) = (log.clone(), done.clone());
        let server = start_server(
            async move |mut reader, mut writer| {
                own.push("handler begins");
                loop {
                    let line = reader.readline().await?;
                    if line.is_empty() {
                        break;
                    }
                    writer.write(&line.to_ascii_uppercase());
                    writer.drain().await?;
                }
                own.push("end of file");
                writer.close();
                writer.wait_closed().await?;
                own.push("closed");
                setter.set_result(()).unwrap();
                io::Result::Ok(())
            },
            ("127.0.0.1", 0),
        );
        let server = server.await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addrs()[0]).await.unwrap();
        for text in [b"one\n", b"two\n"] {
            writer.write(text);
            log.push(describe(&reader.readline().await.unwrap()));
        }
        writer.write_eof();
        done.await.unwrap();
        yes(&log, "eof", reader.read_to_end().await.unwrap().is_empty());
        writer.close();
        writer.wait_closed().await.unwrap();
        log.push("client closed");
        server.close();
    });
}

/// SV-13: a server that is closed accepts nothing more, not even in the batch in which the connection waits.
#[test]
fn close_with_a_connection_waiting() {
    connected("close_with_a_connection_waiting", async |el, log| {
        let server = Counted::new(&el, &log).serve(&el, true).await;
        let peer = client(server.local_addrs()[0]).unwrap();
        el.call_soon(move || server.close());
        settle().await;
        log.push(heard(&el, &peer).await);
    });
}
