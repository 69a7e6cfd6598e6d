//! Children of `fork`, and what they may do with the loop of their parent.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{complete, open_descriptors, run_until};
use fork::fork;
use roundelay::{EventLoop, get_running_loop};
use tcp::{Echo, LOOPBACK};

const LONG: Duration = Duration::from_millis(20);

/// Sends through a blocking socket, and reads the answer of an echo server that runs on this thread's loop.
#[track_caller]
fn echo(el: &EventLoop, client: &TcpStream, text: &[u8]) {
    (&*client).write_all(text).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answer = vec![0; text.len()];
    let mut got = 0;
    run_until(el, || {
        match (&*client).read(&mut answer[got..]) {
            Ok(n) => got += n,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        got == answer.len()
    });
    client.set_nonblocking(false).unwrap();
    assert_eq!(answer, text);
}

forked! {
    /// PO-01: to close a loop in a child leaves the one in the parent as it was: it accepts, reads, watches, keeps time.
    fn the_parent_goes_on_when_a_child_closes(el) {
        let server = complete(el, el.create_server(|| Echo, LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let client = TcpStream::connect(address).unwrap();
        echo(el, &client, b"before");
        let (watched, mut other) = UnixStream::pair().unwrap();
        let told = Rc::new(Cell::new(0));
        let count = told.clone();
        let reader = watched.try_clone().unwrap();
        el.add_reader(&watched, move || {
            (&reader).read_exact(&mut [0]).unwrap();
            count.set(count.get() + 1);
        }).unwrap();
        let timer = el.call_later(LONG, || ());

        let child = fork(|| {
            assert!(el.is_closed());
            el.close();
            assert!(el.is_closed());
        });
        child.wait();

        echo(el, &client, b"after");
        echo(el, &TcpStream::connect(address).unwrap(), b"another");
        other.write_all(b"x").unwrap();
        run_until(el, || told.get() == 1);
        el.run_until_complete(timer).unwrap().unwrap();
        assert!(el.remove_reader(&watched));
        drop(client);
        assert!(complete(el, server.shutdown(LONG)));
    }

    /// PO-01: in a child no loop runs, though it was forked inside of a callback; it can make one of its own there.
    fn a_child_forked_in_a_callback_has_no_loop_and_can_make_one(el) {
        complete(el, async {
            let own = get_running_loop().unwrap().id();
            let child = fork(|| {
                assert!(get_running_loop().is_err());
                let answer = roundelay::block_on(async {
                    assert_ne!(get_running_loop().unwrap().id(), own);
                    roundelay::sleep(Duration::from_millis(1)).await;
                    roundelay::spawn_blocking(|| 42).await.unwrap()
                });
                assert_eq!(answer, 42);
                assert!(get_running_loop().is_err());
            });
            assert_eq!(get_running_loop().unwrap().id(), own);
            child.wait();
        });
    }
}
