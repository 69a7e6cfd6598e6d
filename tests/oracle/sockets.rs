//! Sockets used directly, and readers that are replaced.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{Address, EventLoop, JoinError, Task};
use socket2::{Domain, Socket, Type};

use crate::common::Log;
use crate::oracle::same;
use crate::support::{
    Peer, add_reader, add_writer, connected, describe, line, remove_reader, remove_writer, settle, socket_pair,
    tcp_pair, turns, yes,
};

/// What an operation may give.
trait Shown {
    fn show(&self) -> String;
}

impl Shown for Vec<u8> {
    fn show(&self) -> String {
        describe(self)
    }
}

impl Shown for () {
    fn show(&self) -> String {
        "done".into()
    }
}

impl Shown for (Socket, Address) {
    fn show(&self) -> String {
        "done".into()
    }
}

/// Awaits an operation and says what came of it.
async fn outcome<T: Shown>(log: &Log, what: &str, operation: impl Future<Output = io::Result<T>>) {
    log.push(match operation.await {
        Ok(result) => format!("{what} {}", result.show()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => format!("{what} refused"),
        Err(_) => format!("{what} error"),
    });
}

/// The same for one that is a task.
async fn ended<T: Shown>(log: &Log, what: &str, task: Task<io::Result<T>>) {
    match task.await {
        Err(error) if JoinError::is_cancelled(&error) => log.push(format!("{what} cancelled")),
        Err(error) => panic!("{error}"),
        Ok(result) => outcome(log, what, async { result }).await,
    }
}

/// The two sockets of a pair.
fn sockets((own, peer): (Peer, Peer)) -> (Rc<Socket>, Rc<Socket>) {
    (Rc::new(own.take().into()), Rc::new(peer.take().into()))
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn fresh() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap()
}

async fn settled<T: 'static>(el: &EventLoop, operation: impl Future<Output = T> + 'static) -> Task<T> {
    let task = el.create_task(operation);
    settle().await;
    task
}

