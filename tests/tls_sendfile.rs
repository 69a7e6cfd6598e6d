//! Files over TLS (behaviours SF): read and encrypted piece by piece, with the results of a socket's.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/files.rs"]
mod files;
#[path = "common/raw_tls.rs"]
mod raw_tls;
mod wire;

use std::io;

use common::{complete, run_until, settle, take_reports};
use files::{file, pipe, position, set_position};
use raw_tls::{RawTls, connect, connect_narrow};
use roundelay::{EventLoop, InvalidState, SendfileNotAvailable, Transport};
use wire::{NETS, Net, Record, Tap, assert_sleeps, finish, pattern, until_lost};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

#[track_caller]
fn until_received(el: &EventLoop, peer: &RawTls, n: usize) {
    run_until(el, || peer.count() >= n);
}

#[track_caller]
fn assert_misuse(error: &io::Error, text: &str) {
    assert!(error.get_ref().is_some_and(|error| error.is::<InvalidState>()), "{error:?}");
    assert!(error.to_string().contains(text), "{error}");
}

on_every_loop! {
    /// SF-13, SF-10, SF-17: a file goes out between what was written before and what is written behind it, whole or in
    /// part, and the position is behind what was sent.
    fn sends_what_a_socket_sends(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let source = file(&data);
            transport.write(&data[..300_000]);
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            settle(el);
            assert_sleeps(el);
            assert!(!sending.is_done());
            until_received(el, &peer, 300_000 + LARGE);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            assert_eq!(position(&source), LARGE as u64);
            transport.write(b"behind");
            let part = el.create_task(el.sendfile(&transport, &source).offset(1000).count(70_000).into_future());
            until_received(el, &peer, 370_006 + LARGE);
            assert_eq!(complete(el, part).unwrap().unwrap(), 70_000);
            assert_eq!(position(&source), 71_000);
            let rest = el.sendfile(&transport, &source).offset(LARGE as u64 - 5).count(70_000);
            assert_eq!(complete(el, rest.into_future()).unwrap(), 5);
            assert_eq!(complete(el, el.sendfile(&transport, file(b"")).into_future()).unwrap(), 0);
            let expected = [&data[..300_000], &data, b"behind", &data[1000..71_000], &data[LARGE - 5..]].concat();
            until_received(el, &peer, expected.len());
            assert!(peer.received() == expected);
            finish(el, &transport, &record);
        }
    }

    /// SF-13: so does what has no places, as a pipe.
    fn sends_what_comes_out_of_a_pipe(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let data = pattern(1_000_000);
        let (source, filled) = pipe(&data);
        let sending = el.create_task(el.sendfile(&transport, &source).into_future());
        until_received(el, &peer, data.len());
        assert_eq!(complete(el, sending).unwrap().unwrap(), data.len() as u64);
        assert!(peer.received() == data);
        filled.join().unwrap().unwrap();
        finish(el, &transport, &record);
    }

    /// SF-12: with the fallback off it is refused over TLS, and nothing is touched; so it is over one that is closing.
    fn refusals(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let source = file(b"abc");
        set_position(&source, 2);
        let error = complete(el, el.sendfile(&transport, &source).fallback(false).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
        assert!(error.to_string().contains("fallback is disabled"), "{error}");
        assert!(transport.is_reading() && !transport.is_closing());

        set_position(&source, 2);
        transport.write(&pattern(300_000));
        transport.close();
        let error = complete(el, el.sendfile(&transport, &source).into_future()).unwrap_err();
        assert_misuse(&error, "Transport is closing");
        assert_eq!(position(&source), 2);
        until_received(el, &peer, 300_000);
        assert_eq!(peer.end(), Some(Ok(())));
        peer.close_notify();
        until_lost(el, &record);
        let error = complete(el, el.sendfile(&transport, &source).into_future()).unwrap_err();
        assert_misuse(&error, "Transport is closing");
    }

    /// SF-13: while a file is sent nothing else can be written, nor another file sent.
    fn refuses_writes_meanwhile(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
        let data = pattern(LARGE);
        let (first, second) = (file(&data), file(b"second"));
        let sending = el.create_task(el.sendfile(&transport, &first).into_future());
        run_until(el, || peer.sip(10_000) > 0);
        transport.write(b"no");
        transport.write_owned(&b"no"[..]);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports.iter().all(|report| report.contains("unable to write; sendfile is in progress")), "{reports:?}");
        let error = complete(el, el.sendfile(&transport, &second).into_future()).unwrap_err();
        assert_misuse(&error, "another sendfile is in progress");
        until_received(el, &peer, LARGE);
        assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
        assert!(peer.received() == data);
        finish(el, &transport, &record);
    }

    /// SF-16: reading is held up, and is afterwards what was asked for; the protocol hears of its own bytes only.
    fn restores_what_it_found(el) {
        type Act = fn(&Transport);
        let cases: [(bool, Act, bool); 4] = [
            (false, |_| (), true),
            (true, |_| (), false),
            (true, |transport| transport.resume_reading(), true),
            (false, |transport| transport.pause_reading(), false),
        ];
        for (paused, meanwhile, on) in cases {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
            transport.write(&pattern(800_000));
            settle(el);
            assert_eq!(record.take(), ["made", "pause"]);
            if paused {
                transport.pause_reading();
            }
            let source = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            settle(el);
            meanwhile(&transport);
            peer.send(b"hello");
            settle(el);
            assert!(!transport.is_reading() && record.len() == 0);
            until_received(el, &peer, 800_000 + LARGE);
            complete(el, sending).unwrap().unwrap();
            assert_eq!(transport.is_reading(), on);
            settle(el);
            assert_eq!(record.len(), if on { 5 } else { 0 });
            transport.resume_reading();
            run_until(el, || record.len() == 5);
            assert_eq!(record.take(), ["resume", "data 5"]);
            assert!(transport.protocol().unwrap().downcast::<Tap>().is_some());
            finish(el, &transport, &record);
        }
    }

    /// SF-09, SF-16: given up half-way, the position tells how far it came, and the transport goes on as before.
    fn gives_up_when_it_is_dropped(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let source = file(&data);
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            run_until(el, || peer.sip(100_000) > 0);
            assert!(sending.cancel());
            settle(el);
            let sent = position(&source) as usize;
            assert!(sent > 0 && sent < LARGE, "{sent}");
            assert!(transport.is_reading());
            transport.write(b"on");
            peer.send(b"hello");
            until_received(el, &peer, sent + 2);
            assert!(peer.received() == [&data[..sent], b"on"].concat());
            run_until(el, || record.len() == 5);
            assert_sleeps(el);
            finish(el, &transport, &record);
        }
    }

    /// SF-12: `close` waits for the file, and for the peer's last word behind it.
    fn closes_behind_the_file(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let source = file(&data);
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            run_until(el, || peer.sip(10_000) > 0);
            transport.close();
            assert!(transport.is_closing());
            assert_sleeps(el);
            assert!(!record.is_lost());
            until_received(el, &peer, LARGE);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            run_until(el, || peer.end().is_some());
            assert_eq!(peer.end(), Some(Ok(())));
            peer.close_notify();
            until_lost(el, &record);
            assert!(peer.received() == data);
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }

    /// SF-14: a peer that goes away in the middle: its error, the position in between, and the end of the connection.
    fn the_peer_goes_away(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let source = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            let mut read = 0;
            run_until(el, || {
                read += peer.sip(10_000);
                read >= 100_000
            });
            drop(peer);
            let error = complete(el, sending).unwrap().unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error:?}");
            assert!(transport.is_closing());
            until_lost(el, &record);
            assert_eq!(record.take(), ["made".to_owned(), format!("lost {:?}", error.kind())]);
            let sent = position(&source) as usize;
            assert!((1024..LARGE).contains(&sent), "{sent}");
        }
    }
}
