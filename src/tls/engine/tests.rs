//! Two engines, and whatever may happen between them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::{Connection, ProtocolVersion, ServerConnection, version};

use super::script::{End, State, carry, pair, run, run_server};
use crate::constants::TLS_SEND_SIZE;

#[path = "../../../tests/common/certificates.rs"]
mod certificates;
#[path = "../../../tests/common/tls_configs.rs"]
mod tls_configs;

use tls_configs::{Config, config_with, configs, few_records, provider};

/// The two versions.
fn plain_configs() -> &'static [Config] {
    &configs()[..2]
}

/// A client and a server that have done their handshake.
fn joined((client, server): &Config) -> (End, End) {
    let (mut client, mut server) = pair(client, server, true);
    carry(&mut client, &mut server);
    assert!(client.is_open() && server.is_open());
    (client, server)
}

const QUESTION: &[u8] = b"what is sent to the server";
const ANSWER: &[u8] = b"and what comes back";

/// Somebody between the two, who is given everything that one end says, in pieces.
trait Between {
    /// `from` is 0 for what the client has said.
    fn pass(&mut self, from: usize, data: Vec<u8>, to: &mut End);

    /// Whether one end does not hear the other any more.
    fn is_cut(&self, _from: usize) -> bool {
        false
    }
}

/// A handshake, a question, an answer, and a close by the client, which the server returns.
fn talk((client, server): &Config, strict: bool, between: &mut impl Between) -> (End, End) {
    let (mut client, mut server) = pair(client, server, strict);
    let mut exchange = |client: &mut End, server: &mut End| {
        loop {
            let (from_client, from_server) = (std::mem::take(&mut client.sent), std::mem::take(&mut server.sent));
            if from_client.is_empty() && from_server.is_empty() {
                break;
            }
            between.pass(0, from_client, server);
            between.pass(1, from_server, client);
        }
    };
    exchange(&mut client, &mut server);
    client.write(QUESTION, 1);
    exchange(&mut client, &mut server);
    if server.received == QUESTION {
        server.write(ANSWER, 2);
    }
    exchange(&mut client, &mut server);
    client.close();
    exchange(&mut client, &mut server);
    server.close();
    exchange(&mut client, &mut server);
    for (from, end) in [&mut server, &mut client].into_iter().enumerate() {
        if !between.is_cut(from) {
            end.cut();
        }
    }
    (client, server)
}

/// Counts what passes by.
#[derive(Default)]
struct Count([usize; 2]);

impl Between for Count {
    fn pass(&mut self, from: usize, data: Vec<u8>, to: &mut End) {
        self.0[from] += data.len();
        to.arrive(&data);
    }
}

/// Calls `f` with each position of the exchange: a configuration, who sends, and how many bytes were sent before.
fn at_every_position(f: impl Fn(&Config, usize, usize)) {
    for config in plain_configs() {
        // Signatures differ in length.
        let counts: Vec<[usize; 2]> = (0..4)
            .map(|_| {
                let mut count = Count::default();
                talk(config, true, &mut count);
                count.0
            })
            .collect();
        for from in [0, 1] {
            (0..counts.iter().map(|count| count[from]).max().unwrap()).for_each(|at| f(config, from, at));
        }
    }
}

fn assert_whole(client: &End, server: &End) {
    assert_eq!(server.received, QUESTION, "{:?}", server.state);
    assert_eq!(client.received, ANSWER, "{:?}", client.state);
    assert!(matches!((&client.state, &server.state), (State::Ended, State::Ended)));
}

/// What one side says comes in two pieces.
struct Split {
    from: usize,
    /// So many bytes are in the first.
    left: usize,
}

impl Between for Split {
    fn pass(&mut self, from: usize, data: Vec<u8>, to: &mut End) {
        if from != self.from || self.left >= data.len() {
            self.left -= if from == self.from { data.len() } else { 0 };
            return to.arrive(&data);
        }
        let (first, second) = data.split_at(std::mem::take(&mut self.left));
        to.arrive(first);
        to.arrive(second);
        // Never again.
        self.from = 2;
    }
}

#[test]
fn an_exchange_may_be_split_anywhere() {
    at_every_position(|config, from, left| {
        let (client, server) = talk(config, true, &mut Split { from, left });
        assert_whole(&client, &server);
    });
}

/// Everything comes byte by byte; and every second piece while the application is not reading.
struct Drip {
    pauses: bool,
}

