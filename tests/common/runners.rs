//! What the tests of a runner's end share. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use roundelay::{EventLoop, Protocol, Runner, RunnerBuilder, Task, Transport, get_running_loop, spawn};

use crate::common::{Log, PATIENCE, alone, open_descriptors, take_reports, watch_reports};

/// Runs a test on a runner that has made its loop, closes the runner, and makes the checks that every test ends with.
pub fn on_runner(builder: RunnerBuilder, body: impl FnOnce(&mut Runner, &EventLoop)) {
    let _alone = alone();
    let descriptors = open_descriptors();
    drop(take_reports());
    let mut runner = builder.build();
    let el = runner.get_loop().unwrap();
    watch_reports(&el);
    body(&mut runner, &el);
    runner.close();
    assert!(el.is_closed());
    let stats = el.stats();
    assert!(stats.is_balanced(), "the loop's statistics are not balanced: {stats:#?}");
    drop((runner, el));
    let reports = take_reports();
    assert!(reports.is_empty(), "reported to the exception handler:\n{}", reports.join("\n"));
    assert_eq!(open_descriptors(), descriptors, "descriptors are left open, or were closed that are not ours");
}

/// A runner whose end waits long: what a test of the end is about comes before.
pub fn patient() -> RunnerBuilder {
    Runner::builder().shutdown_bound(PATIENCE)
}

/// A runner whose end hardly waits.
pub fn hasty() -> RunnerBuilder {
    Runner::builder().shutdown_bound(Duration::from_millis(200))
}

/// The text of a panic.
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it must panic"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().expect("a text").to_string(),
        },
    }
}

/// Calls a function when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A task that waits for ever, and something that it holds.
pub fn forever_with<T: 'static>(held: T) -> Task<()> {
    spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    })
}

/// Tells a log of the end of its connection, and does something more then.
pub struct Told<F: FnMut(&Transport)> {
    log: Log,
    name: &'static str,
    then: F,
}

impl<F: FnMut(&Transport) + 'static> Protocol for Told<F> {
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.log.push(format!("{} lost {error:?}", self.name));
        (self.then)(transport);
    }
}

/// A connection to a peer that the test works by hand.
pub async fn told<F: FnMut(&Transport) + 'static>(log: &Log, name: &'static str, then: F) -> (Transport, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let protocol = Told { log: log.clone(), name, then };
    let el = get_running_loop().unwrap();
    let (transport, _) = el.create_connection(move || protocol, address).await.unwrap();
    (transport, listener.accept().unwrap().0)
}

/// Writes more than the kernel takes while the peer reads nothing; gives how much.
pub fn jam(transport: &Transport) -> usize {
    let mut written = 0;
    while transport.write_buffer_size() <= 256 * 1024 {
        transport.write(&[b'x'; 100_000]);
        written += 100_000;
        assert!(written < 64 << 20, "the kernel takes everything");
    }
    written
}
