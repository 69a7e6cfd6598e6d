//! Options of sockets, where they are called differently from system to system.

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use crate::os::fault::{Call, retry_io};

/// Whether the connections of a listening socket have what was set on it. Where that is not sure, it is set on each.
pub(crate) const INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// Lets the system probe a connection that is silent, or not.
pub(crate) fn set_keepalive(socket: &Socket, on: bool) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_keepalive(on))
}

/// After how long it probes, how often and how many times: in whole seconds, of which there is at least one.
pub(crate) fn set_keepalive_times(
    socket: &Socket,
    idle: Option<Duration>,
    interval: Option<Duration>,
    count: Option<u32>,
) -> io::Result<()> {
    let mut times = TcpKeepalive::new();
    if let Some(idle) = idle {
        times = times.with_time(whole_seconds(idle));
    }
    if let Some(interval) = interval {
        times = times.with_interval(whole_seconds(interval));
    }
    if let Some(count) = count {
        times = times.with_retries(count);
    }
    retry_io(Call::Option, || socket.set_tcp_keepalive(&times))
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}

pub(crate) fn set_send_buffer_size(socket: &Socket, size: usize) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_send_buffer_size(size))
}

pub(crate) fn set_recv_buffer_size(socket: &Socket, size: usize) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_recv_buffer_size(size))
}

/// The type of service of a socket of IPv4.
pub(crate) fn set_tos(socket: &Socket, tos: u8) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_tos_v4(tos.into()))
}

/// The traffic class of a socket of IPv6.
pub(crate) fn set_traffic_class(socket: &Socket, class: u8) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_tclass_v6(class.into()))
}

/// Lets a socket of IPv6 be one of IPv6 only, or of both.
pub(crate) fn set_only_v6(socket: &Socket, only: bool) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_only_v6(only))
}

/// How long the name of an interface may be.
pub(crate) const LONGEST_DEVICE: usize = libc::IFNAMSIZ - 1;

/// Lets a socket send and receive by way of one interface only.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bind_device(socket: &Socket, device: &str) -> io::Result<()> {
    retry_io(Call::Option, || socket.bind_device(Some(device.as_bytes())))
}

/// Lets a socket send and receive by way of one interface only.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bind_device(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there is no such option on this platform"))
}

/// Sends small writes at once, or not.
pub(crate) fn set_nodelay(socket: &Socket, nodelay: bool) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_tcp_nodelay(nodelay))
}
