//! Servers of streams: handlers, their errors and their ends, many clients (behaviours SR-01, SR-18, SR-25, SR-26).

mod common;

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_manual_clock, run_until, settle, take_reports};
use roundelay::{
    ContextVar, EventLoop, ReadError, Server, StreamReader, StreamWriter, open_connection, spawn, start_server,
    yield_now,
};
use socket2::SockRef;

const LOCAL: (&str, u16) = ("127.0.0.1", 0);

/// Gives back what comes.
async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data);
        writer.drain().await?;
    }
}

fn address(server: &Server) -> SocketAddr {
    server.local_addrs()[0]
}

/// A client that the test works by hand.
fn client(server: &Server) -> TcpStream {
    let client = TcpStream::connect(address(server)).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    client
}

/// Closes the server and waits for its last connection.
fn end(el: &EventLoop, server: &Server) {
    server.close();
    complete(el, server.wait_closed());
}

/// Waits until so many connections have come and all are gone.
#[track_caller]
fn all_served(el: &EventLoop, connections: u64) {
    run_until(el, || el.stats().transports.closed == connections);
}

/// What the client still gets.
fn rest_of(mut client: TcpStream) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}

on_every_loop! {
    /// SR-01: each connection has a handler of its own, in a task of its own; they run side by side.
    fn each_connection_has_its_handler(el) {
        let server = complete(el, async { start_server(echo, LOCAL).await }).unwrap();
        let (first, second) = complete(el, async {
            (open_connection(address(&server)).await.unwrap(), open_connection(address(&server)).await.unwrap())
        });
        complete(el, async {
            let ((mut reader, mut writer), (mut other_reader, mut other_writer)) = (first, second);
            for round in 0..3 {
                writer.write(format!("first {round}\n").as_bytes());
                other_writer.write(format!("second {round}\n").as_bytes());
                assert_eq!(other_reader.readline().await.unwrap(), format!("second {round}\n").as_bytes());
                assert_eq!(reader.readline().await.unwrap(), format!("first {round}\n").as_bytes());
            }
            writer.write_eof();
            other_writer.close();
            assert_eq!(reader.read(10).await.unwrap(), b"", "the handler has dropped its halves");
        });
        end(el, &server);
    }

    /// SR-01: a handler may be any function that gives a future, with captures, and with or without a result.
    fn handlers_of_all_kinds(el) {
        async fn failing(mut reader: StreamReader, _: StreamWriter) -> Result<(), ReadError> {
            reader.readexactly(1).await.map(drop)
        }
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let plain = move |_: StreamReader, mut writer: StreamWriter| {
            count.set(count.get() + 1);
            writer.write(b"plain");
            ready(())
        };
        let (plain, closure, function) = complete(el, async {
            let text = String::from("captured");
            let closure = async move |_: StreamReader, mut writer: StreamWriter| {
                yield_now().await;
                writer.write(text.as_bytes());
            };
            let plain = start_server(plain, LOCAL).await.unwrap();
            (plain, start_server(closure, LOCAL).await.unwrap(), start_server(failing, LOCAL).await.unwrap())
        });
        let cases = [(&plain, "", "plain"), (&closure, "", "captured"), (&function, "!", "")];
        for (served, (server, request, answer)) in (1..).zip(cases) {
            let mut client = client(server);
            client.write_all(request.as_bytes()).unwrap();
            all_served(el, served);
            assert_eq!(rest_of(client), answer);
            end(el, server);
        }
        assert_eq!(served.get(), 1);
    }

    /// SR-01: the error of a handler is reported, with the connection concerned, and the connection is closed; the server
    /// goes on.
    fn a_handlers_error_is_reported(el) {
        let handler = async |mut reader: StreamReader, _writer: StreamWriter| -> io::Result<()> {
            reader.readline().await?;
            Err(io::Error::other("the handler's own trouble"))
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        for served in 1..=2 {
            let mut client = client(&server);
            client.write_all(b"go\n").unwrap();
            all_served(el, served);
            assert_eq!(rest_of(client), "");
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].contains("handler of a stream's connection: the handler's own trouble"), "{reports:?}");
            assert!(reports[0].contains("<Transport"), "{reports:?}");
        }
        assert!(server.is_serving());
        end(el, &server);
    }

    /// SR-01: a request that ends in its middle is an error of the handler's, and is reported.
    fn an_incomplete_request_is_reported(el) {
        let handler = async |mut reader: StreamReader, _writer: StreamWriter| reader.readexactly(10).await.map(drop);
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        let mut client = client(&server);
        client.write_all(b"four").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        all_served(el, 1);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("4 bytes read on a total of 10"), "{reports:?}");
        end(el, &server);
    }

    /// SR-01: that a peer has gone away is no error of the handler's: nothing is reported.
    fn a_peer_that_has_gone_is_not_reported(el) {
        let ended = Log::new();
        let log = ended.clone();
        let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            let result = async {
                reader.readline().await?;
                loop {
                    writer.write(&[0; 1000]);
                    writer.drain().await?;
                    yield_now().await;
                }
            };
            let result: io::Result<()> = result.await;
            log.push(format!("{:?}", result.as_ref().unwrap_err().kind()));
            result
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        // One resets the connection while the handler reads, one goes while it writes.
        let reading = client(&server);
        run_until(el, || server.connections() == 1);
        SockRef::from(&reading).set_linger(Some(Duration::ZERO)).unwrap();
        drop(reading);
        run_until(el, || ended.len() == 1);
        let mut writing = client(&server);
        writing.write_all(b"go\n").unwrap();
        run_until(el, || server.connections() == 1);
        drop(writing);
        run_until(el, || ended.len() == 2);
        let ended = ended.take();
        assert_eq!(ended[0], "ConnectionReset");
        assert!(["BrokenPipe", "ConnectionReset"].contains(&ended[1].as_str()), "{ended:?}");
        end(el, &server);
        assert_eq!(take_reports(), [""; 0]);
    }

    /// SR-01: a handler that panics is reported with its place; its connection is closed and the server goes on.
    fn a_handlers_panic_is_reported(el) {
        let handler = async |mut reader: StreamReader, mut writer: StreamWriter| {
            let line = reader.readline().await.unwrap();
            assert_ne!(line, b"panic\n", "as it was asked to");
            writer.write(&line);
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        let mut bad = client(&server);
        bad.write_all(b"panic\n").unwrap();
        all_served(el, 1);
        assert_eq!(rest_of(bad), "");
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("as it was asked to"), "{reports:?}");
        let mut good = client(&server);
        good.write_all(b"fine\n").unwrap();
        all_served(el, 2);
        assert_eq!(rest_of(good), "fine\n");
        end(el, &server);
    }

    /// api 5: a handler's end closes the connection, unless it has given a half away.
    fn a_half_that_was_given_away_keeps_the_connection(el) {
        let handler = async |mut reader: StreamReader, mut writer: StreamWriter| {
            drop(spawn(async move {
                let line = reader.readline().await.unwrap();
                writer.write(&line);
                // Until the client has gone.
                reader.read_to_end().await.unwrap();
            }));
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        let mut client = client(&server);
        run_until(el, || server.connections() == 1);
        settle(el);
        client.write_all(b"line\n").unwrap();
        run_until(el, || el.stats().tasks.live() == 1);
        let reading = std::thread::spawn(move || {
            let mut line = [0; 5];
            client.read_exact(&mut line).unwrap();
            line
        });
        run_until(el, || reading.is_finished());
        assert_eq!(&reading.join().unwrap(), b"line\n");
        end(el, &server);
    }

    /// SR-01: a handler that is cancelled is dropped, and its connection closed.
    fn a_cancelled_handler_closes_its_connection(el) {
        let server = complete(el, async { start_server(echo, LOCAL).await }).unwrap();
        let client = client(&server);
        run_until(el, || server.connections() == 1);
        for task in el.all_tasks() {
            assert!(task.cancel());
        }
        all_served(el, 1);
        assert_eq!(rest_of(client), "");
        end(el, &server);
    }

    /// SR-25: what a client sends before it goes, at once, is there for the handler, though it begins later.
    fn a_client_that_is_gone_before_the_handler_begins(el) {
        let log = Log::new();
        let own = log.clone();
        let handler = async move |mut reader: StreamReader, _writer: StreamWriter| {
            yield_now().await;
            let all = reader.read_to_end().await.unwrap();
            own.push(String::from_utf8(all).unwrap());
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        for n in 0..5 {
            let mut client = client(&server);
            client.write_all(format!("message {n}").as_bytes()).unwrap();
        }
        run_until(el, || log.len() == 5);
        let mut messages = log.take();
        messages.sort();
        assert_eq!(messages, ["message 0", "message 1", "message 2", "message 3", "message 4"]);
        end(el, &server);
    }

    /// SR-04: the limit is that of the readers which the handlers get.
    fn the_limit_goes_to_the_readers(el) {
        let log = Log::new();
        let own = log.clone();
        let handler = async move |mut reader: StreamReader, _writer: StreamWriter| {
            own.push(format!("{} {:?}", reader.limit(), reader.readline().await.is_err()));
        };
        let server = complete(el, async { start_server(handler, LOCAL).limit(5).await }).unwrap();
        let (mut fine, mut long) = (client(&server), client(&server));
        fine.write_all(b"fives\n").unwrap();
        run_until(el, || log.len() == 1);
        long.write_all(b"sixsix\n").unwrap();
        run_until(el, || log.len() == 2);
        assert_eq!(log.take(), ["5 false", "5 true"]);
        end(el, &server);
    }

    /// SR-18: a client that does not read holds up its own handler and nobody else.
    fn a_slow_reader_stalls_nobody_else(el) {
        let handler = async |mut reader: StreamReader, mut writer: StreamWriter| -> io::Result<()> {
            if reader.readline().await? == b"flood\n" {
                loop {
                    writer.write(&[b'x'; 64 * 1024]);
                    writer.drain().await?;
                }
            }
            writer.write(b"quick");
            Ok(())
        };
        let server = complete(el, async { start_server(handler, LOCAL).await }).unwrap();
        let mut slow = client(&server);
        slow.write_all(b"flood\n").unwrap();
        for served in 1..=20 {
            let mut quick = client(&server);
            quick.write_all(b"hello\n").unwrap();
            all_served(el, served);
            assert_eq!(rest_of(quick), "quick");
        }
        assert_eq!(server.connections(), 1, "the slow one is still there");
        settle(el);
        drop(slow);
        end(el, &server);
    }

    /// SR-01: much data both ways, between two tasks of one loop.
    fn much_data_both_ways(el) {
        let server = complete(el, async { start_server(echo, LOCAL).await }).unwrap();
        let address = address(&server);
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
        let expected = data.clone();
        let echoed = complete(el, async move {
            let (mut reader, mut writer) = open_connection(address).await.unwrap();
            let sending = spawn(async move {
                for piece in data.chunks(50_000) {
                    writer.write(piece);
                    writer.drain().await.unwrap();
                }
                writer.write_eof();
                writer
            });
            let echoed = reader.read_to_end().await.unwrap();
            drop(sending.await.unwrap());
            echoed
        });
        assert!(echoed == expected, "{} bytes came back", echoed.len());
        end(el, &server);
    }

    /// SR-01: many clients at once, each with its own conversation.
    fn many_clients(el) {
        let server = complete(el, async { start_server(echo, LOCAL).backlog(64).await }).unwrap();
        let address = address(&server);
        let clients: Vec<_> = (0..50)
            .map(|n| {
                el.create_task(async move {
                    let (mut reader, mut writer) = open_connection(address).await.unwrap();
                    for round in 0..10 {
                        let line = format!("client {n} round {round}\n");
                        writer.write(line.as_bytes());
                        assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
                    }
                    writer.close();
                    writer.wait_closed().await.unwrap();
                })
            })
            .collect();
        for client in clients {
            complete(el, client).unwrap();
        }
        assert_eq!(el.stats().transports.opened, 100);
        end(el, &server);
    }

    /// SV: closing the server leaves the conversations alone; `shutdown` ends them after what is queued was sent.
    fn conversations_survive_close_but_not_shutdown(el) {
        let server = complete(el, async { start_server(echo, LOCAL).await }).unwrap();
        let (mut reader, mut writer) = complete(el, open(&server)).unwrap();
        run_until(el, || server.connections() == 1);
        server.close();
        writer.write(b"still there?\n");
        assert_eq!(complete(el, reader.readline()).unwrap(), b"still there?\n");
        assert!(complete(el, server.shutdown(common::PATIENCE)));
        assert_eq!(complete(el, reader.read(10)).unwrap(), b"");
    }

    /// SV: a server without connections to accept yet, and one that accepts no more than it may.
    fn settings_of_servers_of_streams(el) {
        let (waiting, busy) = complete(el, async {
            let waiting = start_server(echo, LOCAL).start_serving(false).await.unwrap();
            (waiting, start_server(echo, LOCAL).max_connections(1).await.unwrap())
        });
        assert!(!waiting.is_serving());
        complete(el, waiting.start_serving()).unwrap();
        assert!(waiting.is_serving());
        let mut first = client(&busy);
        let second = client(&busy);
        run_until(el, || busy.connections() == 1);
        settle(el);
        assert_eq!(busy.connections(), 1);
        first.write_all(b"x").unwrap();
        drop(first);
        run_until(el, || el.stats().transports.opened == 2);
        drop(second);
        end(el, &busy);
        end(el, &waiting);
    }
}

async fn open(server: &Server) -> io::Result<(StreamReader, StreamWriter)> {
    open_connection(address(server)).await
}

/// SV: a connection that is silent for too long is ended, and its handler told.
#[test]
fn a_silent_connection_is_ended() {
    on_manual_clock(|el, clock| {
        let server = complete(el, async { start_server(echo, LOCAL).idle_timeout(Duration::from_secs(60)).await });
        let server = server.unwrap();
        let client = client(&server);
        run_until(el, || server.connections() == 1);
        settle(el);
        clock.advance(Duration::from_secs(59));
        settle(el);
        assert_eq!(server.connections(), 1);
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!(server.connections(), 0);
        assert_eq!(rest_of(client), "");
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("nothing was received"), "{reports:?}");
        end(el, &server);
    });
}