/// SK-10, SK-16: a server and a client, on sockets alone.
#[test]
fn sock_echo() {
    connected("sock_echo", async |el, log| {
        let (listener, address) = listening();
        let handle = el.clone();
        let server = el.create_task(async move {
            let (connection, peer) = handle.sock_accept(&listener).await.unwrap();
            let mut heard = Vec::new();
            loop {
                let data = handle.sock_recv(&connection, 3).await.unwrap();
                if data.is_empty() {
                    return (heard, peer);
                }
                heard.push(describe(&data));
                handle.sock_sendall(&connection, data.to_ascii_uppercase()).await.unwrap();
            }
        });
        let client = fresh();
        outcome(&log, "connect", el.sock_connect(&client, address)).await;
        for text in ["ab", "abcdefg", "z"] {
            outcome(&log, "send", el.sock_sendall(&client, text)).await;
            let mut got = Vec::new();
            while got.len() < text.len() {
                got.extend(el.sock_recv(&client, 100).await.unwrap());
            }
            log.push(format!("back {}", describe(&got)));
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        outcome(&log, "end", el.sock_recv(&client, 100)).await;
        let (heard, peer) = server.await.unwrap();
        log.push(format!("heard {}", heard.join(" ")));
        yes(&log, "peer", peer.as_ip() == client.local_addr().unwrap().as_socket());
    });
}

/// SK-19: a megabyte each way at once over one socket.
#[test]
fn sock_both_ways_at_once() {
    connected("sock_both_ways_at_once", async |el, log| {
        let (own, peer) = sockets(tcp_pair());
        let count = 1 << 20;
        let handle = el.clone();
        let echoing = el.create_task(async move {
            let mut total = 0;
            while total < count {
                let data = handle.sock_recv(&*peer, 65536).await.unwrap();
                total += data.len();
                handle.sock_sendall(&*peer, data).await.unwrap();
            }
            total
        });
        let sending = el.create_task(el.sock_sendall(own.clone(), vec![b'x'; count]));
        let (mut total, mut buffer) = (0, vec![0; 50000]);
        while total < count {
            total += el.sock_recv_into(&*own, &mut buffer).await.unwrap();
        }
        sending.await.unwrap().unwrap();
        log.push(format!("received {total} echoed {}", echoing.await.unwrap()));
    });
}

/// SK-11: a cancelled receive takes nothing, also where something was there already.
#[test]
fn sock_recv_cancelled_and_retried() {
    connected("sock_recv_cancelled_and_retried", async |el, log| {
        for pair in [socket_pair, tcp_pair] {
            let (own, peer) = sockets(pair());
            let task = settled(&el, el.sock_recv(own.clone(), 100)).await;
            yes(&log, "done", task.is_done());
            task.cancel();
            ended(&log, "first", task).await;
            peer.send(b"one").unwrap();
            outcome(&log, "second", el.sock_recv(&*own, 100)).await;
            let task = settled(&el, el.sock_recv(own.clone(), 100)).await;
            peer.send(b"two").unwrap();
            task.cancel();
            ended(&log, "third", task).await;
            outcome(&log, "fourth", el.sock_recv(&*own, 100)).await;
            yes(&log, "watched", el.remove_reader(&*own));
        }
    });
}

/// SK-12: the end of a cancelled receive does not disturb the one that has begun since.
#[test]
fn sock_recv_of_a_new_task_while_an_old_one_ends() {
    connected("sock_recv_of_a_new_task_while_an_old_one_ends", async |el, log| {
        let (own, peer) = sockets(socket_pair());
        let old = settled(&el, el.sock_recv(own.clone(), 100)).await;
        old.cancel();
        let new = settled(&el, el.sock_recv(own, 100)).await;
        yes(&log, "old", old.await.is_err_and(|error| error.is_cancelled()));
        yes(&log, "new", new.is_done());
        peer.send(b"data").unwrap();
        ended(&log, "new", new).await;
    });
}

/// SK-12: it may begin before the cancelled one is gone.
#[test]
fn sock_recv_right_after_a_cancellation() {
    connected("sock_recv_right_after_a_cancellation", async |el, log| {
        let (own, peer) = sockets(socket_pair());
        let old = settled(&el, el.sock_recv(own.clone(), 100)).await;
        old.cancel();
        el.call_later(Duration::ZERO, move || peer.send(b"data").unwrap());
        outcome(&log, "new", el.sock_recv(own, 100)).await;
        ended(&log, "old", old).await;
    });
}

/// SK-13: what is sent behind a cancelled send arrives whole.
#[test]
fn sock_sendall_cancelled() {
    connected("sock_sendall_cancelled", async |el, log| {
        let (own, peer) = sockets(socket_pair());
        let task = settled(&el, el.sock_sendall(own.clone(), vec![b'0'; 16 << 20])).await;
        yes(&log, "done", task.is_done());
        task.cancel();
        ended(&log, "first", task).await;
        let second = el.create_task(el.sock_sendall(own, b"second"));
        let mut data = Vec::new();
        while !data.ends_with(b"second") {
            data.extend(el.sock_recv(&*peer, 1 << 20).await.unwrap());
        }
        ended(&log, "second", second).await;
        let before = &data[..data.len() - 6];
        yes(&log, "a part of the first before it", !before.is_empty() && before.iter().all(|byte| *byte == b'0'));
    });
}

/// SK-17: a refusal names the address.
#[test]
fn sock_connect_refused() {
    connected("sock_connect_refused", async |el, log| {
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = closed.local_addr().unwrap().as_socket().unwrap();
        let client = fresh();
        outcome(&log, "connect", el.sock_connect(&client, address)).await;
        let error = el.sock_connect(fresh(), address).await.unwrap_err();
        yes(&log, "named", error.to_string().contains(&address.port().to_string()));
        yes(&log, "watched", el.remove_writer(&client));
    });
}

/// SK-17: a name is looked up.
#[test]
fn sock_connect_by_name() {
    connected("sock_connect_by_name", async |el, log| {
        let (listener, address) = listening();
        let client = fresh();
        outcome(&log, "connect", el.sock_connect(&client, ("localhost", address.port()))).await;
        yes(&log, "there", client.peer_addr().unwrap().as_socket() == Some(listener.local_addr().unwrap()));
    });
}

/// SK-15: after a cancelled accept the listener can be closed.
#[test]
fn sock_accept_cancelled() {
    connected("sock_accept_cancelled", async |el, log| {
        let (listener, address) = listening();
        let task = settled(&el, el.sock_accept(listener)).await;
        task.cancel();
        // The listener goes with it.
        ended(&log, "accept", task).await;
        outcome(&log, "connect", el.sock_connect(fresh(), address)).await;
    });
}

/// SK-20: datagrams, cut off where the buffer ends.
#[test]
fn sock_datagrams() {
    connected("sock_datagrams", async |el, log| {
        let bound = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (own, peer) = (bound(), bound());
        let to = peer.local_addr().unwrap();
        for text in ["one", "", "a long one"] {
            let sent = el.sock_sendto(&own, text, to).await.unwrap();
            let (data, sender) = el.sock_recvfrom(&peer, 6).await.unwrap();
            log.push(format!("{sent} {}", describe(&data)));
            yes(&log, "sender", sender == Some(own.local_addr().unwrap().into()));
        }
        let mut buffer = *b"------";
        el.sock_sendto(&own, "into", to).await.unwrap();
        let (count, _) = el.sock_recvfrom_into(&peer, &mut buffer[..2]).await.unwrap();
        log.push(format!("{count} {}", describe(&buffer)));
    });
}

/// SK-10: in debug mode a socket that blocks is refused.
#[test]
fn sock_that_blocks() {
    connected("sock_that_blocks", async |el, log| {
        let (own, _peer) = sockets(socket_pair());
        own.set_nonblocking(false).unwrap();
        el.set_debug(true);
        outcome(&log, "recv", el.sock_recv(&*own, 1)).await;
        outcome(&log, "sendall", el.sock_sendall(&*own, b"x")).await;
        outcome(&log, "accept", el.sock_accept(&*own)).await;
        el.set_debug(false);
    });
}

/// SK-02: a reader that is replaced by another descriptor's, though it was queued, does not run.
#[test]
fn reader_of_another_replaced_while_ready() {
    same("reader_of_another_replaced_while_ready", |el, log| {
        let (first, first_peer) = socket_pair();
        let (second, second_peer) = socket_pair();
        let (handle, trace, own, other) = (el.clone(), log.clone(), first.clone(), second.clone());
        add_reader(el, &first, move || {
            trace.push(format!("first {}", own.received()));
            let (trace, reading) = (trace.clone(), other.clone());
            add_reader(&handle, &other, move || trace.push(format!("new {}", reading.received())));
        });
        add_reader(el, &second, line(log, "old"));
        turns(el, log, 1);
        first_peer.send(b"1");
        second_peer.send(b"2");
        turns(el, log, 2);
        yes(log, "first removed", remove_reader(el, &first));
        yes(log, "second removed", remove_reader(el, &second));
    });
}

/// SK-02, SK-26: the writer beside a reader that is replaced runs.
#[test]
fn reader_replaced_beside_a_writer() {
    same("reader_replaced_beside_a_writer", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        add_reader(el, &own, line(log, "old"));
        let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
        add_writer(el, &own, move || {
            trace.push("writer");
            remove_writer(&handle, &watched);
        });
        let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
        el.call_soon(move || {
            let reading = watched.clone();
            add_reader(&handle, &watched, move || trace.push(format!("new {}", reading.received())));
        });
        turns(el, log, 3);
        yes(log, "reader removed", remove_reader(el, &own));
        yes(log, "writer removed", remove_writer(el, &own));
    });
}
