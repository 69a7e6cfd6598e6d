//! For tests: time that jumps, an order by a seed, transports in memory, a check for transports of one's own.
//!
//! # Time
//!
//! [`block_on`] runs a future as [`roundelay::block_on`](crate::block_on) does, on a loop whose time is virtual. Time
//! stands still while anything runs, and jumps to the next deadline when the loop has nothing to do. So a test of an hour's
//! timeout takes no time, and each run of it is the same. It is the time of the loop that is virtual: whatever roundelay
//! does with time goes by it, and [`Instant::now`](std::time::Instant::now) does not.
//!
//! Time does not jump while something is **outstanding**: while somebody outside of the loop may yet give it something to
//! do. Outstanding is
//!
//! * a job of an executor that is not over, whether it is awaited or not ([`spawn_blocking`](crate::spawn_blocking),
//!   [`run_in_executor`](crate::EventLoop::run_in_executor), the look-up of a name, a file that is read);
//! * a job of a process pool, a [`RemoteHandle`](crate::RemoteHandle), or the [`RemoteTask`](crate::RemoteTask) of another
//!   loop, that is awaited;
//! * a child process of the loop that has not ended;
//! * a descriptor that somebody waits for: a transport that reads, or has bytes to send; a stream, an
//!   [`AsyncFd`](crate::AsyncFd) or a `sock_*` method that is awaited; a callback of `add_reader` or `add_writer`; a
//!   connection that is being made. With these exceptions, of which the loop alone will hear, or perhaps nobody ever:
//!     * a stream of the internet whose other end is registered with the same loop, and one of a unix socket with a name
//!       that this loop listens at and has connected to;
//!     * a listening socket, and a socket for datagrams that is not connected, or is connected to one of the same loop;
//!     * what waits for signals;
//! * whatever the test says, by [`busy`].
//!
//! So a client and a server in the same loop, over loopback, run in virtual time: nobody else can have an influence on
//! them. What one end has sent, the other one has before time passes; for the case that the system takes a moment to
//! deliver it, the loop waits a millisecond of real time before each jump while descriptors are registered
//! ([`Builder::io_grace`]). A server in another thread or process is waited for, and so is a child or a file. Both ends of
//! a pipe or of a pair of sockets cannot be told from others, and are waited for: in a test use transports in memory.
//!
//! What the loop cannot see is not waited for: another thread that holds a [`Remote`](crate::Remote) or a waker, or is
//! about to connect. Let a guard of [`busy`] go with it.
//!
//! Where nothing happens in ten seconds of real time, because of what is outstanding or because there is no timer to jump to
//! (a deadlock), the test fails, and says what is outstanding and which tasks there are. Where something goes on, an
//! [`interval`](crate::interval) say, time goes on with it: a [`timeout`](crate::timeout) ends a test that waits for what
//! never comes.
//!
//! [`Builder`] has settings for all that. [`advance`] moves the time by hand, [`settle`] lets everything run that can.
//!
//! # Order
//!
//! A loop runs things in a fixed order, so a test finds one order right. [`explore`] runs it in many: [`Builder::seed`]
//! has tasks that are ready at the same time go in another one.
//!
//! # Connections
//!
//! [`memory_pair`] connects two protocols, [`stream_pair`] two streams, [`datagram_pair`] two protocols of datagrams, without
//! a socket. What lies between is a [`Link`] with the faults that a network has: latency, narrowness, pieces of any size, a
//! loss in the middle of a message, silence. The transports are those that run over sockets, and the time is the loop's: in
//! virtual time a slow link costs none.
//!
//! [`check_transport`] tells whether a transport of your own keeps the contract of transports, item by item.
//!
//! ```
//! use roundelay::testing::{self, Link, stream_pair};
//! use std::time::Duration;
//!
//! // The peer says nothing any more within its answer: does the client give up?
//! testing::block_on(async {
//!     let el = roundelay::get_running_loop().unwrap();
//!     let (near, far) = stream_pair(&el, &Link::new().latency(Duration::from_secs(1)).silence_after_bytes(8));
//!     let (mut reader, _writer) = near.into_stream().unwrap();
//!     let (_reader, mut peer) = far.into_stream().unwrap();
//!     peer.write(b"an answer\n");
//!     let line = roundelay::timeout(Duration::from_secs(3600), reader.readline()).await;
//!     assert!(line.is_err());
//!     assert_eq!(testing::elapsed(), Duration::from_secs(3600));
//! });
//! ```

mod builder;
mod check;
mod explore;
mod memory;
mod time;

pub use builder::{Builder, block_on};
pub use check::{CheckTransport, Conformance, ItemReport, Probe, Verdict, check_transport};
pub use explore::{explore, for_each_seed};
pub use memory::{
    DatagramLink, Link, MemoryEndpoint, MemoryStream, MemoryTransport, Wire, datagram_pair, memory_pair, stream_pair,
};
pub use time::{Busy, advance, busy, elapsed, now, settle};
