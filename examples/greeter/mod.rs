//! A tiny HTTP server that says who has answered: what `many_loops` and `prefork` serve.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use futures::future::select;
use roundelay::{Protocol, SignalKind, Transport, signal};

/// The longest request that is read.
const LONGEST: usize = 8 * 1024;

/// What the connections of one worker have in common.
pub(crate) struct Worker {
    pub(crate) name: String,
    /// Connections made, and requests answered.
    pub(crate) connections: Cell<u64>,
    pub(crate) requests: Cell<u64>,
}

impl Worker {
    pub(crate) fn new(name: String) -> Rc<Self> {
        Rc::new(Self { name, connections: Cell::new(0), requests: Cell::new(0) })
    }
}

/// One connection: each request, whatever it asks for, is answered by the name of the worker.
pub(crate) struct Greeter {
    worker: Rc<Worker>,
    /// The beginning of a request.
    begun: Vec<u8>,
}

impl Greeter {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        Self { worker: worker.clone(), begun: Vec::new() }
    }

    fn answer(&self, transport: &Transport) {
        let number = self.worker.requests.get() + 1;
        self.worker.requests.set(number);
        let body = format!("request {number} of {}\n", self.worker.name);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
        transport.write((head + &body).as_bytes());
    }
}

impl Protocol for Greeter {
    fn connection_made(&mut self, _: &Transport) {
        self.worker.connections.set(self.worker.connections.get() + 1);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.begun.extend_from_slice(data);
        // A request without a body ends with an empty line. Several may come at once.
        while let Some(end) = self.begun.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            self.begun.drain(..end + 4);
            self.answer(transport);
        }
        if self.begun.len() > LONGEST {
            transport.abort();
        }
    }

    fn pause_writing(&mut self, transport: &Transport) {
        // Whoever does not read gets nothing more to read.
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}

/// Listens for Ctrl-C and SIGTERM from now on; the future waits for one of them. Then they do what they did before: another
/// one ends the program at once.
pub(crate) fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        select(pin!(interrupt.recv()), pin!(terminate.recv())).await;
    })
}
