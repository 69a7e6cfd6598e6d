//! What a reader gives does not depend on the pieces in which the bytes arrive (behaviours SR-02 to SR-07, SR-10).
//!
//! A reader is fed by hand, each piece when it waits for one, and held against a model that sees the whole stream.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use roundelay::{IncompleteRead, LimitOverrun, ReadError, StreamReader};

/// One call of a reader.
#[derive(Clone, Debug)]
enum Call {
    Until(Vec<Vec<u8>>),
    Line,
    Exactly(usize),
    Read(usize),
    ToEnd,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Bytes(Vec<u8>),
    Incomplete(IncompleteRead),
    Overrun(LimitOverrun),
}

impl From<Result<Vec<u8>, ReadError>> for Outcome {
    fn from(result: Result<Vec<u8>, ReadError>) -> Self {
        match result {
            Ok(bytes) => Self::Bytes(bytes),
            Err(ReadError::Incomplete(error)) => Self::Incomplete(error),
            Err(ReadError::Overrun(error)) => Self::Overrun(error),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn make(reader: &mut StreamReader, call: &Call) -> Outcome {
    match call {
        Call::Until(separators) => reader.readuntil(separators.clone()).await.into(),
        Call::Line => reader.readline().await.into(),
        Call::Exactly(n) => reader.readexactly(*n).await.into(),
        Call::Read(n) => Outcome::Bytes(reader.read(*n).await.unwrap()),
        Call::ToEnd => Outcome::Bytes(reader.read_to_end().await.unwrap()),
    }
}

/// Whether a future is kept until it is ready, or dropped at each wait and made anew.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Patience {
    Waits,
    GivesUp,
}

/// A stream that arrives piece by piece.
struct Arriving<'a> {
    reader: StreamReader,
    pieces: std::slice::Iter<'a, &'a [u8]>,
    patience: Patience,
    /// How many bytes have arrived.
    arrived: usize,
}

impl<'a> Arriving<'a> {
    fn new(limit: usize, pieces: &'a [&'a [u8]], patience: Patience) -> Self {
        Self { reader: StreamReader::new(limit), pieces: pieces.iter(), patience, arrived: 0 }
    }

    /// Makes the call; each time it waits, the next piece arrives, and at last the end of the stream.
    fn call(&mut self, call: &Call) -> Outcome {
        let mut cx = Context::from_waker(Waker::noop());
        let feeder = self.reader.feeder();
        loop {
            let mut future = pin!(make(&mut self.reader, call));
            loop {
                if let Poll::Ready(outcome) = future.as_mut().poll(&mut cx) {
                    return outcome;
                }
                match self.pieces.next() {
                    Some(piece) => {
                        feeder.feed_data(piece);
                        self.arrived += piece.len();
                    }
                    None => feeder.feed_eof(),
                }
                if self.patience == Patience::GivesUp {
                    break;
                }
            }
        }
    }
}

/// What is known of an overrun beforehand, whatever the pieces.
fn is_overrun_within(outcome: &Outcome, limit: usize, begin: Option<usize>) -> bool {
    match outcome {
        Outcome::Overrun(LimitOverrun { consumed, found: true }) => Some(*consumed) == begin,
        // So many bytes can be skipped without skipping a separator.
        Outcome::Overrun(LimitOverrun { consumed, found: false }) => {
            *consumed > limit && begin.is_none_or(|begin| *consumed <= begin)
        }
        _ => false,
    }
}

/// The first separator to end, and of several the shortest: where it begins and where it ends.
fn first_match(data: &[u8], separators: &[Vec<u8>]) -> Option<(usize, usize)> {
    (1..=data.len()).find_map(|end| {
        let ending = separators.iter().filter(|separator| data[..end].ends_with(separator));
        ending.map(Vec::len).min().map(|len| (end - len, end))
    })
}

