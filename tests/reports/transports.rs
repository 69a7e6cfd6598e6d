//! Protocols, transports, servers and generators.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};

use futures::StreamExt;
use roundelay::{
    Address, DatagramHandle, DatagramProtocol, EventLoop, KeepOpen, ProcessHandle, Protocol, SubprocessProtocol,
    Transport, async_gen, start_server,
};

use crate::common::{complete, run_until, settle};
use crate::support::{Case, Outer, check, full};

/// Panics where it is told to.
#[derive(Clone, Copy)]
pub struct Fails(pub &'static str);

impl Fails {
    fn at(self, callback: &str) {
        assert!(self.0 != callback, "boom");
    }
}

impl Protocol for Fails {
    fn connection_made(&mut self, transport: &Transport) {
        self.at("made");
        if self.0 == "misuse" {
            transport.write_eof();
            transport.write(b"x");
        }
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        self.at("data");
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.at("eof");
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.at("lost");
    }
}

impl DatagramProtocol for Fails {
    fn connection_made(&mut self, _: &DatagramHandle) {
        self.at("made");
    }
    fn datagram_received(&mut self, _: &DatagramHandle, _: &[u8], _: Option<&Address>) {
        self.at("data");
    }
}

impl SubprocessProtocol for Fails {
    fn pipe_data_received(&mut self, _: &ProcessHandle, _: i32, _: &[u8]) {
        self.at("data");
    }
    fn process_exited(&mut self, _: &ProcessHandle) {
        self.at("exited");
    }
}

/// A connection of a server whose protocol fails there: it is made, gets a byte, and its peer goes.
pub fn connection(el: &EventLoop, at: &'static str) -> u32 {
    let line = line!() + 1;
    let server = complete(el, el.create_server(move || Fails(at), ("127.0.0.1", 0))).unwrap();
    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    client.write_all(b"x").unwrap();
    run_until(el, || server.connections() == 1);
    settle(el);
    drop(client);
    run_until(el, || server.connections() == 0);
    server.close();
    line
}

pub fn endpoint(el: &EventLoop, at: &'static str) -> u32 {
    let line = line!() + 1;
    let endpoint = el.create_datagram_endpoint(move || Fails(at)).local_addr(("127.0.0.1", 0));
    let (handle, _) = complete(el, endpoint).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"x", handle.extra_info().local_addr.unwrap()).unwrap();
    if at == "data" {
        settle(el);
    }
    handle.close();
    settle(el);
    line
}

pub fn process(el: &EventLoop, at: &'static str) -> u32 {
    let line = line!() + 1;
    let starting = el.subprocess_shell(move || Fails(at), "echo x");
    let (process, _) = complete(el, starting).unwrap();
    run_until(el, || process.protocol().is_none());
    line
}

/// A server of streams whose handler does this.
fn handled<R: roundelay::StreamHandlerOutput + 'static>(el: &EventLoop, f: impl Fn() -> R + 'static) -> u32 {
    let line = line!() + 1;
    let server = complete(el, async { start_server(async move |_reader, _writer| f(), ("127.0.0.1", 0)).await });
    let server = server.unwrap();
    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    run_until(el, || server.connections() == 1);
    run_until(el, || server.connections() == 0);
    client.read_to_end(&mut Vec::new()).unwrap();
    server.close();
    line
}

/// EH-09 to EH-15: what protocols, transports, servers and their handlers have to do with it, with the line that made
/// them; of what a server has accepted that of the server.
#[test]
fn transports() {
    const OF_CONNECTION: &str = "protocol transport";
    check(
        file!(),
        &[
            Case {
                about: OF_CONNECTION,
                text: "Exception in callback connection_made: boom\n  <Transport * peer=127.0.0.1:* write=<*>>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| connection(el, "made"),
            },
            Case {
                about: OF_CONNECTION,
                text: "Fatal error: protocol.data_received() call failed.: boom\n  <Transport * peer=127.0.0.1:*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| connection(el, "data"),
            },
            Case {
                about: OF_CONNECTION,
                text: "Fatal error: protocol.eof_received() call failed.: boom\n  <Transport * peer=127.0.0.1:*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| connection(el, "eof"),
            },
            Case {
                about: OF_CONNECTION,
                text: "Exception in callback connection_lost: boom\n  <Transport * closed * peer=127.0.0.1:*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| connection(el, "lost"),
            },
            Case {
                about: OF_CONNECTION,
                text: "Transport::write(): cannot write after write_eof()\n  <Transport * peer=127.0.0.1:*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| connection(el, "misuse"),
            },
            Case {
                about: "server socket",
                text: "Error on transport creation for incoming connection: boom\n  \
                   <Server Serving addrs=[127.0.0.1:*] connections=0>\n  <socket fd=*>\n  created at @",
                run: |el| {
                    let factory = || -> Fails { panic!("boom") };
                    let line = line!() + 1;
                    let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
                    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
                    settle(el);
                    client.read_to_end(&mut Vec::new()).unwrap();
                    server.close();
                    line
                },
            },
            Case {
                about: "task transport",
                text: "Unhandled exception in the handler of a stream's connection: the disk is full\n  \
                   <Transport * peer=127.0.0.1:*>\n  <Task running name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| handled(el, || Err(io::Error::other("the disk is full"))),
            },
            Case {
                about: "task transport",
                text: "Unhandled exception in the handler of a stream's connection: boom\n  \
                   <Transport * peer=127.0.0.1:*>\n  <Task running name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| handled(el, || -> () { panic!("boom") }),
            },
            Case {
                about: "datagram_protocol datagram_transport",
                text: "Exception in callback connection_made: boom\n  <DatagramTransport * fd=*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| endpoint(el, "made"),
            },
            Case {
                about: "datagram_protocol datagram_transport",
                text: "Exception in callback datagram_received: boom\n  <DatagramTransport * fd=*>\n  \
                   <protocol reports::*Fails>\n  created at @",
                run: |el| endpoint(el, "data"),
            },
            Case {
                about: "subprocess_protocol process",
                text: "Exception in callback pipe_data_received: boom\n  <*>\n  <protocol reports::*Fails>\n  created at @",
                run: |el| process(el, "data"),
            },
            Case {
                about: "subprocess_protocol process",
                text: "Exception in callback process_exited: boom\n  <*>\n  <protocol reports::*Fails>\n  created at @",
                run: |el| process(el, "exited"),
            },
            Case {
                about: "asyncgen",
                text: "Exception in the cleanup of an async generator: cannot save\n  caused by: the disk is full\n  \
                   <AsyncGen of *Result<i32, reports::*Outer> created at @>",
                run: |el| {
                    let line = line!() + 1;
                    let mut items = roundelay::try_async_gen(async |y| -> Result<(), Outer> {
                        while y.emit(1).await.is_ok() {}
                        Err(full())
                    });
                    complete(el, items.next()).unwrap().unwrap();
                    drop(items);
                    line
                },
            },
            Case {
                about: "asyncgen",
                text: "Exception in the cleanup of an async generator: boom\n  <AsyncGen of i32 created at @>",
                run: |el| {
                    let line = line!() + 1;
                    let mut items = async_gen(async |y| {
                        while y.emit(1).await.is_ok() {}
                        panic!("boom")
                    });
                    complete(el, items.next()).unwrap();
                    drop(items);
                    line
                },
            },
        ],
    );
}
