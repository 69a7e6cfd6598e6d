//! Datagram endpoints.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use roundelay::{Address, DatagramHandle, DatagramProtocol, EventLoop};

use crate::common::Log;
use crate::support::{Peer, connected, connected_differs, describe, fail, settle, trace_reports, yes};

fn error_name(error: Option<&io::Error>) -> &'static str {
    let Some(error) = error else { return "None" };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::EMSGSIZE) => "EMSGSIZE",
        _ => "error",
    }
}

type Then = Box<dyn FnMut(&DatagramHandle, &[u8], Option<&Address>)>;

/// Leaves a line for each callback, and then calls what was given for it.
struct Recorder {
    log: Log,
    then: Vec<(&'static str, Then)>,
}

impl Recorder {
    fn new(log: &Log) -> Self {
        Self { log: log.clone(), then: Vec::new() }
    }

    fn then(
        mut self,
        callback: &'static str,
        f: impl FnMut(&DatagramHandle, &[u8], Option<&Address>) + 'static,
    ) -> Self {
        self.then.push((callback, Box::new(f)));
        self
    }

    fn note(&mut self, callback: &str, detail: &str, t: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        let space = if detail.is_empty() { "" } else { " " };
        self.log.push(format!("{callback}{space}{detail}"));
        if let Some((_, then)) = self.then.iter_mut().find(|(name, _)| *name == callback) {
            then(t, data, from);
        }
    }
}

impl DatagramProtocol for Recorder {
    fn connection_made(&mut self, t: &DatagramHandle) {
        self.note("made", "", t, b"", None);
    }
    fn datagram_received(&mut self, t: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        self.note("datagram", &describe(data), t, data, from);
    }
    fn error_received(&mut self, t: &DatagramHandle, error: io::Error) {
        self.note("error", error_name(Some(&error)), t, b"", None);
    }
    fn pause_writing(&mut self, t: &DatagramHandle) {
        self.note("pause", "", t, b"", None);
    }
    fn resume_writing(&mut self, t: &DatagramHandle) {
        self.note("resume", "", t, b"", None);
    }
    fn connection_lost(&mut self, t: &DatagramHandle, error: Option<io::Error>) {
        self.note("lost", error_name(error.as_ref()), t, b"", None);
    }
}

/// An endpoint on the loopback, and its address.
async fn bound(el: &EventLoop, recorder: Recorder) -> (DatagramHandle, Address) {
    let (handle, _) = el.create_datagram_endpoint(move || recorder).local_addr(("127.0.0.1", 0)).await.unwrap();
    let address = handle.extra_info().local_addr.unwrap();
    (handle, address.into())
}

async fn to(el: &EventLoop, recorder: Recorder, address: &Address) -> DatagramHandle {
    el.create_datagram_endpoint(move || recorder).remote_addr(address).await.unwrap().0
}

/// An address at which nobody receives.
fn dead() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An endpoint that is connected to a plain unix socket, which has a queue that can be filled.
async fn over_unix(el: &EventLoop, recorder: Recorder) -> (DatagramHandle, Peer) {
    let (handle, peer) = {
        let folder = tempfile::tempdir().unwrap();
        let peer = UnixDatagram::bind(folder.path().join("peer")).unwrap();
        let own = UnixDatagram::unbound().unwrap();
        own.connect(folder.path().join("peer")).unwrap();
        let (handle, _) = el.create_datagram_endpoint(move || recorder).sock(own).await.unwrap();
        (handle, peer)
    };
    (handle, Peer::keep(OwnedFd::from(peer)))
}

/// Sends until something waits.
fn fill(handle: &DatagramHandle) {
    let before = handle.write_buffer_size();
    while handle.write_buffer_size() == before {
        handle.sendto(b"filler", None);
    }
}

/// What has arrived at a plain socket but for the fillers.
fn drained(peer: &Peer) -> String {
    let (mut lines, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    while let Ok(n) = peer.with(|mut socket| io::Read::read(&mut socket, &mut buffer)) {
        if &buffer[..n] != b"filler" {
            lines.push(describe(&buffer[..n]));
        }
    }
    if lines.is_empty() { "nothing".into() } else { lines.join(" ") }
}

/// UD-02: there and back, and the end of both.
#[test]
fn datagram_echo() {
    connected("datagram_echo", async |el, log| {
        let echo = Recorder::new(&log).then("datagram", |t, data, from| t.sendto(data, from));
        let (server, address) = bound(&el, echo).await;
        let client = to(&el, Recorder::new(&log), &address).await;
        log.push("connected");
        for text in ["one", "two", "three"] {
            client.sendto(text.as_bytes(), None);
            settle().await;
        }
        server.close();
        client.close();
        log.push("closed");
        settle().await;
    });
}

/// UD-13, P30: nobody is there, and the endpoint goes on.
#[test]
fn datagram_refused() {
    connected("datagram_refused", async |el, log| {
        let client = to(&el, Recorder::new(&log), &dead().into()).await;
        for _ in 0..2 {
            client.sendto(b"anybody?", None);
            settle().await;
            yes(&log, "closing", client.is_closing());
        }
        client.close();
        settle().await;
    });
}

/// UD-14, P31: one that is too long, and then one that is not.
#[test]
fn datagram_too_long() {
    connected("datagram_too_long", async |el, log| {
        let (endpoint, address) = bound(&el, Recorder::new(&log)).await;
        endpoint.sendto(&[b'x'; 70_000], Some(&address));
        settle().await;
        yes(&log, "closing", endpoint.is_closing());
        endpoint.sendto(&[b'x'; 60_000], Some(&address));
        settle().await;
        endpoint.close();
        settle().await;
    });
}

/// UD-12: an error of sending is told in a turn of its own, not from within `sendto`.
#[test]
fn datagram_error_at_once() {
    let here = ["made", "sent", "error EMSGSIZE", "lost None"];
    connected_differs("datagram_error_at_once", "told-when-the-callback-returns", &here, async |el, log| {
        let (endpoint, address) = bound(&el, Recorder::new(&log)).await;
        endpoint.sendto(&[b'x'; 70_000], Some(&address));
        log.push("sent");
        settle().await;
        endpoint.close();
        settle().await;
    });
}

/// UD-17: what waits is sent, and the end comes then.
#[test]
fn datagram_close_with_a_queue() {
    connected("datagram_close_with_a_queue", async |el, log| {
        let (endpoint, peer) = over_unix(&el, Recorder::new(&log)).await;
        fill(&endpoint);
        endpoint.sendto(b"one", None);
        endpoint.sendto(b"two", None);
        endpoint.close();
        yes(&log, "closing", endpoint.is_closing());
        settle().await;
        log.push("waits");
        for _ in 0..4 {
            log.push(drained(&peer));
            settle().await;
        }
    });
}

/// UD-17: what waits is dropped.
#[test]
fn datagram_abort_with_a_queue() {
    connected("datagram_abort_with_a_queue", async |el, log| {
        let (endpoint, peer) = over_unix(&el, Recorder::new(&log)).await;
        fill(&endpoint);
        endpoint.sendto(b"one", None);
        endpoint.close();
        endpoint.abort();
        settle().await;
        log.push(drained(&peer));
    });
}

/// UD-18: sending after the end does nothing.
#[test]
fn datagram_sent_after_close() {
    connected("datagram_sent_after_close", async |el, log| {
        let (_peer, address) = bound(&el, Recorder::new(&log)).await;
        let client = to(&el, Recorder::new(&log), &address).await;
        client.close();
        client.sendto(b"late", None);
        settle().await;
        for _ in 0..7 {
            client.sendto(b"later", None);
        }
        client.close();
        client.abort();
        settle().await;
        log.push("end");
    });
}

/// UD-17, UD-18: nor does it while what waits is being sent.
#[test]
fn datagram_sent_while_closing() {
    let here = ["made", "nothing", "lost None", "nothing", "nothing", "nothing"];
    connected_differs("datagram_sent_while_closing", "write-after-close", &here, async |el, log| {
        let (endpoint, peer) = over_unix(&el, Recorder::new(&log)).await;
        fill(&endpoint);
        endpoint.close();
        endpoint.sendto(b"late", None);
        for _ in 0..4 {
            log.push(drained(&peer));
            settle().await;
        }
    });
}

/// UD-09: a connected endpoint sends to nobody else.
#[test]
fn datagram_to_somebody_else() {
    connected("datagram_to_somebody_else", async |el, log| {
        let (_peer, address) = bound(&el, Recorder::new(&log)).await;
        let client = to(&el, Recorder::new(&log), &address).await;
        client.sendto(b"to the peer", Some(&address));
        settle().await;
        let (reports, noted) = (log.clone(), "refused");
        el.set_exception_handler(Some(std::rc::Rc::new(move |_, _| reports.push(noted))));
        client.sendto(b"to somebody else", Some(&Address::from(([127, 0, 0, 1], 9))));
        yes(&log, "closing", client.is_closing());
        settle().await;
    });
}

/// UD-12, EH-13: a failing callback is reported, and the endpoint goes on.
#[test]
fn datagram_protocol_that_fails() {
    connected("datagram_protocol_that_fails", async |el, log| {
        trace_reports(&el, &log);
        let recorder = Recorder::new(&log).then("datagram", |_, _, _| fail()).then("lost", |_, _, _| fail());
        let (endpoint, address) = bound(&el, recorder).await;
        for text in ["one", "two"] {
            endpoint.sendto(text.as_bytes(), Some(&address));
            settle().await;
            yes(&log, "closing", endpoint.is_closing());
        }
        endpoint.close();
        settle().await;
    });
}

/// UD-16: one that cannot be sent does not keep the others.
#[test]
fn datagram_error_in_the_queue() {
    connected("datagram_error_in_the_queue", async |el, log| {
        let (endpoint, peer) = over_unix(&el, Recorder::new(&log)).await;
        endpoint.set_write_buffer_limits(1 << 30, None).unwrap();
        fill(&endpoint);
        endpoint.sendto(b"one", None);
        endpoint.sendto(&vec![0; 1 << 22], None);
        endpoint.sendto(b"two", None);
        for _ in 0..4 {
            log.push(drained(&peer));
            settle().await;
        }
    });
}

/// FC-12: pause and resume; nobody resumes after an `abort`.
#[test]
fn datagram_pause_and_resume() {
    connected("datagram_pause_and_resume", async |el, log| {
        let (endpoint, peer) = over_unix(&el, Recorder::new(&log)).await;
        endpoint.set_write_buffer_limits(120, 100).unwrap();
        fill(&endpoint);
        settle().await;
        log.push("some");
        endpoint.sendto(&[0; 200], None);
        settle().await;
        log.push("more");
        for _ in 0..4 {
            drained(&peer);
            settle().await;
        }
        fill(&endpoint);
        endpoint.sendto(&[0; 200], None);
        settle().await;
        endpoint.abort();
        settle().await;
    });
}

/// UD-17: nothing is delivered after a `close` in `datagram_received`.
#[test]
fn datagram_closed_when_one_comes() {
    connected("datagram_closed_when_one_comes", async |el, log| {
        let (endpoint, address) = bound(&el, Recorder::new(&log).then("datagram", |t, _, _| t.close())).await;
        endpoint.sendto(b"one", Some(&address));
        endpoint.sendto(b"two", Some(&address));
        settle().await;
    });
}
