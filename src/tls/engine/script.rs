//! Two engines joined in memory, and what may happen between them: for tests, and for fuzzing.

use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::Engine;

/// How far one end is.
#[derive(Debug)]
pub(crate) enum State {
    Handshake,
    Open,
    /// The peer has ended.
    Ended,
    Failed(#[cfg_attr(fuzzing, allow(dead_code))] io::Error),
}

/// One end, which uses its engine as a transport does.
pub(crate) struct End {
    pub(crate) engine: Engine,
    pub(crate) state: State,
    /// Whether the application takes what arrives.
    pub(crate) is_reading: bool,
    pub(crate) received: Vec<u8>,
    /// Records for the other end.
    pub(crate) sent: Vec<u8>,
    has_closed: bool,
    /// How large the application's buffer is.
    pub(crate) room: usize,
}

/// A client and a server that have not spoken yet.
pub(crate) fn pair(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, strict: bool) -> (End, End) {
    let name = "localhost".try_into().expect("it is a name");
    let client = ClientConnection::new(client.clone(), name).expect("the configuration is whole");
    let server = ServerConnection::new(server.clone()).expect("the configuration is whole");
    let mut client = End::new(client.into(), strict);
    client.go_on();
    (client, End::new(server.into(), strict))
}

/// Carries what both have said until neither has anything to say.
pub(crate) fn carry(client: &mut End, server: &mut End) {
    while !client.sent.is_empty() || !server.sent.is_empty() {
        server.arrive(&std::mem::take(&mut client.sent));
        client.arrive(&std::mem::take(&mut server.sent));
    }
}

impl End {
    pub(crate) fn new(connection: Connection, strict: bool) -> Self {
        Self {
            engine: Engine::new(connection, strict, None),
            state: State::Handshake,
            is_reading: true,
            received: Vec::new(),
            sent: Vec::new(),
            has_closed: false,
            room: 4096,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Records arrive.
    pub(crate) fn arrive(&mut self, mut data: &[u8]) {
        loop {
            match self.state {
                State::Handshake => {
                    self.engine.take(&mut data);
                    self.go_on();
                }
                State::Open if self.is_reading => {
                    self.engine.take(&mut data);
                    self.flush();
                    self.read();
                }
                State::Open => {
                    self.engine.keep(data);
                    break;
                }
                State::Ended | State::Failed(_) => return,
            }
            if data.is_empty() {
                break;
            }
        }
        self.check();
    }

    /// The carrier comes to its end.
    pub(crate) fn cut(&mut self) {
        self.engine.end();
        self.go_on();
        self.read();
        self.check();
    }

    /// Goes on with the handshake.
    pub(crate) fn go_on(&mut self) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        let advanced = self.engine.handshake();
        self.flush();
        match advanced {
            Ok(false) => {}
            Ok(true) => {
                self.state = State::Open;
                self.read();
            }
            Err(error) => self.state = State::Failed(error),
        }
    }

    /// The application takes what there is.
    pub(crate) fn read(&mut self) {
        let mut buffer = vec![0; self.room];
        while self.is_reading && self.is_open() {
            match self.engine.recv(&mut buffer) {
                Ok(0) => self.state = State::Ended,
                Ok(n) => self.received.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.state = State::Failed(error),
            }
        }
        self.flush();
    }

    /// The application writes, in one piece or in several. False if it cannot.
    pub(crate) fn write(&mut self, data: &[u8], pieces: usize) -> bool {
        if self.has_closed || !matches!(self.state, State::Open | State::Ended) {
            return false;
        }
        let written = if pieces > 1 {
            let size = data.len().div_ceil(pieces).max(1);
            self.engine.send_vectored(&data.chunks(size).map(IoSlice::new).collect::<Vec<_>>())
        } else {
            self.engine.send(data)
        };
        match written.and_then(|n| self.try_flush().map(|()| n)) {
            Ok(n) => assert_eq!(n, data.len(), "everything is taken"),
            Err(error) => self.state = State::Failed(error),
        }
        !matches!(self.state, State::Failed(_))
    }

    /// The application closes.
    pub(crate) fn close(&mut self) {
        if matches!(self.state, State::Open | State::Ended) {
            self.has_closed = true;
            self.engine.close();
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.try_flush().expect("only what is written can fail");
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.engine.flush(|records| records.iter().for_each(|piece| self.sent.extend_from_slice(piece)))
    }

    fn check(&self) {
        if self.engine.waiting() == 0 {
            assert_eq!(self.engine.waiting.capacity(), 0, "an idle connection keeps no memory");
        }
        if matches!(self.state, State::Ended) {
            assert_eq!(self.engine.waiting(), 0, "nothing waits behind the end");
        }
    }
}

/// What a client and a server may be configured with: a script names one of them.
pub(crate) type Configs = [(Arc<ClientConfig>, Arc<ServerConfig>)];

/// The most bytes of one side that a script writes.
const MOST_WRITTEN: usize = 1 << 18;

/// The bytes that a script writes.
fn pattern(side: usize) -> &'static [u8] {
    static PATTERNS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let byte = |side: usize, at: usize| (at.wrapping_mul(2 * side + 167) >> 3) as u8;
        [0, 1].map(|side| (0..MOST_WRITTEN).map(|at| byte(side, at)).collect())
    });
    &patterns[side]
}

