//! What the plain datagram sockets have in common.

/// Receiving and sending, for a type with `shared: SharedSource<Socket>`, addresses of type `$address`, and a function that
/// makes one of what the system says.
macro_rules! impl_datagrams {
    ($name:ident, $address:ty, $of_system:expr) => {
        impl $name {
            /// Receives a datagram, and gives its length: of a connected socket from its peer only. What does not fit into
            /// `buf` is lost. May be dropped before: no datagram is lost. Several tasks may receive at once.
            ///
            /// # Errors
            ///
            /// The operating system's, on a connected socket also that an earlier datagram found nobody;
            /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
            pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                let n = self.shared.io_loop(Direction::Read, |socket| recv(socket, buf)).await?;
                Ok(self.received(n))
            }

            /// As [`recv`](Self::recv), and tells who has sent it.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
                let (n, from) = self.shared.io_loop(Direction::Read, |socket| recv_from(socket, buf)).await?;
                Ok((self.received(n), $of_system(from)?))
            }

            /// As [`recv`](Self::recv), and leaves the datagram for the next one who receives.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.shared.io_loop(Direction::Read, |socket| peek(socket, buf)).await
            }

            /// As [`recv_from`](Self::recv_from), and leaves the datagram for the next one who receives.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
                let (n, from) = self.shared.io_loop(Direction::Read, |socket| peek_from(socket, buf)).await?;
                Ok((n, $of_system(from)?))
            }

            /// Sends a datagram to the peer of a connected socket, and gives its length. May be dropped before: then nothing
            /// is sent. Several tasks may send at once.
            ///
            /// # Errors
            ///
            /// The operating system's: that the socket is not connected, that the datagram is too long, that an earlier one
            /// found nobody; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
            pub async fn send(&self, data: &[u8]) -> io::Result<usize> {
                let n = self.shared.io_loop(Direction::Write, |socket| send(socket, data)).await?;
                Ok(self.sent(n))
            }

            /// As [`recv`](Self::recv), if there is a datagram now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`recv`](Self::recv).
            pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                let received = self.shared.try_io(Direction::Read, |socket| recv(socket, buf));
                received.inspect(|&n| self.core().count_in(n))
            }

            /// As [`recv_from`](Self::recv_from), if there is a datagram now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`recv`](Self::recv).
            pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
                let (n, from) = self.shared.try_io(Direction::Read, |socket| recv_from(socket, buf))?;
                self.core().count_in(n);
                Ok((n, $of_system(from)?))
            }

            /// As [`send`](Self::send), if there is room now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`send`](Self::send).
            pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
                let sent = self.shared.try_io(Direction::Write, |socket| send(socket, data));
                sent.inspect(|&n| self.core().count_out(n))
            }

            /// As [`recv`](Self::recv), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                let polled = self.shared.poll_io(Direction::Read, cx, |socket| recv(socket, buf));
                polled.map_ok(|n| self.received(n))
            }

            /// As [`recv_from`](Self::recv_from), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, $address)>> {
                let polled = self.shared.poll_io(Direction::Read, cx, |socket| recv_from(socket, buf));
                let (n, from) = std::task::ready!(polled)?;
                Poll::Ready(Ok((self.received(n), $of_system(from)?)))
            }

            /// As [`send`](Self::send), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`send`](Self::send).
            pub fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                let polled = self.shared.poll_io(Direction::Write, cx, |socket| send(socket, data));
                polled.map_ok(|n| self.sent(n))
            }

            /// Waits until receiving is worth a try: for those who then call [`try_recv`](Self::try_recv).
            ///
            /// # Errors
            ///
            /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
            pub async fn readable(&self) -> io::Result<()> {
                self.shared.ready(Direction::Read).await
            }

            /// Waits until sending is worth a try: for those who then call [`try_send`](Self::try_send).
            ///
            /// # Errors
            ///
            /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
            pub async fn writable(&self) -> io::Result<()> {
                self.shared.ready(Direction::Write).await
            }

            /// The address that it is bound to.
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn local_addr(&self) -> io::Result<$address> {
                $of_system(Some(local_addr(self.socket())?))
            }

            /// The address that it is connected to.
            ///
            /// # Errors
            ///
            /// `NotConnected`; the operating system's.
            pub fn peer_addr(&self) -> io::Result<$address> {
                $of_system(Some(peer_addr(self.socket())?))
            }

            /// The error that the socket has met since the last call, or since the last call of any kind.
            ///
            /// # Errors
            ///
            /// The operating system's, if it cannot be asked for.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                take_error(self.socket())
            }

            /// The socket as a stream of what arrives and a sink for what is sent, for the combinators of the `futures` crate.
            pub fn into_datagrams(self) -> Datagrams<Self, $address> {
                let peer = self.peer_addr().ok();
                Datagrams::new(self, peer)
            }

            /// Receives a datagram into memory of its own.
            pub(super) fn poll_arrival(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Bytes, $address)>> {
                let polled = self.core().with_receive_buffer(|buffer| {
                    self.shared.poll_io(Direction::Read, cx, |socket| {
                        let arrived = datagram::receive(socket, buffer)?;
                        arrived.check_whole()?;
                        Ok((Bytes::copy_from_slice(arrived.data), arrived.from))
                    })
                });
                let (data, from) = std::task::ready!(polled)?;
                self.received(data.len());
                Poll::Ready(Ok((data, $of_system(from)?)))
            }

            fn socket(&self) -> &Socket {
                self.shared.io()
            }

            /// Counts the bytes of one call.
            fn received(&self, n: usize) -> usize {
                self.core().received(n);
                n
            }

            /// Counts the bytes of one call.
            fn sent(&self, n: usize) -> usize {
                self.core().sent(n);
                n
            }

            pub(super) fn core(&self) -> &crate::event_loop::Core {
                self.shared.source().core()
            }
        }

        impl From<$name> for OwnedFd {
            /// As `into_std`.
            fn from(socket: $name) -> Self {
                socket.into_std().into()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket().as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.socket().as_raw_fd()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut debug = f.debug_struct(stringify!($name));
                if let Ok(address) = self.local_addr() {
                    debug.field("local", &address);
                }
                if let Ok(address) = self.peer_addr() {
                    debug.field("peer", &address);
                }
                debug.field("fd", &self.as_raw_fd()).finish()
            }
        }
    };
}

pub(super) use impl_datagrams;
