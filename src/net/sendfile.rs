//! Files to transports.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::{InvalidState, SendfileNotAvailable};
use crate::event_loop::EventLoop;
use crate::os::fd::AsFd;
use crate::protocol::{FileSink, Transport, WriteReady};
use crate::sock::file::{Call, Sink};
use crate::sock::sendfile::Sendfile;

impl EventLoop {
    /// Sends a file over a transport, behind what was written before, and gives the number of bytes.
    ///
    /// The system's `sendfile` does it where it can, without a copy: on Linux, for regular files and block devices, on
    /// sockets. Elsewhere the file is read on a thread of the default executor and written, or [`fallback(false)`] makes
    /// that an error. The file is a `&File` or whatever has a descriptor; it may be dropped meanwhile. Pages that are not
    /// in memory are read by the executor first, so that the loop does not wait for a disk; at most 4 MiB are sent
    /// before others have their turn.
    ///
    /// It begins at [`offset`], which is zero unless it is set, and ends after [`count`] bytes or at the end of the file.
    /// Afterwards the file's position is `offset` and what was sent, also after an error and where the future was dropped:
    /// so it tells how far it came. Of a pipe or another device what was read and could not be sent is lost.
    ///
    /// Until the file is sent, whatever is written otherwise is refused, and reported to the exception handler; nothing is
    /// received; `close` and `write_eof` wait for it as for what is queued, `abort` does not. Dropping the future gives the
    /// rest of the file up, and the transport is as it was: what the peer makes of half a file is a matter of the protocol.
    /// Only an implementation of [`StreamTransport`](crate::StreamTransport) of your own is written to as by anybody: it keeps
    /// nobody away, and closing it ends the sending.
    ///
    /// [`offset`]: Sendfile::offset
    /// [`count`]: Sendfile::count
    /// [`fallback(false)`]: Sendfile::fallback
    ///
    /// # Errors
    ///
    /// The file's, and the connection's: those end it, and its protocol hears of them, too.
    /// [`InvalidState`] as an `io::Error` if the transport is closing, after `write_eof`, and while another file is sent.
    /// [`SendfileNotAvailable`] as an `io::Error`, where there is to be no fallback; `Unsupported` over the reading end of a
    /// pipe. `InvalidInput` for a count of zero, for an offset where there are no places, and where it is awaited in another
    /// loop than the transport's; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    /// use std::fs::File;
    ///
    /// struct Serve;
    /// impl Protocol for Serve {
    ///     fn connection_made(&mut self, transport: &Transport) {
    ///         let transport = transport.clone();
    ///         roundelay::spawn(async move {
    ///             let el = roundelay::get_running_loop().unwrap();
    ///             transport.write(b"here it is: ");
    ///             el.sendfile(&transport, File::open("Cargo.toml").unwrap()).count(9).await.unwrap();
    ///             transport.close();
    ///         });
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let server = el.create_server(|| Serve, ("127.0.0.1", 0)).await?;
    ///     let (mut reader, _writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    ///     assert_eq!(reader.read_to_end().await?, b"here it is: [package]");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn sendfile(&self, transport: &Transport, file: impl AsFd) -> Sendfile<'static> {
        Sendfile::new(self, "sendfile", file, TransportSink { transport: transport.clone(), state: State::New })
    }
}

/// A transport that a file goes to.
struct TransportSink {
    transport: Transport,
    state: State,
}

enum State {
    New,
    /// The transport, one of the loop's own, keeps others away, until `end`.
    Own,
    /// It is written to, as by anybody else.
    Foreign {
        was_reading: bool,
        ready: Option<WriteReady>,
    },
}

impl Sink for TransportSink {
    fn begin(&mut self, method: &str) -> io::Result<()> {
        if let Some(sink) = self.transport.file_sink() {
            sink.begin(method)?;
            self.state = State::Own;
            return Ok(());
        }
        if self.transport.is_closing() {
            return Err(InvalidState::new(format!("EventLoop::{method}(): Transport is closing")).into());
        }
        let was_reading = self.transport.is_reading();
        // A transport that has no reading side would report it.
        if was_reading {
            self.transport.pause_reading();
        }
        self.state = State::Foreign { was_reading, ready: None };
        Ok(())
    }

    fn is_native(&self) -> bool {
        matches!(self.state, State::Own) && self.transport.file_sink().is_some_and(FileSink::is_native)
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, call: &mut Call<'_>) -> Poll<io::Result<usize>> {
        match self.transport.file_sink() {
            Some(sink) => sink.poll_call(cx, call),
            None => Poll::Ready(Err(SendfileNotAvailable::new("the transport has no socket").into())),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(sink) = self.transport.file_sink() {
            return sink.poll_send(cx, data);
        }
        if let State::Foreign { ready, .. } = &mut self.state {
            let waiting = ready.get_or_insert_with(|| self.transport.ready());
            let result = ready!(Pin::new(waiting).poll(cx));
            *ready = None;
            result?;
        }
        if self.transport.is_closing() {
            let text = "the transport was closed while a file was sent";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
        }
        self.transport.write(data);
        Poll::Ready(Ok(data.len()))
    }
}

impl Drop for TransportSink {
    fn drop(&mut self) {
        match &self.state {
            State::New => {}
            State::Own => {
                if let Some(sink) = self.transport.file_sink() {
                    sink.end();
                }
            }
            State::Foreign { was_reading, .. } => {
                if *was_reading {
                    self.transport.resume_reading();
                }
            }
        }
    }
}
