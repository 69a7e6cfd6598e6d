//! Bridges between plain streams, streams and protocols, and what copies between streams.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{Protocol, TcpListener, TcpStream, Transport, copy_bidirectional, open_connection};

use crate::sweep::{Stage, Witness, check_bytes, pattern, sweep};

/// Enough to fill a socket's buffers, so that something is queued.
const BYTES: usize = 600_000;

/// Sends back what it gets, and the end after it.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// Sends the rest, then the end, and keeps what comes back.
struct Rest {
    bytes: Vec<u8>,
    arrived: Rc<RefCell<Vec<u8>>>,
    done: Rc<Cell<bool>>,
}

impl Protocol for Rest {
    fn connection_made(&mut self, transport: &Transport) {
        transport.write(&self.bytes);
        transport.write_eof();
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.arrived.borrow_mut().extend_from_slice(data);
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.done.set(true);
    }
}

/// A server's plain stream becomes a protocol, and so do a client's halves, in the middle of what they send and receive.
#[test]
fn in_the_middle_of_a_connection() {
    sweep(|stage| {
        let (bytes, arrived, done) = (pattern(BYTES), Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
        let (witness, sent, got, over) = (stage.witness.clone(), bytes.clone(), arrived.clone(), done.clone());
        let began = stage.complete(async move {
            let listener = witness.check("bind", TcpListener::bind(("127.0.0.1", 0)).await)?;
            let address = witness.check("local_addr", listener.local_addr())?;
            let (mut reader, mut writer) = witness.check("open_connection", open_connection(address).await)?;
            let (first, rest) = sent.split_at(BYTES / 3);
            writer.write(first);
            let (server, _) = witness.check("accept", listener.accept().await)?;
            witness.check("into_transport", server.into_transport(|| witness.protocol("server", Echo)))?;
            match reader.readexactly(1000).await {
                Ok(data) => got.borrow_mut().extend(data),
                Err(error) => witness.error("readexactly", &error.into()),
            }
            let rest = Rest { bytes: rest.to_vec(), arrived: got, done: over };
            writer.into_protocol(reader, || witness.protocol("client", rest)).unwrap();
            Some(())
        });
        if began.is_some() {
            stage.run_until(|| done.get());
            check_bytes(&stage.witness, &bytes, &arrived.borrow());
        }
        settle(stage);
    });
}

/// A relay between two connections: a request with its end, and the answer with its.
#[test]
fn through_a_relay() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            relay(&witness).await;
        });
        settle(stage);
    });
}

async fn relay(witness: &Witness) -> Option<()> {
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let listener = witness.check("bind", TcpListener::bind(("127.0.0.1", 0)).await)?;
        let address = witness.check("local_addr", listener.local_addr())?;
        let near = witness.check("connect", TcpStream::connect(address).await)?;
        pairs.push((near, witness.check("accept", listener.accept().await)?.0));
    }
    let ((mut client, mut front), (mut back, mut server)) = (pairs.pop()?, pairs.pop()?);
    let told = witness.clone();
    let copying = roundelay::spawn(async move {
        // Dropped at its end, so that both peers hear of that.
        told.check("copy_bidirectional", copy_bidirectional(&mut front, &mut back).await);
    });
    let told = witness.clone();
    let echoing = roundelay::spawn(async move {
        let mut request = Vec::new();
        told.check("read", server.read_to_end(&mut request).await);
        told.check("write", server.write_all(&request).await);
        told.check("close", server.close().await);
    });
    // Each of the calls is a run of its own.
    let (bytes, mut answer) = (pattern(BYTES / 3), Vec::new());
    witness.check("write_all", client.write_all(&bytes).await);
    // Without an end nothing would come back.
    witness.check("close", client.close().await)?;
    witness.check("read_to_end", client.read_to_end(&mut answer).await);
    drop(client);
    copying.await.unwrap();
    echoing.await.unwrap();
    check_bytes(witness, &bytes, &answer);
    Some(())
}

/// Whatever is still open comes to its end.
fn settle(stage: &Stage<'_>) {
    stage.run_until(|| stage.el.stats().transports.live() == 0);
}