/// Two ends, and what each of them has written.
struct Exchange {
    ends: [End; 2],
    written: [usize; 2],
    /// How many bytes of what was received were looked at.
    checked: [usize; 2],
    /// Whether what one end sends does not reach the other any more.
    is_cut: [bool; 2],
    /// Whether records were changed on their way.
    is_changed: bool,
    /// Whether one wrote since its keys were changed.
    may_refresh: [bool; 2],
}

/// Lets a client and a server do what a script says. What arrives is what was sent, as far as it arrives at all; and if
/// nobody has meddled with the records, it does.
///
/// A script has two bytes of settings, and then steps: a byte for what is done and by whom, and those that this takes.
///
/// # Panics
///
/// If that is not so.
pub(crate) fn run(configs: &Configs, script: &[u8]) {
    let mut bytes = script.iter().copied();
    let [settings, room] = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
    let (client, server) = &configs[usize::from(settings >> 2) % configs.len()];
    let (mut client, mut server) = pair(client, server, settings & 1 == 1);
    if settings & 2 == 2 {
        carry(&mut client, &mut server);
    }
    (client.room, server.room) = (size(room).max(1), 4096);
    let mut exchange = Exchange {
        ends: [client, server],
        written: [0; 2],
        checked: [0; 2],
        is_cut: [false; 2],
        is_changed: false,
        may_refresh: [true; 2],
    };
    while exchange.step(&mut bytes).is_some() {
        exchange.check();
    }
    exchange.finish();
}

/// Lets a server hear what somebody says who need not speak TLS: a byte for how it comes, and then what.
///
/// # Panics
///
/// If the server does, or believes that it has received something.
pub(crate) fn run_server(configs: &Configs, input: &[u8]) {
    let (settings, input) = input.split_first().unwrap_or((&0, &[]));
    let (_, config) = &configs[usize::from(settings >> 5) % configs.len()];
    let connection = ServerConnection::new(config.clone()).expect("the configuration is whole");
    let mut server = End::new(connection.into(), settings & 1 == 1);
    let piece = size(224 + (settings >> 1 & 15)).max(1);
    for piece in input.chunks(if settings & 16 == 0 { input.len().max(1) } else { piece }) {
        server.arrive(piece);
    }
    server.cut();
    assert!(matches!(server.state, State::Failed(_)), "a handshake needs a peer");
    assert!(server.received.is_empty());
}

/// Small sizes one by one, and those around which something changes.
fn size(byte: u8) -> usize {
    const LARGE: [usize; 16] =
        [512, 1024, 2048, 4091, 4095, 4096, 4097, 8192, 16383, 16384, 16385, 16406, 18432, 20000, 32768, 65535];
    match byte {
        0..=223 => byte.into(),
        224..=239 => 1 + usize::from(byte - 224) * 16,
        240.. => LARGE[usize::from(byte - 240)],
    }
}

