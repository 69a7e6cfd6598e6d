//! Datagram endpoints, of the internet and of unix.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use roundelay::{Address, DatagramAddr, DatagramHandle, DatagramProtocol};

use crate::sweep::{Stage, Witness, pattern, sweep};

/// A protocol whose callbacks are watched, and what it does with a datagram.
struct Watched<F> {
    witness: Witness,
    name: &'static str,
    received: F,
    lost: bool,
}

impl<F: FnMut(&DatagramHandle, &[u8], Option<&Address>) + 'static> Watched<F> {
    fn new(witness: &Witness, name: &'static str, received: F) -> Self {
        Self { witness: witness.clone(), name, received, lost: false }
    }
}

impl<F: FnMut(&DatagramHandle, &[u8], Option<&Address>) + 'static> DatagramProtocol for Watched<F> {
    fn connection_made(&mut self, _: &DatagramHandle) {
        self.witness.made();
    }
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        assert!(!self.lost, "a datagram after connection_lost");
        (self.received)(transport, data, from);
    }
    fn error_received(&mut self, _: &DatagramHandle, error: io::Error) {
        assert!(!self.lost, "an error after connection_lost");
        self.witness.error(self.name, &error);
    }
    fn connection_lost(&mut self, _: &DatagramHandle, error: Option<io::Error>) {
        assert!(!self.lost, "connection_lost came twice");
        self.lost = true;
        self.witness.lost(self.name, error);
    }
}

/// How many datagrams are sent: several to each system call.
const DATAGRAMS: usize = 40;

/// Questions of different lengths.
fn questions() -> Vec<Vec<u8>> {
    (0..DATAGRAMS).map(|n| [&[n as u8], pattern(n * 37).as_slice()].concat()).collect()
}

/// Sends them all, lets the server echo them, and checks the answers: each is a question, in order, none is doubled, and
/// none is lost unless somebody was told of an error.
fn exchange(stage: &Stage<'_>, server: &DatagramHandle, client: &DatagramHandle, answers: &RefCell<Vec<Vec<u8>>>) {
    let questions = questions();
    for question in &questions {
        client.sendto(question, None);
    }
    stage.run_until(|| answers.borrow().len() == questions.len() || !stage.witness.is_clean());
    let _ = (server.extra_info(), client.extra_info());
    // What is still under way.
    client.close();
    stage.run_until(|| client.protocol().is_none());
    server.close();
    stage.run_until(|| server.protocol().is_none());
    let answers = answers.borrow();
    let mut rest = questions.iter();
    for answer in answers.iter() {
        assert!(rest.any(|question| question == answer), "an answer that is no question, or out of its order");
    }
    if stage.witness.is_clean() {
        assert_eq!(answers.len(), questions.len(), "datagrams are lost, and nobody was told");
    }
}

fn keep(answers: &Rc<RefCell<Vec<Vec<u8>>>>) -> impl FnMut(&DatagramHandle, &[u8], Option<&Address>) + 'static {
    let answers = answers.clone();
    move |_, data, _| answers.borrow_mut().push(data.to_vec())
}

#[test]
fn echo_of_datagrams() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let answers = Rc::new(RefCell::new(Vec::new()));
        let echo = Watched::new(witness, "server", |t: &DatagramHandle, data: &[u8], from: Option<&Address>| {
            t.sendto(data, from);
        });
        let creating = el.create_datagram_endpoint(move || echo).local_addr(("127.0.0.1", 0));
        let Some((server, _)) = witness.check("server", stage.complete(creating.into_future())) else { return };
        let client = Watched::new(witness, "client", keep(&answers));
        // Where its name cannot be asked for, nobody knows where the server is.
        match server.extra_info().local_addr {
            None => witness.error("extra_info", &io::ErrorKind::AddrNotAvailable.into()),
            Some(address) => {
                let creating = el.create_datagram_endpoint(move || client).remote_addr(address);
                if let Some((client, _)) = witness.check("client", stage.complete(creating.into_future())) {
                    return exchange(stage, &server, &client, &answers);
                }
            }
        }
        server.close();
        stage.run_until(|| server.protocol().is_none());
    });
}

