//! A TCP proxy made of callbacks: what a client sends goes to a server elsewhere, and the other way round.
//!
//! Each pair of connections has two protocols of one kind, and each of them knows the other's transport. All that a proxy
//! has to see to is in their callbacks. A side whose queue is full has the other one read no more, so that a slow reader
//! holds up a fast writer and costs a bounded amount of memory. An end of file ends the other's writing half only: whoever
//! says that he has sent everything may still wait for the answer. And nothing is read from a client before the server is
//! connected: until then what it sends waits in the kernel.
//!
//! Try it: `cargo run --example proxy 8080 example.org 80`, and in another terminal
//! `curl -H 'Host: example.org' http://127.0.0.1:8080/`

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use roundelay::{CancelOnDrop, EventLoop, KeepOpen, Protocol, Transport};

/// Where all clients are taken to.
struct Target {
    host: String,
    port: u16,
}

/// One of the two sides of a client's way to the server.
struct Side {
    /// What connects the other side, for the one that was first.
    target: Option<Rc<Target>>,
    connecting: Option<CancelOnDrop<()>>,
    /// The other side; none before it is connected.
    other: Option<Transport>,
    /// How many of the two have sent everything.
    ended: Rc<Cell<u32>>,
}

impl Side {
    fn client(target: Rc<Target>) -> Self {
        Self { target: Some(target), connecting: None, other: None, ended: Rc::default() }
    }

    fn server(client: Transport, ended: Rc<Cell<u32>>) -> Self {
        Self { target: None, connecting: None, other: Some(client), ended }
    }
}

/// Connects to the server, and lets the client speak.
async fn connect(el: EventLoop, client: Transport, target: Rc<Target>, ended: Rc<Cell<u32>>) {
    let server = Side::server(client.clone(), ended);
    match el.create_connection(|| server, (&*target.host, target.port)).await {
        Ok((server, _)) => {
            let side = client.protocol().and_then(|protocol| protocol.downcast::<Side>());
            match side {
                Some(side) => side.with(|side| side.other = Some(server)),
                None => server.abort(),
            }
            client.resume_reading();
        }
        Err(error) => {
            println!("{}:{} cannot be reached: {error}", target.host, target.port);
            client.close();
        }
    }
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &Transport) {
        let Some(target) = self.target.take() else { return };
        transport.pause_reading();
        let el = roundelay::get_running_loop().expect("callbacks run in a loop");
        let connecting = connect(el.clone(), transport.clone(), target, self.ended.clone());
        self.connecting = Some(el.create_task(connecting).cancel_on_drop());
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        if let Some(other) = &self.other {
            other.write(data);
        }
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.ended.set(self.ended.get() + 1);
        let Some(other) = &self.other else { return KeepOpen::No };
        if self.ended.get() == 2 {
            // Both have: what is queued is sent yet.
            other.close();
            transport.close();
        } else {
            other.write_eof();
        }
        KeepOpen::Yes
    }

    fn pause_writing(&mut self, _: &Transport) {
        if let Some(other) = &self.other {
            other.pause_reading();
        }
    }

    fn resume_writing(&mut self, _: &Transport) {
        if let Some(other) = &self.other {
            other.resume_reading();
        }
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        // If the server is only just being connected, that comes to its end here, too.
        self.connecting = None;
        match (&self.other, error) {
            (Some(other), None) => other.close(),
            (Some(other), Some(_)) => other.abort(),
            (None, _) => {}
        }
    }
}

fn main() -> io::Result<()> {
    const USAGE: &str = "usage: proxy LISTEN_PORT HOST PORT";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, host, port] = &arguments[..] else { return Err(io::Error::other(USAGE)) };
    let port_of = |text: &String| text.parse::<u16>().map_err(|_| io::Error::other(USAGE));
    let (listen, port) = (port_of(listen)?, port_of(port)?);
    let target = Rc::new(Target { host: host.clone(), port });
    roundelay::block_on(async {
        let el = roundelay::get_running_loop()?;
        let server = el.create_server(move || Side::client(target.clone()), ("127.0.0.1", listen)).await?;
        println!("listening on {}", server.local_addrs()[0]);
        server.serve_forever().await
    })
}
