//! Context variables of connections: what a server's and a client's callbacks run in (behaviours CX).

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use common::{Log, complete, run_until, settle};
use roundelay::{ContextVar, KeepOpen, Protocol, StreamReader, StreamWriter, Transport, start_server};

static VAR: ContextVar<&str> = ContextVar::new("var");

fn var() -> &'static str {
    VAR.get().unwrap_or("unset")
}

/// Notes each of its callbacks with the value of `VAR`, and changes it for those to come.
struct Noting {
    log: Log,
    name: &'static str,
    pauses: bool,
}

impl Noting {
    fn note(&self, what: &str) {
        self.log.push(format!("{what} {}", var()));
    }
}

impl Protocol for Noting {
    fn connection_made(&mut self, transport: &Transport) {
        self.note("made");
        VAR.set(self.name);
        if self.pauses {
            transport.pause_reading();
        }
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.note("data");
        if data.ends_with(b"close") {
            let transport = transport.clone();
            roundelay::get_running_loop().unwrap().call_soon(move || {
                VAR.set("of the callback that closes");
                transport.close();
            });
        }
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.note("eof");
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<std::io::Error>) {
        self.note("lost");
    }
}

on_every_loop! {
    /// CX-07, CX-09, CX-10: factory and callbacks run in the context in which the server was made, whatever that is
    /// changed to later and whoever closes; each connection has a copy of its own.
    fn a_servers_context(el) {
        let log = Log::new();
        let (factory_log, handle) = (log.clone(), el.clone());
        let server = complete(el, async move {
            VAR.set("server");
            let factory = move || {
                factory_log.push(format!("factory {}", var()));
                VAR.set("factory");
                Noting { log: factory_log.clone(), name: "connection", pauses: false }
            };
            let server = handle.create_server(factory, ("127.0.0.1", 0)).await.unwrap();
            VAR.set("changed since");
            server
        });
        let address = server.local_addrs()[0];
        // By the peer, by a callback of another context, by a task of another context.
        for closes in ["peer", "callback", "task"] {
            let mut client = TcpStream::connect(address).unwrap();
            run_until(el, || log.len() == 2);
            let data: &[u8] = if closes == "callback" { b"close" } else { b"data" };
            client.write_all(data).unwrap();
            run_until(el, || log.len() >= 3);
            match closes {
                "peer" => drop(client),
                "task" => {
                    let server = server.clone();
                    complete(el, async move {
                        VAR.set("of the task that closes");
                        server.close_clients();
                    });
                }
                _ => {}
            }
            run_until(el, || server.connections() == 0);
            let mut expected = vec!["factory server", "made factory", "data connection"];
            if closes == "peer" {
                expected.push("eof connection");
            }
            expected.push("lost connection");
            assert_eq!(log.take(), expected, "{closes}");
        }
        server.close();
        assert_eq!(var(), "unset");
    }

    /// CX-08, gh-140947 of asyncio: a task of another context that resumes reading, writes, or swaps the protocol does not move the callbacks
    /// into its context.
    fn resuming_from_another_context(el) {
        let log = Log::new();
        let (seen, transports) = (log.clone(), Rc::new(RefCell::new(Vec::<Transport>::new())));
        struct Kept(Noting, Rc<RefCell<Vec<Transport>>>);
        impl Protocol for Kept {
            fn connection_made(&mut self, transport: &Transport) {
                self.1.borrow_mut().push(transport.clone());
                self.0.connection_made(transport);
            }
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                self.0.data_received(transport, data);
            }
            fn pause_writing(&mut self, _: &Transport) {
                self.0.note("pause");
            }
            fn resume_writing(&mut self, _: &Transport) {
                self.0.note("resume");
            }
            fn connection_lost(&mut self, transport: &Transport, error: Option<std::io::Error>) {
                self.0.connection_lost(transport, error);
            }
        }
        let keeps = transports.clone();
        let factory = move || Kept(Noting { log: seen.clone(), name: "own", pauses: true }, keeps.clone());
        let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
        let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        client.write_all(b"early").unwrap();
        run_until(el, || log.len() == 1);
        assert_eq!(log.take(), ["made unset"]);
        let transport = transports.borrow()[0].clone();
        let resumes = transport.clone();
        complete(el, async move {
            VAR.set("of the task");
            resumes.resume_reading();
            resumes.set_write_buffer_limits(10, 0).unwrap();
            resumes.write(&vec![0; 16 << 20]);
        });
        run_until(el, || log.len() == 2);
        let mut entries = log.take();
        entries.sort();
        assert_eq!(entries, ["data own", "pause own"]);
        let reader = std::thread::spawn(move || client.read_exact(&mut vec![0; 16 << 20]).map(|()| client));
        run_until(el, || log.len() == 1);
        assert_eq!(log.take(), ["resume own"]);
        let mut client = reader.join().unwrap().unwrap();
        let swaps = transport.clone();
        let swapped = Noting { log: log.clone(), name: "never set", pauses: false };
        complete(el, async move {
            VAR.set("of another task");
            swaps.set_protocol(swapped);
        });
        client.write_all(b"late").unwrap();
        run_until(el, || log.len() == 1);
        assert_eq!(log.take(), ["data own"]);
        transport.abort();
        run_until(el, || server.connections() == 0);
        assert_eq!(log.take(), ["lost own"]);
        server.close();
    }

    /// A client's callbacks run in the context in which it was connected.
    fn a_clients_context(el) {
        let server = complete(el, el.create_server(|| Idle, ("127.0.0.1", 0))).unwrap();
        let (address, handle, log) = (server.local_addrs()[0], el.clone(), Log::new());
        let own = log.clone();
        let transport = complete(el, async move {
            VAR.set("client");
            let factory = move || {
                own.push(format!("factory {}", var()));
                Noting { log: own.clone(), name: "own", pauses: false }
            };
            handle.create_connection(factory, address).await.unwrap().0
        });
        complete(el, async move {
            VAR.set("elsewhere");
            transport.close();
        });
        run_until(el, || server.connections() == 0);
        assert_eq!(log.take(), ["factory client", "made client", "lost own"]);
        server.close();
    }

    /// CX-09, CX-10: the handlers of a stream server run in copies of the server's context.
    fn a_stream_servers_context(el) {
        let log = Log::new();
        let own = log.clone();
        let server = complete(el, async {
            VAR.set("server");
            let handler = move |mut reader: StreamReader, mut writer: StreamWriter| {
                let log = own.clone();
                async move {
                    let before = var();
                    VAR.set("handler");
                    let line = reader.readline().await.unwrap();
                    log.push(format!("{before} {} {}", var(), line.len()));
                    writer.close();
                }
            };
            let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
            VAR.set("changed since");
            server
        });
        let clients: Vec<TcpStream> =
            (0..2).map(|_| TcpStream::connect(server.local_addrs()[0]).unwrap()).collect();
        run_until(el, || server.connections() == 2);
        for mut client in clients {
            client.write_all(b"line\n").unwrap();
        }
        run_until(el, || log.len() == 2);
        assert_eq!(log.take(), ["server handler 5", "server handler 5"]);
        run_until(el, || server.connections() == 0);
        server.close();
    }

    /// CX-05: the exception handler hears of a protocol's panics, and of a factory's, in the connection's context.
    fn reports_about_protocols(el) {
        let log = Log::new();
        let noted = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let word = context.message.split(' ').next().unwrap();
            noted.push(format!("{word}: {}", var()));
        })));
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let handle = el.clone();
        let server = complete(el, async move {
            VAR.set("server");
            let factory = move || {
                VAR.set("connection");
                counted.set(counted.get() + 1);
                assert!(counted.get() > 1, "the first one fails");
                Panicking
            };
            handle.create_server(factory, ("127.0.0.1", 0)).await.unwrap()
        });
        let address = server.local_addrs()[0];
        let refused = TcpStream::connect(address).unwrap();
        run_until(el, || calls.get() == 1);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"data").unwrap();
        run_until(el, || calls.get() == 2 && server.connections() == 0);
        let expected = [
            "Error: connection",
            "Exception: connection",
            "Fatal: connection",
            "Exception: connection",
        ];
        assert_eq!(log.take(), expected);
        drop(refused);
        server.close();
        common::watch_reports(el);
    }

    /// CX-13: a connection that is gone, and a server that is, keep no value of their contexts.
    fn connections_release_their_context(el) {
        static KEPT: ContextVar<Rc<()>> = ContextVar::new("kept");
        let (of_server, of_connection) = (Rc::new(()), Rc::new(()));
        let (weak_server, weak_connection) = (Rc::downgrade(&of_server), Rc::downgrade(&of_connection));
        let handle = el.clone();
        let connection = Rc::new(RefCell::new(Some(of_connection)));
        let server = complete(el, async move {
            KEPT.set(of_server);
            let factory = move || {
                if let Some(value) = connection.take() {
                    KEPT.set(value);
                }
                Idle
            };
            handle.create_server(factory, ("127.0.0.1", 0)).await.unwrap()
        });
        let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        assert_eq!((weak_server.strong_count(), weak_connection.strong_count()), (1, 1));
        drop(client);
        run_until(el, || server.connections() == 0);
        assert_eq!((weak_server.strong_count(), weak_connection.strong_count()), (1, 0));
        server.close();
        drop(server);
        settle(el);
        assert_eq!(weak_server.strong_count(), 0);
    }
}

struct Idle;

impl Protocol for Idle {}

struct Panicking;

impl Protocol for Panicking {
    fn connection_made(&mut self, _: &Transport) {
        panic!("made")
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        panic!("data")
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<std::io::Error>) {
        panic!("lost")
    }
}
