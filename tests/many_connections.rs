//! As many connections as the limit of descriptors allows, 10 000 at most, held by one loop: over TCP and over unix sockets,
//! for protocols and for streams. They cost little memory while they are idle, and all of them are served.

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use common::{Kind, PATIENCE, open_descriptors, run_alone, run_until, settle};
use counting::{allocations, live_bytes};
use roundelay::{EventLoop, Server, StreamReader, StreamWriter, start_server, start_unix_server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcp::{Echo, LOOPBACK, complete};
use unix::Folder;

/// The most connections that are held.
const MOST: usize = 10_000;

/// What the rest of the process needs: a loop, its selector, what the test's libraries open.
const SPARE: usize = 100;

/// Connections that are not counted: the loop's tables have grown to their size with them.
const FIRST: usize = 20;

/// Connections that are made at a time: no more than the system holds for the server.
const AT_A_TIME: usize = 50;

/// How many connections there may be, with both of their ends in this process.
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let descriptors = limit.maximum.map_or(usize::MAX, |most| most as usize);
    MOST.min((descriptors - open_descriptors() - SPARE) / 2)
}

/// A client that is no part of the loop.
trait Client: Read + Write {}

impl<S: Read + Write> Client for S {}

/// Where a server listens.
enum Place {
    Internet(SocketAddr),
    Path(PathBuf),
}

impl Place {
    fn connect(&self) -> Box<dyn Client> {
        match self {
            Self::Internet(address) => {
                let client = TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(client)
            }
            Self::Path(path) => {
                let client = UnixStream::connect(path).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(client)
            }
        }
    }
}

/// Echoes one message, and waits for the end.
async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> std::io::Result<()> {
    loop {
        let data = reader.read(64).await?;
        if data.is_empty() {
            writer.close();
            return Ok(());
        }
        writer.write(&data);
    }
}

/// Holds the connections of an echo server, and gives how many bytes the process has allocated for each.
fn hold(el: &EventLoop, server: &Server, place: &Place) -> isize {
    /// glibc's: a word before each piece, and sizes in steps of two words.
    const ADDED: usize = 12;

    let count = room();
    assert!(count > FIRST, "the limit of descriptors leaves room for {count} connections");
    let mut clients = Vec::with_capacity(count);
    let grow_to = |clients: &mut Vec<Box<dyn Client>>, wanted: usize| {
        while clients.len() < wanted {
            let more = AT_A_TIME.min(wanted - clients.len());
            clients.extend((0..more).map(|_| place.connect()));
            run_until(el, || server.connections() == clients.len());
        }
        settle(el);
    };
    grow_to(&mut clients, FIRST);
    let before = live_bytes();
    let asked = allocations(|| grow_to(&mut clients, count));
    // What the clients themselves are allocated in is not the loop's: a box with a descriptor for each.
    let own = (size_of::<i32>() + ADDED) * (count - FIRST);
    let asked = asked - (count - FIRST);
    let bytes = live_bytes() - before + isize::try_from(ADDED * asked).unwrap() - isize::try_from(own).unwrap();

    // All are served, and nobody is mistaken for another.
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u32).to_le_bytes()).unwrap();
    }
    settle(el);
    for (number, client) in clients.iter_mut().enumerate() {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(u32::from_le_bytes(answer) as usize, number);
    }
    drop(clients);
    run_until(el, || server.connections() == 0);
    server.close();
    settle(el);
    bytes / isize::try_from(count - FIRST).unwrap()
}

/// Holds connections of each kind; `make` makes the server. The bytes for each must be in the range.
#[track_caller]
fn check(what: &str, range: std::ops::Range<isize>, make: impl Fn(&EventLoop, &Folder) -> (Server, Place)) {
    let _alone = common::alone();
    let before = getrlimit(Resource::Nofile);
    for kind in [Kind::Epoll, Kind::Polling] {
        let folder = Folder::new();
        run_alone(
            || kind.builder(),
            |el| {
                let (server, place) = make(el, &folder);
                let bytes = hold(el, &server, &place);
                println!("{what}, {kind:?}: {bytes} bytes for each of {} idle connections", room());
                assert!(range.contains(&bytes), "{what}, {kind:?}: {bytes} bytes");
            },
        );
        setrlimit(Resource::Nofile, before).unwrap();
    }
}

#[test]
fn tcp_connections_of_protocols() {
    check("TCP", 100..400, |el, _| {
        let server = complete(el, el.create_server(|| Echo, LOOPBACK)).unwrap();
        let place = Place::Internet(server.local_addrs()[0]);
        (server, place)
    });
}

#[test]
fn unix_connections_of_protocols() {
    check("unix", 100..400, |el, folder| {
        let path = folder.path("many");
        (complete(el, el.create_unix_server(|| Echo, &path)).unwrap(), Place::Path(path))
    });
}

/// A stream has a task, two halves and what joins them beside its connection.
#[test]
fn tcp_connections_of_streams() {
    check("streams over TCP", 400..1400, |el, _| {
        let server = complete(el, async { start_server(echo, LOOPBACK).await }).unwrap();
        let place = Place::Internet(server.local_addrs()[0]);
        (server, place)
    });
}

#[test]
fn unix_connections_of_streams() {
    check("streams over unix", 400..1400, |el, folder| {
        let path = folder.path("many");
        let bound = path.clone();
        (complete(el, async { start_unix_server(echo, bound).await }).unwrap(), Place::Path(path))
    });
}
