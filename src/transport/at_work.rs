//! What a transport is called where something that ran because of it is reported.

use std::fmt;

/// A transport, and its protocol at the time when this was made: at the end it may have none.
pub(crate) struct AtWork<T> {
    transport: T,
    /// The name of the protocol's type.
    protocol: Option<&'static str>,
}

impl<T> AtWork<T> {
    pub(crate) fn new(transport: T, protocol: Option<&'static str>) -> Self {
        Self { transport, protocol }
    }
}

impl<T: fmt::Debug> fmt::Debug for AtWork<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)?;
        match self.protocol {
            Some(protocol) => write!(f, " with <protocol {protocol}>"),
            None => Ok(()),
        }
    }
}
