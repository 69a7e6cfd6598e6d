//! What the exception handler hears of protocols, transports and servers (behaviours EH-09 to EH-15).

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use common::{Log, complete, run_until, settle, take_reports};
use roundelay::{Buffered, BufferedProtocol, EventLoop, KeepOpen, Protocol, Server, Transport};
use socket2::SockRef;

/// Which callback panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Nowhere,
    Made,
    Data,
    Eof,
    Pause,
    Resume,
    Lost,
}

struct Panicking {
    at: At,
    log: Log,
}

impl Panicking {
    fn note(&self, at: At, entry: &str) {
        self.log.push(entry);
        assert!(self.at != at, "panics in {at:?}");
    }
}

impl Protocol for Panicking {
    fn connection_made(&mut self, transport: &Transport) {
        if self.at == At::Pause || self.at == At::Resume {
            transport.set_write_buffer_limits(0, 0).unwrap();
        }
        self.note(At::Made, "made");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if data == b"flood" {
            transport.write(&vec![b'x'; FLOOD]);
        }
        self.note(At::Data, "data");
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.note(At::Eof, "eof");
        KeepOpen::No
    }
    fn pause_writing(&mut self, _: &Transport) {
        self.note(At::Pause, "pause");
    }
    fn resume_writing(&mut self, _: &Transport) {
        self.note(At::Resume, "resume");
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        let entry = error.map_or("lost".to_string(), |error| format!("lost: {error}"));
        self.note(At::Lost, &entry);
    }
}

/// More than the kernel takes at once.
const FLOOD: usize = 16 << 20;

fn serve(el: &EventLoop, at: At) -> (Server, SocketAddr, Log) {
    let log = Log::new();
    let noted = log.clone();
    let factory = move || Panicking { at, log: noted.clone() };
    let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
    let address = server.local_addrs()[0];
    (server, address, log)
}

/// The only report: its message with the panic, and the protocol and the transport that it is about.
#[track_caller]
fn check_report(message: &str, at: At) {
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    let report = &reports[0];
    assert!(report.starts_with(&format!("{message}: panics in {at:?}\n")), "{report}");
    assert!(report.contains("\n  <Transport ") && report.contains("\n  <protocol "), "{report}");
    assert!(report.contains("Panicking"), "{report}");
}

