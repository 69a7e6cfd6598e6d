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
                Ok(self.spent(n))
            }

            /// As [`recv`](Self::recv), and tells who has sent it.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
                let (n, from) = self.shared.io_loop(Direction::Read, |socket| recv_from(socket, buf)).await?;
                Ok((self.spent(n), $of_system(from)?))
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
                Ok(self.spent(n))
            }

            /// As [`recv`](Self::recv), if there is a datagram now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`recv`](Self::recv).
            pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.shared.try_io(Direction::Read, |socket| recv(socket, buf))
            }

            /// As [`recv_from`](Self::recv_from), if there is a datagram now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`recv`](Self::recv).
            pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
                let (n, from) = self.shared.try_io(Direction::Read, |socket| recv_from(socket, buf))?;
                Ok((n, $of_system(from)?))
            }

            /// As [`send`](Self::send), if there is room now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is none; otherwise as [`send`](Self::send).
            pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
                self.shared.try_io(Direction::Write, |socket| send(socket, data))
            }

            /// As [`recv`](Self::recv), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                let polled = self.shared.poll_io(Direction::Read, cx, |socket| recv(socket, buf));
                polled.map_ok(|n| self.spent(n))
            }

            /// As [`recv_from`](Self::recv_from), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, $address)>> {
                let polled = self.shared.poll_io(Direction::Read, cx, |socket| recv_from(socket, buf));
                let (n, from) = std::task::ready!(polled)?;
                Poll::Ready(Ok((self.spent(n), $of_system(from)?)))
            }

            /// As [`send`](Self::send), for whoever polls: the one who polled last is woken.
            ///
            /// # Errors
            ///
            /// As [`send`](Self::send).
            pub fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                let polled = self.shared.poll_io(Direction::Write, cx, |socket| send(socket, data));
                polled.map_ok(|n| self.spent(n))
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

            fn socket(&self) -> &Socket {
                self.shared.io()
            }

            /// Counts the bytes of one call.
            fn spent(&self, n: usize) -> usize {
                self.shared.source().core().spend_bytes(n);
                n
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