#[test]
fn echo_of_unix_datagrams() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let folder = tempfile::tempdir().unwrap();
        let (path, own) = (folder.path().join("server"), folder.path().join("client"));
        // What is left of somebody else is replaced.
        drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        let answers = Rc::new(RefCell::new(Vec::new()));
        let echo = Watched::new(witness, "server", |t: &DatagramHandle, data: &[u8], from: Option<&Address>| {
            t.sendto(data, from);
        });
        let creating = el.create_datagram_endpoint(move || echo).local_addr(&path);
        let Some((server, _)) = witness.check("server", stage.complete(creating.into_future())) else { return };
        let client = Watched::new(witness, "client", keep(&answers));
        let creating = el.create_datagram_endpoint(move || client).local_addr(&own).remote_addr(&path);
        match witness.check("client", stage.complete(creating.into_future())) {
            Some((client, _)) => exchange(stage, &server, &client, &answers),
            None => {
                server.close();
                stage.run_until(|| server.protocol().is_none());
            }
        }
    });
}

/// A socket that was made elsewhere, with options, that broadcasts to itself.
#[test]
fn options_and_given_sockets() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let count = Rc::new(Cell::new(0));
        let counts = |name: &'static str| {
            let count = count.clone();
            Watched::new(witness, name, move |_: &DatagramHandle, _: &[u8], _: Option<&Address>| {
                count.set(count.get() + 1);
            })
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let given = counts("given");
        let creating = el.create_datagram_endpoint(move || given).sock(socket);
        let given = witness.check("given", stage.complete(creating.into_future()));
        let made = counts("made");
        let creating = el.create_datagram_endpoint(move || made).local_addr(("127.0.0.1", 0)).remote_addr(address);
        let creating = creating.reuse_port(true).allow_broadcast(true);
        let made = witness.check("made", stage.complete(creating.into_future()));
        if let (Some(_), Some((made, _))) = (&given, &made) {
            made.sendto(b"one", None);
            made.sendto(b"two", None);
            stage.run_until(|| count.get() == 2 || !witness.is_clean());
        }
        for (handle, _) in given.iter().chain(&made) {
            handle.close();
            stage.run_until(|| handle.protocol().is_none());
        }
    });
}

/// An endpoint that is not connected asks one that is not connected, either of a family and of unix.
#[test]
fn endpoints_without_peers() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let folder = tempfile::tempdir().unwrap();
        let unix = |name: &str| DatagramAddr::from(folder.path().join(name));
        // Of unix sockets more than a queue takes.
        let questions: Vec<_> = questions().into_iter().take(14).collect();
        let ends = [[DatagramAddr::from(("127.0.0.1", 0)), ("127.0.0.1", 0).into()], [unix("server"), unix("client")]];
        for [server, client] in ends {
            let answers = Rc::new(RefCell::new(Vec::new()));
            let echo = Watched::new(witness, "server", |t: &DatagramHandle, data: &[u8], from: Option<&Address>| {
                t.sendto(data, from);
            });
            let creating = el.create_datagram_endpoint(move || echo).local_addr(server);
            let server = witness.check("server", stage.complete(creating.into_future()));
            let asking = Watched::new(witness, "client", keep(&answers));
            let creating = el.create_datagram_endpoint(move || asking).local_addr(client);
            let client = witness.check("client", stage.complete(creating.into_future()));
            if let (Some((server, _)), Some((client, _))) = (&server, &client) {
                let info = server.extra_info();
                let address = info.local_addr.map(Address::from).or(info.unix_local_addr.map(Address::from));
                match address {
                    None => witness.error("extra_info", &io::ErrorKind::AddrNotAvailable.into()),
                    Some(address) => {
                        for question in &questions {
                            client.sendto(question, Some(&address));
                        }
                        let count = questions.len();
                        stage.run_until(|| answers.borrow().len() == count || !witness.is_clean());
                    }
                }
            }
            for (handle, _) in server.iter().map(|(t, _)| (t, ())).chain(client.iter().map(|(t, _)| (t, ()))) {
                handle.close();
                stage.run_until(|| handle.protocol().is_none());
            }
            let (mut rest, answers) = (questions.iter(), answers.borrow());
            assert!(answers.iter().all(|answer| rest.any(|question| question == answer)), "out of their order");
        }
    });
}
