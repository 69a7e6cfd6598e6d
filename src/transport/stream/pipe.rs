//! One end of a pipe, of a device or of a socket: a transport with one side missing, and with an end of its own.
//!
//! A reading end has nothing left to do once it is at its end, so the connection is lost then, whatever the protocol
//! wants. A writing end notices that its reader goes away, though it writes nothing.
//!
//! Some descriptors cannot be waited for. A device such as `/dev/null` never blocks, so it is read in one event after the
//! other. A file blocks, so it is called [`Elsewhere`]; the transport tries again when it is told to.

use std::io::{self, IoSlice};
use std::panic::Location;
use std::rc::Rc;

use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::{Core, LoopRegistration};
use crate::os::channel::{Channel, Kind, is_hung_up};
use crate::os::socket::would_block;
use crate::protocol::{AnyProtocol, BaseTransport};
use crate::reactor::slot::{Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::transport::lifecycle::{Lifecycle, Watch};
use crate::transport::stream::carrier::Carrier;
use crate::transport::stream::{Parts, SocketTransport};

/// Makes calls that would block, somewhere else. While one is under way, the answer is `WouldBlock`; when it is done,
/// [`SocketTransport::try_again`] is to be called, and the next call gives its result.
pub(crate) trait Elsewhere {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// How many bytes were written. After a `WouldBlock` the same bytes are given again, and more may follow them.
    fn send(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Which end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipeEnd {
    Read,
    Write(Watch),
}

/// Whether there is any use in asking to be told of a descriptor that the selector does not know.
pub(super) fn check_unwatched(kind: Kind, interest: Interest) -> io::Result<()> {
    if kind == Kind::Device && interest.writable {
        let text = "the device is not ready to write, and cannot be waited for";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// A transport over one end. With `try_first` it reads without waiting to be told that there is something.
pub(crate) fn open_pipe(
    core: &Rc<Core>,
    channel: Channel,
    end: PipeEnd,
    try_first: bool,
    protocol: AnyProtocol,
    created_at: &'static Location<'static>,
) -> io::Result<Rc<SocketTransport>> {
    let parts = Parts::nameless(protocol, Some(created_at));
    SocketTransport::open_end(core, channel, end, try_first, parts)
}

impl SocketTransport {
    fn open_end(
        core: &Rc<Core>,
        channel: Channel,
        end: PipeEnd,
        try_first: bool,
        parts: Parts,
    ) -> io::Result<Rc<Self>> {
        let (life, interest, mode) = match end {
            PipeEnd::Read => (Lifecycle::of_read_end(), Interest::READABLE, Mode::Edge),
            // An edge-triggered selector tells of half-closed peers, too, and of data once only.
            PipeEnd::Write(watch @ Watch::EndOfFile) => {
                (Lifecycle::of_write_end(watch), Interest::READABLE, Mode::Edge)
            }
            PipeEnd::Write(watch) => (Lifecycle::of_write_end(watch), Interest::NONE, Mode::Level),
        };
        let this = Self::make(core, life, false, parts);
        let listener = || Listener::Handler(this.clone() as Rc<dyn Handler>);
        let mut channel = channel;
        let registration = match channel.kind() {
            Kind::Elsewhere => LoopRegistration::parked(&core.reactor, &channel, Mode::Edge, listener()),
            _ => match LoopRegistration::new(&core.reactor, &channel, interest, mode, listener()) {
                // What `poll` takes for always ready, and `epoll` for a mistake.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    channel = channel.into_device();
                    LoopRegistration::parked(&core.reactor, &channel, Mode::Edge, listener())
                }
                registration => registration,
            },
        };
        if end == PipeEnd::Read && (try_first || !channel.is_pollable()) {
            this.readable.set(true);
            this.more.set(true);
        }
        this.keep(registration, channel)
    }

    /// Says who makes the calls.
    pub(crate) fn set_elsewhere(&self, elsewhere: Rc<dyn Elsewhere>) {
        self.rare(|rare| rare.elsewhere = Some(elsewhere));
    }

    /// A call that was made elsewhere is done. Only called with no callback on the stack.
    pub(crate) fn try_again(self: Rc<Self>) {
        self.on_ready(Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::HANGUP));
    }

    fn elsewhere(&self) -> io::Result<Rc<dyn Elsewhere>> {
        self.if_rare(|rare| rare.elsewhere.clone()).flatten().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Receives from what is no socket of the internet's; true where a short read means nothing.
    pub(super) fn receive_otherwise(&self, channel: &Channel, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        match channel.kind() {
            Kind::Elsewhere => self.elsewhere()?.receive(buffer).map(|n| (n, true)),
            _ => channel.receive(buffer),
        }
    }

    /// Sends to what is no socket.
    pub(super) fn send_otherwise(&self, channel: &Channel, data: &[IoSlice<'_>]) -> io::Result<usize> {
        match channel.kind() {
            Kind::Elsewhere => self.elsewhere()?.send(data),
            _ => channel.send(data),
        }
    }

    /// Whether it is one end of something.
    pub(super) fn is_pipe(&self) -> bool {
        let life = self.life.get();
        life.is_read_end() || life.write_end().is_some()
    }

    /// A reading end is at its end.
    pub(super) fn pipe_ended(&self) {
        if !self.update_life(Lifecycle::end_reading) {
            return;
        }
        self.close();
        if let Some(Err(payload)) = self.call(|protocol, transport| protocol.eof_received(transport)) {
            self.report("Fatal error: protocol.eof_received() call failed.", payload);
        }
    }

    /// A reading end has not read.
    pub(super) fn pipe_failed(&self, error: io::Error) {
        let is_device =
            self.io.borrow().as_ref().and_then(Carrier::channel).is_some_and(|channel| channel.kind() == Kind::Device);
        if would_block(&error) && !is_device {
            return;
        }
        // So a terminal says that nobody has its other side open.
        if is_hung_up(&error) {
            return self.pipe_ended();
        }
        self.report_error("Fatal read error on pipe transport", &error);
        self.fail(error);
    }

    /// A writing end was told of something: of its reader's end, perhaps.
    pub(super) fn look_for_reader(&self) {
        let Some(watch) = self.life.get().write_end() else { return };
        if !self.readable.take() || watch == Watch::No || self.life.get().is_lost() {
            return;
        }
        let gone = match self.io.borrow().as_ref().and_then(Carrier::channel) {
            Some(channel) => channel.is_reader_gone(watch == Watch::EndOfFile),
            None => return,
        };
        match gone {
            Ok(true) => self.reader_gone(),
            // Bytes that are for others. Nobody is to report them again and again.
            Ok(false) if !self.is_edge() => {
                self.update_life(Lifecycle::watch_less);
                self.update_interest();
            }
            Ok(false) => {}
            Err(error) => self.fail(error),
        }
    }

    fn reader_gone(&self) {
        if !self.queue.borrow().is_empty() || self.life.get().is_sending_file() {
            return self.fail(io::ErrorKind::BrokenPipe.into());
        }
        // For those who want to write.
        self.rare(|rare| rare.error_kind = Some(io::ErrorKind::BrokenPipe));
        self.lose(None);
    }

    /// The other direction was asked for.
    pub(super) fn refuse(&self, method: &str) {
        let text = self.wrong_direction(method);
        self.call_handler(ExceptionContext::new(text));
    }

    /// Refuses what a writing end cannot do: true if it is one. One that is closing does nothing.
    pub(super) fn refuse_reading(&self, method: &str) -> bool {
        let life = self.life.get();
        if life.write_end().is_some() && !life.is_closing() {
            self.refuse(method);
        }
        life.write_end().is_some()
    }

    /// The same for what a reading end cannot do.
    pub(super) fn refuse_writing(&self, method: &str) -> bool {
        let life = self.life.get();
        if life.is_read_end() && !life.is_closing() {
            self.refuse(method);
        }
        life.is_read_end()
    }

    /// The same where there is a result.
    #[inline]
    pub(super) fn check_writing(&self, method: &str) -> io::Result<()> {
        if self.life.get().is_read_end() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, self.wrong_direction(method)));
        }
        Ok(())
    }

    #[cold]
    fn wrong_direction(&self, method: &str) -> String {
        let end = if self.life.get().is_read_end() { "reading" } else { "writing" };
        format!("Transport::{method}(): the transport has the {end} end of a pipe")
    }
}