/// CX-13: a handler runs in a copy of the context that its server was started in.
#[test]
fn handlers_run_in_a_copy_of_the_servers_context() {
    static NAME: ContextVar<&str> = ContextVar::new("name");
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let handler = async move |_: StreamReader, _: StreamWriter| {
            own.push(format!("{:?}", NAME.get()));
            NAME.set("handler");
        };
        let server = complete(el, async {
            NAME.set("server");
            let server = start_server(handler, LOCAL).await.unwrap();
            NAME.set("later");
            server
        });
        for _ in 0..2 {
            drop(client(&server));
        }
        run_until(el, || log.len() == 2);
        assert_eq!(log.take(), ["Some(\"server\")", "Some(\"server\")"]);
        end(el, &server);
    });
}

/// api 9: dropping the server's handle leaves it serving; closing the loop drops the handler and what it has captured.
#[test]
fn a_server_lives_without_its_handle() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let running = Rc::new(RefCell::new(0));
        let count = running.clone();
        let handler = async move |mut reader: StreamReader, _: StreamWriter| {
            let _guard = &guard;
            *count.borrow_mut() += 1;
            reader.read_to_end().await.map(drop)
        };
        let address = complete(el, async { address(&start_server(handler, LOCAL).await.unwrap()) });
        let _client = TcpStream::connect(address).unwrap();
        run_until(el, || *running.borrow() == 1);
        assert_eq!(drops.count(), 0);
        el.close();
        assert_eq!(drops.count(), 1);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}