/// Makes the calls on the stream in these pieces, and holds each outcome against the stream as a whole.
fn check(stream: &[u8], cuts: &[usize], limit: usize, calls: &[Call], patience: Patience) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
    let mut arriving = Arriving::new(limit, &pieces, patience);
    let mut position = 0;
    for call in calls {
        let outcome = arriving.call(call);
        let rest = &stream[position..];
        let about = format!("{call:?} at {position} of {stream:?} in {pieces:?}, limit {limit}: {outcome:?}");
        let until = |separators: &[Vec<u8>]| {
            let longest = separators.iter().map(Vec::len).max().unwrap();
            match first_match(rest, separators) {
                Some((begin, end)) if begin <= limit => (Some(Outcome::Bytes(rest[..end].to_vec())), end, None),
                Some((begin, _)) => (None, 0, Some(begin)),
                None if rest.len() + 1 > limit + longest => (None, 0, None),
                None => {
                    let incomplete = IncompleteRead { partial: rest.to_vec(), expected: None };
                    (Some(Outcome::Incomplete(incomplete)), rest.len(), None)
                }
            }
        };
        match call {
            Call::Until(separators) => {
                let (expected, read, begin) = until(separators);
                match expected {
                    Some(expected) => assert_eq!(outcome, expected, "{about}"),
                    None => assert!(is_overrun_within(&outcome, limit, begin), "{about}"),
                }
                position += read;
            }
            Call::Line => {
                let (expected, read, begin) = until(&[b"\n".to_vec()]);
                match (expected, &outcome) {
                    (Some(Outcome::Incomplete(incomplete)), _) => {
                        assert_eq!(outcome, Outcome::Bytes(incomplete.partial), "{about}");
                        position += read;
                    }
                    (Some(expected), _) => {
                        assert_eq!(outcome, expected, "{about}");
                        position += read;
                    }
                    (None, Outcome::Overrun(overrun)) => {
                        assert!(is_overrun_within(&outcome, limit, begin), "{about}");
                        // The line is dropped: all of it if its end has arrived, else as far as it has arrived.
                        position = match begin {
                            Some(begin) if overrun.found => position + begin + 1,
                            _ => arriving.arrived,
                        };
                    }
                    (None, _) => panic!("{about}"),
                }
            }
            Call::Exactly(n) if rest.len() >= *n => {
                assert_eq!(outcome, Outcome::Bytes(rest[..*n].to_vec()), "{about}");
                position += n;
            }
            Call::Exactly(n) => {
                let incomplete = IncompleteRead { partial: rest.to_vec(), expected: Some(*n) };
                assert_eq!(outcome, Outcome::Incomplete(incomplete), "{about}");
                position = stream.len();
            }
            Call::Read(n) => {
                let Outcome::Bytes(bytes) = outcome else { panic!("{about}") };
                assert!(rest.starts_with(&bytes) && bytes.len() <= *n, "{about}");
                assert_eq!(bytes.is_empty(), *n == 0 || rest.is_empty(), "{about}");
                position += bytes.len();
            }
            Call::ToEnd => {
                assert_eq!(outcome, Outcome::Bytes(rest.to_vec()), "{about}");
                position = stream.len();
            }
        }
    }
    let rest = arriving.call(&Call::ToEnd);
    assert_eq!(rest, Outcome::Bytes(stream[position..].to_vec()), "nothing is lost and nothing comes twice");
    assert!(arriving.reader.at_eof());
}

/// Streams that consist of little else than separators and beginnings of them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(b"abX\n".to_vec()), 0..40)
}

fn separators() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let separator = proptest::collection::vec(proptest::sample::select(b"abX".to_vec()), 1..4);
    proptest::collection::vec(separator, 1..4)
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => separators().prop_map(Call::Until),
        4 => Just(Call::Line),
        2 => (0_usize..12).prop_map(Call::Exactly),
        2 => (0_usize..12).prop_map(Call::Read),
        1 => Just(Call::ToEnd),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// SR-05: whatever the calls and however the stream is cut, each call gives what the stream as a whole says; bytes
    /// are neither lost nor repeated, also when futures are dropped while they wait.
    #[test]
    fn the_pieces_do_not_matter(
        stream in stream(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
        limit in 1_usize..12,
        calls in proptest::collection::vec(call(), 1..10),
        gives_up in any::<bool>(),
    ) {
        let patience = if gives_up { Patience::GivesUp } else { Patience::Waits };
        check(&stream, &cuts, limit, &calls, patience);
    }
}

/// SR-05: a stream cut at every position, and at every two, and into single bytes.
#[test]
fn cut_everywhere() {
    let until = |separators: &[&str]| Call::Until(separators.iter().map(|one| one.as_bytes().to_vec()).collect());
    let scripts: [(&str, Vec<Call>); 6] = [
        ("one\ntwo\n\nfour", vec![Call::Line; 5]),
        ("aaXYaaXXYaaX", vec![until(&["XY"]); 4]),
        ("aabaabaaab", vec![until(&["aab"]); 4]),
        ("k: v\r\nk: v\r\n\r\nbody", vec![until(&["\r\n\r\n"]), Call::Exactly(4), Call::Read(1)]),
        ("a;b,c;;d", vec![until(&[";", ",", ";;"]); 6]),
        ("longest line of all\nab\n", vec![Call::Line, Call::Line, Call::Line, Call::Line]),
    ];
    for (stream, calls) in &scripts {
        let stream = stream.as_bytes();
        for limit in [1, 2, 3, 5, 8, 1024] {
            for patience in [Patience::Waits, Patience::GivesUp] {
                let everywhere: Vec<usize> = (0..stream.len()).collect();
                check(stream, &everywhere, limit, calls, patience);
                for first in 0..=stream.len() {
                    for second in first..=stream.len() {
                        check(stream, &[first, second], limit, calls, patience);
                    }
                }
            }
        }
    }
}