impl Exchange {
    /// `None` when the script is over.
    fn step(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let step = bytes.next()?;
        let side = usize::from(step >> 7);
        let end = &mut self.ends[side];
        match step & 15 {
            0 => self.deliver(side, usize::MAX, usize::MAX),
            1 | 2 => self.deliver(side, size(bytes.next()?), usize::MAX),
            // One byte at a time.
            3 => self.deliver(side, size(bytes.next()?), 1),
            4 | 5 => {
                let len = size(bytes.next()?).min(MOST_WRITTEN - self.written[side]);
                let data = &pattern(side)[self.written[side]..][..len];
                // Several pieces are one record at most, as from a transport.
                let pieces = if step & 1 == 0 { 1 } else { 3 };
                if end.write(data, pieces) {
                    self.written[side] += len;
                    self.may_refresh[side] |= len > 0;
                }
            }
            6 => end.close(),
            7 => end.is_reading = false,
            8 => {
                end.is_reading = true;
                end.read();
            }
            9 if end.is_open() && !end.has_closed && std::mem::take(&mut self.may_refresh[side]) => {
                // TLS 1.2 has no such thing.
                let _ = end.engine.connection.refresh_traffic_keys();
                end.flush();
            }
            9 => {}
            10 => self.cut(side),
            11 | 12 => {
                let (at, mask) = (size(bytes.next()?), bytes.next()?);
                if let Some(byte) = end.sent.get_mut(at) {
                    *byte ^= mask;
                    self.is_changed |= mask != 0;
                }
            }
            13 => {
                let (at, len) = (size(bytes.next()?).min(end.sent.len()), bytes.next()? & 31);
                let inserted: Vec<u8> = bytes.by_ref().take(len.into()).collect();
                self.is_changed |= !inserted.is_empty();
                end.sent.splice(at..at, inserted);
            }
            14 => {
                let at = size(bytes.next()?).min(end.sent.len());
                let len = size(bytes.next()?).min(end.sent.len() - at);
                self.is_changed |= len > 0;
                drop(end.sent.drain(at..at + len));
            }
            // Once more.
            _ => {
                let len = size(bytes.next()?).min(end.sent.len());
                self.is_changed |= len > 0;
                let again = end.sent[..len].to_vec();
                end.sent.splice(0..0, again);
            }
        }
        Some(())
    }

    /// Carries so many bytes from one side to the other, in pieces of that length.
    fn deliver(&mut self, from: usize, len: usize, piece: usize) {
        let sent = &mut self.ends[from].sent;
        let len = len.min(sent.len());
        let data: Vec<u8> = sent.drain(..len).collect();
        if !self.is_cut[from] {
            data.chunks(piece).for_each(|piece| self.ends[1 - from].arrive(piece));
        }
    }

    fn cut(&mut self, from: usize) {
        if !std::mem::replace(&mut self.is_cut[from], true) {
            self.ends[1 - from].cut();
        }
    }

    /// What was received is what was sent.
    fn check(&mut self) {
        for side in [0, 1] {
            let (received, checked) = (&self.ends[side].received, &mut self.checked[side]);
            assert!(received.len() <= self.written[1 - side], "more is received than was sent");
            assert!(received[*checked..] == pattern(1 - side)[*checked..received.len()], "something else is received");
            *checked = received.len();
        }
    }

    fn finish(&mut self) {
        for end in &mut self.ends {
            end.is_reading = true;
            end.read();
        }
        while self.ends.iter().any(|end| !end.sent.is_empty()) {
            [0, 1].into_iter().for_each(|side| self.deliver(side, usize::MAX, usize::MAX));
            self.check();
        }
        let is_whole = !self.is_changed && self.is_cut == [false; 2];
        for side in [0, 1] {
            let (end, other) = (&self.ends[side], &self.ends[1 - side]);
            assert!(end.engine.waiting() == 0 || matches!(end.state, State::Failed(_)), "something is left");
            if is_whole {
                let is_right = if other.has_closed { matches!(end.state, State::Ended) } else { end.is_open() };
                assert!(is_right, "nobody has meddled with it, and it is {:?}", end.state);
                assert_eq!(end.received.len(), self.written[1 - side], "all of it arrives");
            }
        }
        [0, 1].into_iter().for_each(|side| self.cut(side));
        self.check();
        for end in &self.ends {
            assert!(
                matches!(end.state, State::Ended | State::Failed(_)),
                "the end of the carrier is an end: {:?}",
                end.state
            );
        }
    }
}