on_every_loop! {
    /// EH-09: a connection that the peer resets is the way of the world: nothing is reported, and the protocol is told.
    fn a_reset_is_not_reported(el) {
        let (server, address, log) = serve(el, At::Nowhere);
        let client = TcpStream::connect(address).unwrap();
        run_until(el, || log.len() == 1);
        SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        run_until(el, || server.connections() == 0);
        let entries = log.take();
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert!(entries[1].contains("reset"), "{entries:?}");
        assert!(take_reports().is_empty());
        server.close();
    }

    /// EH-12: a panic in `data_received` is reported, and ends the connection with that as the error.
    fn in_data_received(el) {
        let (server, address, log) = serve(el, At::Data);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"data").unwrap();
        run_until(el, || log.len() == 3 && server.connections() == 0);
        assert_eq!(log.take(), ["made", "data", "lost: protocol.data_received() panicked: panics in Data"]);
        check_report("Fatal error: protocol.data_received() call failed.", At::Data);
        server.close();
    }

    /// EH-12: so is one in `eof_received`.
    fn in_eof_received(el) {
        let (server, address, log) = serve(el, At::Eof);
        let client = TcpStream::connect(address).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        run_until(el, || log.len() == 3 && server.connections() == 0);
        assert_eq!(log.take(), ["made", "eof", "lost: protocol.eof_received() panicked: panics in Eof"]);
        check_report("Fatal error: protocol.eof_received() call failed.", At::Eof);
        server.close();
    }

    /// EH-12: and one in either callback of a buffered protocol.
    fn in_a_buffered_protocol(el) {
        struct Bad {
            in_get: bool,
            buffer: [u8; 16],
            log: Log,
        }
        impl BufferedProtocol for Bad {
            fn get_buffer(&mut self, _: usize) -> &mut [u8] {
                assert!(!self.in_get, "panics in get");
                &mut self.buffer
            }
            fn buffer_updated(&mut self, _: &Transport, _: usize) {
                panic!("panics in updated")
            }
            fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
                self.log.push(error.unwrap().to_string());
            }
        }
        for in_get in [true, false] {
            let log = Log::new();
            let noted = log.clone();
            let factory = move || Buffered(Bad { in_get, buffer: [0; 16], log: noted.clone() });
            let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
            let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
            client.write_all(b"data").unwrap();
            run_until(el, || log.len() == 1 && server.connections() == 0);
            let text = if in_get { "panics in get" } else { "panics in updated" };
            assert!(log.take()[0].contains(text));
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].starts_with("Fatal error: protocol.") && reports[0].contains(text), "{reports:?}");
            server.close();
        }
    }

    /// EH-13: a panic in `connection_made` is reported, and the connection goes on; also that of a client, who gets it.
    fn in_connection_made(el) {
        let (server, address, log) = serve(el, At::Made);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"data").unwrap();
        run_until(el, || log.len() == 2);
        check_report("Exception in callback connection_made", At::Made);
        drop(client);
        run_until(el, || server.connections() == 0);
        assert_eq!(log.take(), ["made", "data", "eof", "lost"]);
        assert!(take_reports().is_empty());

        let own = Log::new();
        let panicking = Panicking { at: At::Made, log: own.clone() };
        let (transport, _) = complete(el, el.create_connection(|| panicking, address)).unwrap();
        assert!(!transport.is_closing());
        run_until(el, || server.connections() == 1);
        let mut reports = take_reports();
        reports.sort();
        assert_eq!(reports.len(), 2, "the client's and the server's: {reports:?}");
        transport.close();
        run_until(el, || own.len() == 2 && server.connections() == 0);
        assert_eq!(own.take(), ["made", "lost"]);
        server.close();
    }

    /// EH-11, FC-10: panics in `pause_writing` and `resume_writing` are reported and do not end the connection: everything
    /// arrives.
    fn in_flow_control(el) {
        for at in [At::Pause, At::Resume] {
            let (server, address, log) = serve(el, at);
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"flood").unwrap();
            run_until(el, || log.len() == 3);
            let reader = std::thread::spawn(move || client.read_exact(&mut vec![0; FLOOD]).map(|()| client));
            run_until(el, || reader.is_finished());
            let mut client = reader.join().unwrap().unwrap();
            run_until(el, || log.len() == 4);
            let message =
                if at == At::Pause { "protocol.pause_writing() failed" } else { "protocol.resume_writing() failed" };
            check_report(message, at);
            client.write_all(b"more").unwrap();
            run_until(el, || log.len() == 5);
            drop(client);
            run_until(el, || server.connections() == 0);
            assert_eq!(log.take(), ["made", "data", "pause", "resume", "data", "eof", "lost"]);
            server.close();
        }
    }

    /// A panic in `connection_lost` is reported, and the connection is gone with its descriptor.
    fn in_connection_lost(el) {
        let (server, address, log) = serve(el, At::Lost);
        let before = common::open_descriptors();
        let client = TcpStream::connect(address).unwrap();
        run_until(el, || server.connections() == 1);
        drop(client);
        run_until(el, || server.connections() == 0);
        assert_eq!(common::open_descriptors(), before);
        assert_eq!(log.take(), ["made", "eof", "lost"]);
        check_report("Exception in callback connection_lost", At::Lost);
        server.close();
    }

    /// EH-15: a server's factory that panics is reported; that connection is closed, and the next is served.
    fn in_a_factory(el) {
        let log = Log::new();
        let noted = log.clone();
        let factory = move || {
            noted.push("factory");
            assert!(noted.len() > 1, "panics in the factory");
            Panicking { at: At::Nowhere, log: noted.clone() }
        };
        let line = line!() + 1;
        let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
        let address = server.local_addrs()[0];
        let mut refused = TcpStream::connect(address).unwrap();
        run_until(el, || log.len() == 1);
        assert_eq!(refused.read(&mut [0]).unwrap(), 0, "it is closed");
        let reports = take_reports();
        let [report] = &reports[..] else { panic!("{reports:?}") };
        let (head, about) = report.split_once('\n').unwrap();
        assert_eq!(head, "Error on transport creation for incoming connection: panics in the factory");
        let place = format!("\n  created at tests/exception_transports.rs:{line}:");
        assert!(about.starts_with(&format!("  <Server Serving addrs=[{address}] ")), "{report}");
        assert!(about.contains("\n  <socket fd=") && about.contains(&place), "{report}");
        let served = TcpStream::connect(address).unwrap();
        run_until(el, || log.len() == 3);
        drop(served);
        run_until(el, || server.connections() == 0);
        assert_eq!(log.take(), ["factory", "factory", "made", "eof", "lost"]);
        server.close();
    }

    /// A client's factory that panics does so in the task that connects.
    fn in_a_clients_factory(el) {
        let (server, address, _) = serve(el, At::Nowhere);
        let handle = el.clone();
        let connecting = el.create_task(async move {
            let factory = || -> Panicking { panic!("panics in the factory") };
            handle.create_connection(factory, address).await.map(drop)
        });
        let error = complete(el, connecting).unwrap_err();
        assert_eq!(error.to_string(), "panicked: panics in the factory");
        run_until(el, || server.connections() == 0);
        server.close();
    }

    /// The report has the transport and the protocol themselves, by their accessors: the handler may write a last word.
    fn the_handler_may_use_the_transport(el) {
        let (server, address, log) = serve(el, At::Made);
        let told = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let transport = context.transport().expect("the transport concerned");
            let protocol = context.protocol().expect("the protocol concerned");
            assert!(protocol.downcast::<Panicking>().is_some());
            transport.write(b"sorry");
            transport.close();
            told.push("told");
        })));
        let mut client = TcpStream::connect(address).unwrap();
        run_until(el, || log.len() >= 2 && server.connections() == 0);
        let mut last_word = String::new();
        client.read_to_string(&mut last_word).unwrap();
        assert_eq!(last_word, "sorry");
        assert_eq!(log.take(), ["made", "told", "lost"]);
        server.close();
        settle(el);
        common::watch_reports(el);
    }
}
