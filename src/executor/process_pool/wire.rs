//! What is said between a pool and its workers.
//!
//! A worker begins with a greeting. After that the pool asks and the worker answers, one at a time:
//!
//! * a request is two lengths, of the name and of the arguments, each 8 bytes, then both of them;
//! * an answer is a byte that says what it is, a length of 8 bytes, and so many bytes.
//!
//! Both are the same program, so the order of bytes is the machine's. Values are MessagePack, structs with the names of
//! their fields.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::constants::WORKER_READ;

/// The first that a worker says. The last byte is the version.
pub(super) const GREETING: [u8; 8] = *b"rndlywk\x01";

/// A request's head.
pub(super) const REQUEST_HEAD: usize = 16;

/// An answer's head.
pub(super) const ANSWER_HEAD: usize = 9;

pub(super) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut deserializer = rmp_serde::Deserializer::new(bytes);
    let value = T::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    match deserializer.get_ref().len() {
        0 => Ok(value),
        left => Err(format!("{left} bytes more than were expected")),
    }
}

fn length(bytes: &[u8]) -> io::Result<usize> {
    let mut number = [0; 8];
    number.copy_from_slice(bytes);
    usize::try_from(u64::from_ne_bytes(number)).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What a worker is to do.
pub(super) struct Request {
    pub(super) name: String,
    pub(super) arguments: Vec<u8>,
}

impl Request {
    pub(super) fn head(&self) -> [u8; REQUEST_HEAD] {
        let mut head = [0; REQUEST_HEAD];
        head[..8].copy_from_slice(&(self.name.len() as u64).to_ne_bytes());
        head[8..].copy_from_slice(&(self.arguments.len() as u64).to_ne_bytes());
        head
    }

    /// Reads one; `None` at the end of the connection.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; REQUEST_HEAD];
        if let Err(error) = stream.read_exact(&mut head) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
        }
        let name = read_bytes(stream, length(&head[..8])?)?;
        let arguments = read_bytes(stream, length(&head[8..])?)?;
        let name = String::from_utf8(name).map_err(io::Error::other)?;
        Ok(Some(Self { name, arguments }))
    }
}

fn read_bytes(stream: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(WORKER_READ));
    stream.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What has come of it, with what comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The result.
    Done,
    /// Why the arguments cannot be read.
    BadArguments,
    /// Why the result cannot be sent.
    BadOutput,
    /// The panic's text.
    Panicked,
    /// The function's name.
    Unknown,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Done, Self::BadArguments, Self::BadOutput, Self::Panicked, Self::Unknown];
}

pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn new(outcome: Outcome, bytes: impl Into<Vec<u8>>) -> Self {
        Self { outcome, bytes: bytes.into() }
    }

    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let mut head = [0; ANSWER_HEAD];
        head[0] = self.outcome as u8;
        head[1..].copy_from_slice(&(self.bytes.len() as u64).to_ne_bytes());
        stream.write_all(&head)?;
        stream.write_all(&self.bytes)
    }

    /// What the head says, and how long the rest is.
    pub(super) fn head(head: [u8; ANSWER_HEAD]) -> io::Result<(Outcome, usize)> {
        let outcome = Outcome::ALL.get(usize::from(head[0])).ok_or(io::ErrorKind::InvalidData)?;
        Ok((*outcome, length(&head[1..])?))
    }
}
