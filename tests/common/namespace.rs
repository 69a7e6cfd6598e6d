//! Tests that need a network, or numbers of processes, of their own: they run in namespaces of the kernel's, in which they are
//! root. And a name server for such a network.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const INSIDE: &str = "ROUNDELAY_TEST_NAMESPACE";

/// Runs `body` in a process of its own whose network is the loopback and what the commands add: the test calls this function
/// alone, and is run again by its name. Says so, and runs nothing, where the machine does not allow it.
pub fn in_a_network(test: &str, commands: &[&str], body: impl FnOnce()) {
    let commands = [&["ip link set lo up"], commands].concat().join(" && ");
    inside(test, &["--net", "--mount"], &commands, body);
}

/// Runs `body` in a process that is the first one of a system of its own, as far as the numbers of processes go: the rest is
/// as with [`in_a_network`].
pub fn among_no_other_processes(test: &str, body: impl FnOnce()) {
    inside(test, &["--pid", "--fork", "--kill-child", "--mount-proc"], "true", body);
}

fn inside(test: &str, namespaces: &[&str], commands: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return body();
    }
    let _alone = super::common::alone();
    let setup = format!("{commands} || exit; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).args(namespaces).args(["sh", "-c", &setup, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, test).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no unshare here: {error}"),
    };
    let [told, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    // Whether the test has begun: until then it is the machine that failed.
    if !told.contains("running 1 test") {
        return eprintln!("SKIPPED: no namespace can be made here: {}", errors.trim());
    }
    assert!(output.status.success(), "{told}\n{errors}");
}

/// Lets the processes of this network ask the name server at 127.0.0.1, once, and wait for it for half a minute.
pub const USE_NAME_SERVER: &str = "printf 'nameserver 127.0.0.1\\noptions timeout:30 attempts:1\\n' > /tmp/roundelay-resolv.$$ \
     && mount --bind /tmp/roundelay-resolv.$$ /etc/resolv.conf && rm /tmp/roundelay-resolv.$$";

/// Who waits for an answer, and to which question.
type Held = Arc<Mutex<Vec<(SocketAddr, Vec<u8>)>>>;

/// Answers for the names that it knows. It says that there are no others, except that `broken.test` makes it fail, and that
/// it answers for `silent.test` when it is told to.
pub struct NameServer {
    held: Held,
    socket: Arc<UdpSocket>,
}

impl NameServer {
    pub fn start(names: &'static [(&'static str, &'static [&'static str])]) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:53").unwrap());
        let held = Held::default();
        let (asked, waiting) = (socket.clone(), held.clone());
        // It ends with the process.
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = asked.recv_from(&mut buffer) {
                let (name, kind) = question(&buffer[..length]);
                match name.as_str() {
                    "silent.test" => waiting.lock().unwrap().push((client, buffer[..length].to_vec())),
                    "broken.test" => send(&asked, client, answer(&buffer[..length], SERVER_FAILURE, &[])),
                    name => {
                        let known = names.iter().find(|(known, _)| *known == name);
                        let addresses: Vec<IpAddr> = known
                            .iter()
                            .flat_map(|(_, addresses)| addresses.iter())
                            .map(|address| address.parse::<IpAddr>().unwrap())
                            .filter(|address| kind == if address.is_ipv4() { A } else { AAAA })
                            .collect();
                        let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
                        send(&asked, client, answer(&buffer[..length], code, &addresses));
                    }
                }
            }
        });
        Self { held, socket }
    }

    /// How many have asked for the silent name and wait.
    pub fn waiting(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Tells all who wait that there is no such name.
    pub fn release(&self) {
        for (client, query) in self.held.lock().unwrap().drain(..) {
            send(&self.socket, client, answer(&query, NO_SUCH_NAME, &[]));
        }
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

fn send(socket: &UdpSocket, client: SocketAddr, message: Vec<u8>) {
    match socket.send_to(&message, client) {
        // Whoever asked may be gone.
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}"),
    }
}

/// The name and the type that a query is about, and where its question ends.
fn question(query: &[u8]) -> (String, u16) {
    let (labels, end) = labels(query);
    (labels.join("."), u16::from_be_bytes([query[end], query[end + 1]]))
}

fn labels(query: &[u8]) -> (Vec<String>, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    (labels, at + 1)
}

fn answer(query: &[u8], code: u8, addresses: &[IpAddr]) -> Vec<u8> {
    let end = labels(query).1 + 4;
    // The same id, an answer, with recursion; one question, so many answers, nothing else.
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
    message.extend_from_slice(&query[12..end]);
    for address in addresses {
        let (kind, bytes) = match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        // The name is the one of the question, of the class of the internet, for a minute.
        message.extend_from_slice(&[0xC0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 60, 0, bytes.len() as u8]);
        message.extend_from_slice(&bytes);
    }
    message
}
