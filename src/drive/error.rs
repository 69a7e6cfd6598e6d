//! Why a loop inside of another one is not driven any more.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::{LoopClosed, Stopped};

/// Why [`EventLoop::drive`](crate::EventLoop::drive) or [`drive_until`](crate::EventLoop::drive_until) has ended before it
/// was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum DriveError {
    /// The loop was stopped before the future was done.
    Stopped,
    /// The loop is closed.
    Closed,
    /// The host cannot wait for the loop, or the loop's selector has failed.
    Io(io::Error),
}

impl fmt::Display for DriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => Stopped.fmt(f),
            Self::Closed => LoopClosed.fmt(f),
            Self::Io(error) => write!(f, "the event loop cannot be driven: {error}"),
        }
    }
}

impl Error for DriveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stopped | Self::Closed => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for DriveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DriveError> for io::Error {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Stopped => Stopped.into(),
            DriveError::Closed => LoopClosed.into(),
            DriveError::Io(error) => error,
        }
    }
}
