//! What carries the transport above.

use std::io::{self, IoSlice};

use crate::constants::TLS_SEND_SIZE;
use crate::protocol::{ExtraInfo, TransportId};
use crate::tls::transport::{Ending, Phase, Standing, TlsLayer};
use crate::transport::stream::{Closing, Layer};

/// How many of the pieces are encrypted together: the first one at least.
fn in_one_go(data: &[IoSlice<'_>]) -> usize {
    let mut len = 0;
    let fitting = data.iter().take_while(|piece| {
        len += piece.len();
        len <= TLS_SEND_SIZE
    });
    fitting.count().max(1)
}

impl Layer for TlsLayer {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.phase.get() != Phase::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let received = self.engine.borrow_mut().recv(buffer);
        self.let_go_if_little();
        // An answer to a change of keys, or an alert.
        self.flush();
        received
    }

    fn is_drained(&self) -> bool {
        self.engine.borrow().is_drained()
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_pieces(data.len(), |engine, sent| engine.send(&data[sent..data.len().min(sent + TLS_SEND_SIZE)]))
    }

    fn send_vectored(&self, mut data: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        while !data.is_empty() {
            let (these, rest) = data.split_at(in_one_go(data));
            let len = these.iter().map(|piece| piece.len()).sum();
            let result = match these {
                [only] => self.send(only),
                _ => self.send_pieces(len, |engine, _| engine.send_vectored(these)),
            };
            let n = match result {
                Ok(n) => n,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            };
            sent += n;
            if n < len {
                break;
            }
            data = rest;
        }
        Ok(sent)
    }

    fn settle(&self, ends: bool) -> io::Result<()> {
        if ends && self.ending.get() == Ending::Alone {
            return self.end_alone();
        }
        if ends && !self.is_full.get() && self.phase.get() == Phase::Open {
            self.engine.borrow_mut().close();
            self.phase.set(Phase::Ending);
        }
        if self.phase.get() == Phase::Ending && self.discard_received()? && !self.is_full.get() {
            self.disarm();
            self.phase.set(Phase::Ended);
        }
        let is_settled = if ends { self.phase.get() == Phase::Ended } else { !self.is_full.get() };
        if is_settled { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn is_flushed(&self) -> bool {
        !self.is_full.get()
    }

    fn is_closed(&self) -> bool {
        self.phase.get() == Phase::Ended
    }

    fn keeps(&self) -> bool {
        false
    }

    fn half_closes(&self) -> bool {
        self.ending.get() == Ending::Alone
    }

    fn allow_half_close(&self) {
        self.ending.set(Ending::Alone);
    }

    fn unfit_to_carry(&self) -> Option<&'static str> {
        matches!(self.phase.get(), Phase::New | Phase::Handshake).then_some("a TLS handshake is in progress")
    }

    fn closing(&self) -> Closing {
        self.ending.set(Ending::Both);
        match (self.phase.get(), self.standing) {
            // In a loop that is being closed nothing waits for an end: what keeps this was dropped by that.
            _ if !self.core.is_open() => Closing::Abort,
            // There is nobody to say goodbye to yet.
            (Phase::New | Phase::Handshake, Standing::New) => Closing::Discard,
            (Phase::New | Phase::Handshake, Standing::Known { .. }) => Closing::Abort,
            _ => {
                self.await_end();
                // What is wrong with it is found again when it is settled.
                let _ = self.discard_received();
                Closing::Settle
            }
        }
    }

    fn lost(&self, error: Option<&io::Error>) {
        self.disarm();
        self.leave_lower(error);
        let phase = self.phase.replace(Phase::Lost);
        if matches!(phase, Phase::New | Phase::Handshake) {
            let text = "the connection was aborted during the TLS handshake";
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
            self.tell_outcome(Err(error));
        }
    }

    fn leave(&self, _: TransportId) {
        self.lost(None);
        drop(self.carrier.take());
    }

    fn extra_info(&self) -> ExtraInfo {
        // Nothing is borrowed while the stream below is asked.
        let carrier = self.carrier.borrow().clone();
        let below = carrier.map(|carrier| carrier.extra_info()).unwrap_or_default();
        let tls = self.engine.try_borrow().ok().and_then(|engine| engine.info());
        ExtraInfo { tls, ..below }
    }

    fn is_closing(&self) -> bool {
        self.is_up() && self.lower().is_none_or(|lower| lower.is_closing())
    }
}
