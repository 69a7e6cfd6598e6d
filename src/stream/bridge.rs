//! From protocols to streams and back, on a connection that stands.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::constants::STREAM_LIMIT;
use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::executor::required_loop;
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::stream::protocol::StreamProtocol;
use crate::stream::reader::StreamReader;
use crate::stream::writer::StreamWriter;

impl Transport {
    /// Goes on with streams in the place of a protocol, which is let go of: the two halves of a stream over this
    /// connection, with a limit of 64 KiB. [`TransportStream::new`](crate::TransportStream::new) gives them as one.
    ///
    /// May be called from anywhere, also from within a callback of the protocol (`transport.clone().into_stream()`), and
    /// takes effect when that returns. The reader gets first what the protocol gives back by [`unread`](Self::unread),
    /// whether before or after this call, and then what arrives; also an end of file that the protocol was told of. Reading
    /// goes on if it was paused: from now on the reader sees to that. When both halves are dropped, the connection is
    /// closed.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the connection is gone.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    ///
    /// ```
    /// use roundelay::{LoopFuture, Protocol, StreamReader, StreamWriter, Transport};
    ///
    /// /// Takes the first byte, which says what is spoken, and leaves the rest to a task.
    /// struct Choose(LoopFuture<(u8, StreamReader, StreamWriter)>);
    ///
    /// impl Protocol for Choose {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         transport.unread(&data[1..]);
    ///         let (reader, writer) = transport.clone().into_stream().unwrap();
    ///         self.0.set_result((data[0], reader, writer)).unwrap();
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let server = roundelay::start_server(
    ///         async |_, mut writer| {
    ///             writer.write(b"!line\n");
    ///             writer.close();
    ///         },
    ///         ("127.0.0.1", 0),
    ///     )
    ///     .await?;
    ///     let chosen = el.create_future();
    ///     let choose = Choose(chosen.clone());
    ///     el.create_connection(move || choose, server.local_addrs()[0]).await?;
    ///     let (kind, mut reader, mut writer) = chosen.take().await.unwrap();
    ///     assert_eq!((kind, reader.readline().await?), (b'!', b"line\n".to_vec()));
    ///     writer.close();
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[doc(alias = "StreamReaderProtocol")]
    #[track_caller]
    pub fn into_stream(self) -> io::Result<(StreamReader, StreamWriter)> {
        self.into_stream_with_limit(STREAM_LIMIT)
    }

    /// As [`into_stream`](Self::into_stream), with a limit of the reader's in bytes.
    ///
    /// # Errors
    ///
    /// As [`into_stream`](Self::into_stream); `InvalidInput` for a limit of zero.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn into_stream_with_limit(self, limit: usize) -> io::Result<(StreamReader, StreamWriter)> {
        const METHOD: &str = "Transport::into_stream";
        let el = required_loop(METHOD);
        if limit == 0 {
            return Err(invalid_input(format!("{METHOD}(): the limit must be above zero")));
        }
        if self.protocol().is_none() {
            let text = format!("{METHOD}(): the connection is gone");
            return Err(io::Error::new(io::ErrorKind::NotConnected, text));
        }
        let protocol = StreamProtocol::new(&el, limit, None);
        protocol.attach(&self);
        let halves = protocol.halves(&self);
        self.start_protocol_with(protocol.into(), &[]);
        Ok(halves)
    }
}

impl StreamWriter {
    /// Goes on with a protocol in the place of streams: `factory` is called here and now, and its protocol hears of the
    /// connection from its beginning.
    ///
    /// `connection_made` is called, in a turn of its own, although the connection has stood for a while; asyncio's
    /// `set_protocol` does not do so, but what a factory makes expects it. Then the protocol gets what has arrived and was not
    /// read, then what arrives. What the reader knows of is told, too: an end of file by `eof_received`, a connection that
    /// is lost by `connection_lost`, with the error that ended it. What was written is sent, and debug mode warns of nothing:
    /// the halves are not dropped but used. If the loop is closed, nothing is told.
    ///
    /// # Errors
    ///
    /// [`UnrelatedHalves`] if the reader is not of the same connection. Both are in it, and the factory was not called.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// struct Count(usize);
    /// impl Protocol for Count {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) {
    ///         self.0 += data.len();
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let server = roundelay::start_server(
    ///         async |_, mut writer| {
    ///             writer.write(b"header\nbody");
    ///             writer.close();
    ///         },
    ///         ("127.0.0.1", 0),
    ///     )
    ///     .await?;
    ///     let (mut reader, writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    ///     assert_eq!(reader.readline().await?, b"header\n");
    ///     let (transport, count) = writer.into_protocol(reader, || Count(0)).unwrap();
    ///     while transport.protocol().is_some() {
    ///         roundelay::yield_now().await;
    ///     }
    ///     assert_eq!(count.with(|count| count.0), 4);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn into_protocol<F, P>(
        self,
        reader: StreamReader,
        factory: F,
    ) -> Result<(Transport, ProtocolRef<P>), UnrelatedHalves>
    where
        F: FnOnce() -> P,
        P: Protocol,
    {
        if !reader.connection().is_some_and(|connection| Rc::ptr_eq(connection, self.connection())) {
            return Err(UnrelatedHalves { reader, writer: self, method: "StreamWriter::into_protocol" });
        }
        let protocol = ProtocolRef::new(factory());
        let connection = self.connection().clone();
        let transport = connection.transport();
        let ended = self.ended().clone();
        let (unread, resumed) = reader.release();
        connection.hand_over();
        if transport.protocol().is_some() {
            transport.start_protocol_with(protocol.clone().into(), &unread);
            if let Some(transport) = resumed {
                transport.resume_reading();
            }
        } else if connection.el().core.is_open() {
            say_farewell(connection.el(), &transport, &protocol, unread, ended.error());
        }
        Ok((transport, protocol))
    }
}

/// What calls a protocol's callback.
type Call<P> = Box<dyn FnOnce(&mut P, &Transport)>;

/// Tells a protocol of a connection that is gone, each in a callback of its own, as a transport would.
fn say_farewell<P: Protocol>(
    el: &EventLoop,
    transport: &Transport,
    protocol: &ProtocolRef<P>,
    unread: Vec<u8>,
    error: Option<io::Error>,
) {
    let tell = |call: Call<P>| {
        let (transport, protocol) = (transport.clone(), protocol.clone());
        drop(el.call_soon(move || protocol.with(|protocol| call(protocol, &transport))));
    };
    tell(Box::new(|protocol, transport| protocol.connection_made(transport)));
    if !unread.is_empty() {
        tell(Box::new(move |protocol, transport| protocol.data_received(transport, &unread)));
    }
    tell(Box::new(move |protocol, transport| protocol.connection_lost(transport, error)));
}

/// The halves given to [`StreamWriter::into_protocol`] or [`StreamReader::reunite`] are not of the same connection. They are
/// here again.
#[derive(Debug)]
pub struct UnrelatedHalves<R = StreamReader, W = StreamWriter> {
    /// The reading half.
    pub reader: R,
    /// The writing half.
    pub writer: W,
    /// Whom they were given to.
    pub(super) method: &'static str,
}

impl<R, W> fmt::Display for UnrelatedHalves<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(): the reader is not of the writer's connection", self.method)
    }
}

impl<R: fmt::Debug, W: fmt::Debug> std::error::Error for UnrelatedHalves<R, W> {}

impl<R, W> From<UnrelatedHalves<R, W>> for io::Error {
    /// The halves are dropped.
    fn from(unrelated: UnrelatedHalves<R, W>) -> Self {
        invalid_input(unrelated.to_string())
    }
}