impl Between for Drip {
    fn pass(&mut self, _: usize, data: Vec<u8>, to: &mut End) {
        for (at, byte) in data.iter().enumerate() {
            to.is_reading = !self.pauses || at % 2 == 1;
            to.read();
            to.arrive(&[*byte]);
        }
        to.is_reading = true;
        to.read();
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    for config in configs() {
        for pauses in [false, true] {
            let (client, server) = talk(config, true, &mut Drip { pauses });
            assert_whole(&client, &server);
        }
    }
}

#[test]
fn large_data_comes_byte_by_byte_and_is_kept_for_a_reader_who_pauses() {
    let data: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
    for config in plain_configs() {
        let (mut client, mut server) = joined(config);
        server.is_reading = false;
        client.write(&data, 1);
        let records = std::mem::take(&mut client.sent);
        records.iter().for_each(|byte| server.arrive(&[*byte]));
        assert_eq!(server.engine.waiting(), records.len(), "it waits as it came");
        server.is_reading = true;
        server.read();
        assert!(server.received == data);
        assert_eq!(server.engine.waiting(), 0);
        assert_eq!(server.engine.waiting.capacity(), 0);
    }
}

/// One side does not hear the other from some point on.
struct Cut {
    from: usize,
    left: usize,
    is_done: bool,
}

impl Between for Cut {
    fn pass(&mut self, from: usize, data: Vec<u8>, to: &mut End) {
        if from != self.from {
            return to.arrive(&data);
        }
        if self.is_done {
            return;
        }
        if self.left >= data.len() {
            self.left -= data.len();
            return to.arrive(&data);
        }
        to.arrive(&data[..self.left]);
        to.cut();
        self.is_done = true;
    }

