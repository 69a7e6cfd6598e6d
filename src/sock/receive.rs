//! Receiving.

use std::future::Future;
use std::io;

use crate::constants::READ_SIZE;
use crate::event_loop::{Core, EventLoop};
use crate::os::address::Address;
use crate::os::datagram::recv_from;
use crate::os::fd::AsFd;
use crate::os::socket::recv;
use crate::reactor::slot::Direction;
use crate::sock::begin;

/// Receives at most `n` bytes into new memory: of the size that they have, and none while there is nothing.
fn received<R>(
    core: &Core,
    n: usize,
    call: impl FnOnce(&mut [u8]) -> io::Result<(usize, R)>,
) -> io::Result<(Vec<u8>, R)> {
    if n <= READ_SIZE {
        return core.with_receive_buffer(|buffer| {
            let (len, rest) = call(&mut buffer[..n])?;
            Ok((buffer[..len].to_vec(), rest))
        });
    }
    let mut data = Vec::new();
    data.try_reserve_exact(n)?;
    data.resize(n, 0);
    let (len, rest) = call(&mut data)?;
    data.truncate(len);
    data.shrink_to_fit();
    Ok((data, rest))
}

impl EventLoop {
    /// Receives at most `n` bytes from a socket that must be non-blocking. Nothing at all means the end of a stream, or an
    /// empty datagram.
    ///
    /// The socket may be whatever lends its descriptor: a reference to one of std's or of `socket2`'s sockets, or, for a
    /// future that owns what it uses, an `Rc` of it. It stays the application's, and open for as long as the future lives.
    /// It is watched only while the future waits.
    ///
    /// The future may be dropped at any time: nothing that has arrived is lost, and the socket can be used on at once. One
    /// task may receive while another one sends.
    ///
    /// # Errors
    ///
    /// The operating system's. `ResourceBusy` while another operation waits to receive from the same descriptor, and
    /// `AlreadyExists` if it has a callback of [`add_reader`](Self::add_reader), or belongs to a transport or stream of
    /// this loop; nothing is taken from them. In debug mode `InvalidInput` if the socket is blocking, which would block the
    /// loop. [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (a, b) = UnixStream::pair()?;
    ///     a.set_nonblocking(true)?;
    ///     b.set_nonblocking(true)?;
    ///     el.sock_sendall(&a, b"hello").await?;
    ///     assert_eq!(el.sock_recv(&b, 100).await?, b"hello");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn sock_recv<S: AsFd>(&self, sock: S, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> + use<S> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_recv", Direction::Read, sock)?;
            let (data, ()) =
                wait.io_loop(|fd| received(&el.core, n, |buffer| recv(fd, buffer).map(|len| (len, ())))).await?;
            el.core.received(data.len());
            Ok(data)
        }
    }

    /// As [`sock_recv`](Self::sock_recv), into a buffer: gives how many bytes there were.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    pub fn sock_recv_into<'a, S: AsFd>(
        &self,
        sock: S,
        buffer: &'a mut [u8],
    ) -> impl Future<Output = io::Result<usize>> + use<'a, S> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_recv_into", Direction::Read, sock)?;
            let len = wait.io_loop(|fd| recv(fd, buffer)).await?;
            el.core.received(len);
            Ok(len)
        }
    }

    /// Receives a datagram of at most `n` bytes, and tells from whom; what is longer is cut off. Otherwise as
    /// [`sock_recv`](Self::sock_recv).
    ///
    /// There is no address where the system gives none: for connections, and where the sender is a unix socket that is not
    /// bound. Nor is there one of a family that [`Address`] does not know.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    ///
    /// ```
    /// use std::net::UdpSocket;
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.set_nonblocking(true)?;
    ///     b.set_nonblocking(true)?;
    ///     el.sock_sendto(&a, b"hello", b.local_addr()?).await?;
    ///     let (data, from) = el.sock_recvfrom(&b, 100).await?;
    ///     assert_eq!(data, b"hello");
    ///     assert_eq!(from, Some(a.local_addr()?.into()));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn sock_recvfrom<S: AsFd>(
        &self,
        sock: S,
        n: usize,
    ) -> impl Future<Output = io::Result<(Vec<u8>, Option<Address>)>> + use<S> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_recvfrom", Direction::Read, sock)?;
            let (data, from) = wait.io_loop(|fd| received(&el.core, n, |buffer| recv_from(fd, buffer))).await?;
            el.core.received(data.len());
            Ok((data, from))
        }
    }

    /// As [`sock_recvfrom`](Self::sock_recvfrom), into a buffer: gives how many bytes there were, and from whom.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    pub fn sock_recvfrom_into<'a, S: AsFd>(
        &self,
        sock: S,
        buffer: &'a mut [u8],
    ) -> impl Future<Output = io::Result<(usize, Option<Address>)>> + use<'a, S> {
        let el = self.clone();
        async move {
            let mut wait = begin(&el, "sock_recvfrom_into", Direction::Read, sock)?;
            let (len, from) = wait.io_loop(|fd| recv_from(fd, buffer)).await?;
            el.core.received(len);
            Ok((len, from))
        }
    }
}
