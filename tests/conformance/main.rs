//! The contract of transports, held by each of the crate's own, and by others that stand on them.

#![cfg(feature = "test-util")]

#[cfg(feature = "__tls")]
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod defects;
mod late_room;
#[path = "../common/tcp.rs"]
mod tcp;

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{Kind, alone};
use roundelay::testing::{Link, Probe, Verdict, check_transport, memory_pair, stream_pair};
use roundelay::{EventLoop, TcpStream, Transport};
use socket2::SockRef;

/// Two connected sockets with small buffers, so that they are soon full.
fn plain_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let (a, b) = tcp::plain_pair();
    for socket in [SockRef::from(&a), SockRef::from(&b)] {
        socket.set_send_buffer_size(64 * 1024).unwrap();
        // Smaller than this, TCP waits for its timers.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
    }
    (a, b)
}

type Pair = io::Result<(Transport, Transport)>;

async fn tcp_pair(el: EventLoop, near: Probe, far: Probe) -> Pair {
    let (a, b) = plain_pair();
    Ok((el.create_connection(move || near, a).await?.0, el.connect_accepted_socket(move || far, b).await?.0))
}

/// With edges and without, in debug mode and not.
#[test]
fn tcp_keeps_the_contract() {
    let _alone = alone();
    for (kind, debug) in [(Kind::Epoll, true), (Kind::Level, false)] {
        check_transport(tcp_pair).on(move || kind.builder().debug(debug)).run().assert_passed();
    }
}

#[test]
fn unix_sockets_keep_the_contract() {
    let _alone = alone();
    let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
        let (a, b) = UnixStream::pair()?;
        let (near, _) = el.create_unix_connection(move || near.clone(), a).await?;
        Ok((near, el.create_unix_connection(move || far.clone(), b).await?.0))
    })
    .run();
    report.assert_passed();
}

#[test]
fn a_pipe_keeps_the_contract_as_far_as_it_goes() {
    let _alone = alone();
    let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
        let (read, write) = rustix::pipe::pipe()?;
        let (near, _) = el.connect_write_pipe(move || near, write).await?;
        Ok((near, el.connect_read_pipe(move || far, read).await?.0))
    })
    .one_way()
    .without_half_close()
    .run();
    report.assert_passed();
}

/// Transports over links of several kinds.
#[test]
fn memory_keeps_the_contract() {
    let _alone = alone();
    let ms = Duration::from_millis;
    let perfect = Link::new();
    let narrow = Link::new().capacity(20_000).max_read(9000).max_write(7000).stutter(5).seed(1);
    let slow = Link::new().latency(ms(1)).jitter(Duration::from_micros(200)).seed(3);
    for link in [perfect, narrow, slow] {
        let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
            let (near, far) = memory_pair(&el, &link, || near, || far)?;
            Ok((near.transport, far.transport))
        })
        .run();
        assert!(report.is_passed(), "over {link:?}\n{report}");
    }
}

/// Streams of the application's behind `connect_stream`.
#[test]
fn foreign_streams_keep_the_contract() {
    let _alone = alone();
    let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
        let (a, b) = plain_pair();
        let (a, b) = (TcpStream::from_std(a)?, TcpStream::from_std(b)?);
        Ok((el.connect_stream(|| near, a)?.0, el.connect_stream(|| far, b)?.0))
    })
    .run();
    report.assert_passed();
}

/// The report lists each item with what was found; what one end does wrong is told once for each of its places.
#[test]
fn a_report_says_what_was_seen() {
    let _alone = alone();
    let make = async |el: EventLoop, near: Probe, far: Probe| {
        let (a, b) = stream_pair(&el, &Link::new());
        // Nothing arrives at the second one.
        a.wire().hold();
        Ok((el.connect_stream(|| near, a)?.0, el.connect_stream(|| far, b)?.0))
    };
    let items = ["made-first", "data-in-order", "half-close"];
    let report = check_transport(make).only(items).without_half_close().patience(Duration::from_millis(25)).run();
    let expected = "\
ok             made-first: connection_made is the first callback, and comes once to each protocol
FAILED         data-in-order: what is written arrives once and in order, in pieces of any size
                 where the first one writes: all of 40000 bytes did not come within 25ms: 0 came
                 where the second one writes: all of 40000 bytes did not come within 25ms: 0 came
not supported  half-close: after write_eof the peer hears eof_received once, may keep the connection open, and answer \
                    (no half close)
1 ok, 1 failed, 1 not supported";
    assert_eq!(report.to_string(), expected);
    assert!(!report.is_passed() && report.failed().count() == 1 && report.items().len() == 3);
    assert_eq!(report.items()[2].verdict, Verdict::NotSupported("no half close"));
}

/// A panic with a payload that panics in turn when it is dropped.
#[test]
fn a_panic_with_a_wicked_payload_is_a_failure_like_any_other() {
    struct Wicked;
    impl Drop for Wicked {
        fn drop(&mut self) {
            panic!("in its destructor");
        }
    }
    let _alone = alone();
    let make = async |_: EventLoop, _: Probe, _: Probe| std::panic::panic_any(Wicked);
    let report = check_transport(make).only(["made-first"]).run();
    assert_eq!(report.failed().count(), 1);
    assert!(report.to_string().contains("where the first one writes: a panic: "), "{report}");
}

/// It runs loops of its own. Where that cannot be, it says so, and blames no transport.
#[test]
fn a_check_within_a_running_loop_is_refused() {
    let _alone = alone();
    let payload = roundelay::block_on(async {
        let check = check_transport(async |_: EventLoop, _: Probe, _: Probe| Err(io::ErrorKind::Other.into()));
        catch_unwind(AssertUnwindSafe(|| check.run())).unwrap_err()
    });
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("CheckTransport::run(): cannot be called while an event loop is running"), "{text}");
}

#[cfg(feature = "__tls")]
mod tls {
    use futures::join;
    use roundelay::Protocol;

    use super::*;
    use crate::certificates::{acceptor, connector};

    /// Until TLS stands.
    struct Nobody;
    impl Protocol for Nobody {}

    #[test]
    fn tls_over_tcp_keeps_the_contract() {
        let _alone = alone();
        let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
            let (a, b) = plain_pair();
            let near = el.create_connection(move || near, a).tls(connector()).server_hostname("localhost");
            let far = el.connect_accepted_socket(move || far, b).tls(acceptor());
            let (near, far) = join!(near.into_future(), far.into_future());
            Ok((near?.0, far?.0))
        })
        .without_half_close()
        .pauses_at_high()
        .run();
        report.assert_passed();
    }

    #[test]
    fn tls_over_memory_keeps_the_contract() {
        let _alone = alone();
        let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
            let (a, b) = stream_pair(&el, &Link::new().max_read(5000).max_write(3000).seed(4));
            let (a, _) = el.connect_stream(|| Nobody, a)?;
            let (b, _) = el.connect_stream(|| Nobody, b)?;
            let client = el.start_tls(a, Nobody, connector()).server_hostname("localhost");
            let server = el.start_tls(b, Nobody, acceptor());
            let (client, server) = join!(client.into_future(), server.into_future());
            let (client, server) = (client?, server?);
            client.start_protocol(near);
            server.start_protocol(far);
            Ok((client, server))
        })
        .without_half_close()
        .pauses_at_high()
        .run();
        report.assert_passed();
    }
}