    fn is_cut(&self, from: usize) -> bool {
        from == self.from && self.is_done
    }
}

fn cut_anywhere(strict: bool) {
    at_every_position(|config, from, left| {
        let mut between = Cut { from, left, is_done: false };
        let (client, server) = talk(config, strict, &mut between);
        if !between.is_done {
            // A signature was shorter this time.
            return;
        }
        let (end, data) = if from == 0 { (&server, QUESTION) } else { (&client, ANSWER) };
        // There is nothing between no data and all of it: it is one record.
        let is_whole = end.received == data;
        assert!(is_whole || end.received.is_empty());
        match &end.state {
            State::Ended => assert!(!strict, "it was cut off"),
            State::Failed(error) => match error.kind() {
                io::ErrorKind::ConnectionReset => assert!(end.received.is_empty(), "the handshake was not done"),
                io::ErrorKind::UnexpectedEof => assert!(strict),
                _ => panic!("{error:?}"),
            },
            state => panic!("an end that is none: {state:?}"),
        }
    });
}

/// TL-09: an end of file within the handshake is an error of it, wherever it comes.
/// TL-33: behind the handshake it is one as a `close_notify` is; what came before it is delivered.
#[test]
fn an_exchange_may_end_anywhere() {
    cut_anywhere(false);
}

/// TL-33: where a `close_notify` is asked for, an end of file without it is an error; what came before it is delivered.
#[test]
fn an_exchange_that_ends_anywhere_is_cut_off() {
    cut_anywhere(true);
}

/// One byte is another.
struct Flip {
    from: usize,
    left: usize,
    mask: u8,
}

impl Between for Flip {
    fn pass(&mut self, from: usize, mut data: Vec<u8>, to: &mut End) {
        if from == self.from {
            match data.get_mut(self.left) {
                Some(byte) => {
                    *byte ^= self.mask;
                    self.from = 2;
                }
                None => self.left -= data.len(),
            }
        }
        to.arrive(&data);
    }
}

/// TL-20: one byte that is changed is an error, or has no meaning; what is delivered is what was sent.
#[test]
fn any_byte_may_be_another() {
    at_every_position(|config, from, left| {
        let mask = 1 << (left % 8);
        let (client, server) = talk(config, true, &mut Flip { from, left, mask });
        for (end, data) in [(&server, QUESTION), (&client, ANSWER)] {
            assert!(end.received == data || end.received.is_empty(), "something else was delivered");
            match &end.state {
                State::Ended => assert_eq!(end.received.is_empty(), server.received.is_empty()),
                State::Failed(_) => {}
                state => panic!("an end that is none: {state:?}"),
            }
        }
        let (end, other) = if from == 0 { (&server, &client) } else { (&client, &server) };
        if matches!(end.state, State::Ended) {
            // Nobody has noticed: it was a byte without a meaning.
            assert!(matches!(other.state, State::Ended));
            assert_whole(&client, &server);
        }
    });
}

#[test]
fn what_comes_behind_the_end_counts_for_nothing() {
    for config in plain_configs() {
        for piece in [1, 7, 1 << 20] {
            let (mut client, mut server) = joined(config);
            client.write(QUESTION, 1);
            client.close();
            let mut records = std::mem::take(&mut client.sent);
            let end = records.len();
            records.extend_from_slice(b"\x17\x03\x03\x00\x05hello and more");
            records.extend_from_slice(&[0; 5000]);
            server.is_reading = false;
            records.chunks(piece).for_each(|piece| server.arrive(piece));
            server.is_reading = true;
            server.read();
            assert_eq!(server.received, QUESTION);
            assert!(matches!(server.state, State::Ended), "{:?}", server.state);
            server.engine.keep(&records[end..]);
            assert_eq!(server.engine.waiting.capacity(), 0, "nothing is kept that nobody will have");
            // It may still speak itself.
            server.write(ANSWER, 1);
            carry(&mut client, &mut server);
            assert_eq!(client.received, ANSWER);
        }
    }
}

/// TL-29: data that crosses our own close is none that is wrong.
#[test]
fn data_comes_behind_our_own_close() {
    for config in plain_configs() {
        let (mut client, mut server) = joined(config);
        client.close();
        server.write(ANSWER, 1);
        server.close();
        carry(&mut client, &mut server);
        assert_eq!(client.received, ANSWER);
        assert!(matches!(client.state, State::Ended), "{:?}", client.state);
    }
}

#[test]
fn bad_records_behind_our_own_close_are_an_error() {
    for config in plain_configs() {
        let (mut client, mut server) = joined(config);
        client.close();
        let mut record = b"\x17\x03\x03\x00\x20".to_vec();
        record.extend_from_slice(&[7; 32]);
        client.arrive(&record);
        client.arrive(&record);
        let State::Failed(error) = &client.state else { panic!("{:?}", client.state) };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        carry(&mut client, &mut server);
        assert!(matches!(server.state, State::Ended), "{:?}", server.state);
    }
}

#[test]
fn data_in_front_of_a_bad_record_is_delivered() {
    for config in plain_configs() {
        let (mut client, mut server) = joined(config);
        client.write(QUESTION, 1);
        let mut records = std::mem::take(&mut client.sent);
        records.extend_from_slice(b"\x17\x03\x03\x00\x20");
        records.extend_from_slice(&[7; 32]);
        server.arrive(&records);
        assert_eq!(server.received, QUESTION);
        let State::Failed(error) = &server.state else { panic!("{:?}", server.state) };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // Why, the peer hears.
        carry(&mut client, &mut server);
        let State::Failed(error) = &client.state else { panic!("{:?}", client.state) };
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
}

/// The last of the handshake, data, and a bad record at once: it was a connection, and then it has failed.
#[test]
fn a_bad_record_behind_the_handshake_is_none_of_the_handshake() {
    for config in plain_configs() {
        let (mut client, mut server) = pair(&config.0, &config.1, true);
        while !client.is_open() {
            server.arrive(&std::mem::take(&mut client.sent));
            client.arrive(&std::mem::take(&mut server.sent));
        }
        client.write(QUESTION, 1);
        let mut records = std::mem::take(&mut client.sent);
        records.extend_from_slice(b"\x17\x03\x03\x00\x20");
        records.extend_from_slice(&[7; 32]);
        let mut rest = &records[..];
        server.engine.take(&mut rest);
        assert!(server.engine.handshake().expect("the handshake is done"));
        server.state = State::Open;
        server.arrive(rest);
        assert_eq!(server.received, QUESTION);
        assert!(matches!(server.state, State::Failed(_)), "{:?}", server.state);
    }
}

/// A handshake message that nothing has room for, in the smallest of pieces.
#[test]
fn a_handshake_message_that_is_too_long_is_an_error() {
    let start = [1_u8, 0, 0xff, 0xf0].into_iter();
    let records: Vec<u8> = start.chain([0; 20_000]).flat_map(|byte| [0x16, 3, 1, 0, 1, byte]).collect();
    for (_, server) in plain_configs() {
        for piece in [1, 4096, records.len()] {
            let mut server = End::new(ServerConnection::new(server.clone()).unwrap().into(), true);
            records.chunks(piece).for_each(|piece| server.arrive(piece));
            let State::Failed(error) = &server.state else { panic!("{:?}", server.state) };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("HandshakePayloadTooLarge"), "{error}");
            assert_eq!(server.engine.waiting(), 0, "nothing is kept");
        }
    }
}

#[test]
fn keys_are_changed_by_both_sides_at_any_time() {
    let (mut client, mut server) = joined(&configs()[1]);
    for round in 1..=50 {
        for end in [&mut client, &mut server] {
            end.engine.connection.refresh_traffic_keys().unwrap();
            end.write(QUESTION, 1);
        }
        carry(&mut client, &mut server);
        assert_eq!(client.received.len(), round * QUESTION.len(), "{:?}", client.state);
        assert_eq!(server.received.len(), round * QUESTION.len(), "{:?}", server.state);
    }
}

/// rustls takes what it is given then, and drops it.
#[test]
fn what_cannot_be_encrypted_is_an_error() {
    for data in [b"?", QUESTION, &[0; 20_000]] {
        cannot_be_encrypted(data);
    }
}

fn cannot_be_encrypted(data: &[u8]) {
    let (client, server) = config_with(few_records(), &version::TLS12);
    let (mut client, mut server) = joined(&(Arc::new(client), Arc::new(server)));
    let mut written = 0;
    while client.write(data, 1) {
        written += data.len();
        assert!(written < 100 * data.len(), "the keys are not used up");
    }
    assert!(written > 0);
    let State::Failed(error) = &client.state else { panic!("{:?}", client.state) };
    assert!(error.to_string().contains("used up"), "{error}");
    server.arrive(&std::mem::take(&mut client.sent));
    assert_eq!(server.received.len(), written, "what was written before has arrived");
}

/// What a client sends at once when it comes back is delivered, behind the handshake, and before the rest.
#[test]
fn early_data_is_not_lost() {
    let (mut client_config, mut server_config) = config_with(provider(), &version::TLS13);
    client_config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    client_config.enable_early_data = true;
    server_config.max_early_data_size = 1000;
    let config = (Arc::new(client_config), Arc::new(server_config));
    // The ticket comes with the first of these.
    drop(joined(&config));
    let mut client = rustls::ClientConnection::new(config.0.clone(), "localhost".try_into().unwrap()).unwrap();
    io::Write::write_all(&mut client.early_data().expect("there is a ticket"), QUESTION).unwrap();
    let (mut client, mut server) = (End::new(client.into(), true), pair(&config.0, &config.1, true).1);
    server.room = 5;
    client.go_on();
    server.arrive(&std::mem::take(&mut client.sent));
    assert!(server.received.is_empty(), "nobody knows yet whether it is somebody's second try");
    client.arrive(&std::mem::take(&mut server.sent));
    let Connection::Client(connection) = &client.engine.connection else { unreachable!() };
    assert!(connection.is_early_data_accepted());
    client.write(ANSWER, 1);
    carry(&mut client, &mut server);
    assert_eq!(server.received, [QUESTION, ANSWER].concat());
    assert!(server.is_open(), "{:?}", server.state);
}

/// TL-01: both sides know what they have agreed on.
#[test]
fn what_was_agreed_on_is_known() {
    for (config, version) in configs().iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3].repeat(2)) {
        let (client, server) = joined(config);
        assert_eq!(client.engine.connection.protocol_version(), Some(version));
        assert_eq!(server.engine.info().unwrap().server_name.as_deref(), Some("localhost"));
        assert_eq!(client.engine.info().unwrap().peer_certificates.len(), 1);
        assert_eq!(client.engine.info().unwrap().version, server.engine.info().unwrap().version);
        assert_eq!(client.engine.info().unwrap().cipher_suite, server.engine.info().unwrap().cipher_suite);
    }
}

/// Records are as large as they may be.
#[test]
fn data_goes_in_large_records() {
    for config in plain_configs() {
        let (mut client, mut server) = joined(config);
        let data = vec![7; TLS_SEND_SIZE];
        client.write(&data, 1);
        let overhead = client.sent.len() - data.len();
        assert!(overhead <= data.len().div_ceil(16384) * 32, "{overhead} bytes of overhead");
        carry(&mut client, &mut server);
        assert!(server.received == data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_arrives_is_what_was_sent(settings: u8, room: u8, steps in vec(any::<u8>(), 0..150)) {
        let script = [vec![settings, room], steps].concat();
        run(configs(), &script);
    }

    /// Whatever is carried as it was sent arrives.
    #[test]
    fn what_nobody_meddles_with_arrives(
        settings: u8,
        room: u8,
        steps in vec((prop::sample::select(vec![0_u8, 1, 2, 3, 4, 5, 6, 7, 8, 9]), any::<bool>(), any::<u8>()), 0..80),
    ) {
        let steps = steps.into_iter().flat_map(|(step, by_server, size)| {
            let size = (1..=5).contains(&step).then_some(size);
            std::iter::once(step | u8::from(by_server) << 7).chain(size)
        });
        let script: Vec<u8> = [settings, room].into_iter().chain(steps).collect();
        run(configs(), &script);
    }

    #[test]
    fn whatever_a_stranger_says_is_an_error(input in vec(any::<u8>(), 0..300)) {
        run_server(configs(), &input);
    }
}

/// What the fuzzer has found worth keeping.
#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    if !corpus.exists() {
        // It is no part of the package.
        return;
    }
    for (target, run) in [("tls_engine", run as fn(&[Config], &[u8])), ("tls_server", run_server)] {
        let mut inputs: Vec<_> = corpus.join(target).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            // The name of the one that fails is the last one.
            println!("{}", input.display());
            run(configs(), &std::fs::read(input).unwrap());
        }
    }
}
