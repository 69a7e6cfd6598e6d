//! Options of sockets, as the builders take them.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::error::invalid_input;
use crate::os::options::{
    INHERITED, LONGEST_DEVICE, bind_device, set_keepalive, set_keepalive_times, set_only_v6, set_recv_buffer_size,
    set_send_buffer_size, set_tos, set_traffic_class,
};
use crate::os::socket::{local_addr, set_nodelay};
use crate::transport::address::KeptAddress;

/// Whether the system probes a connection that is silent, and when: for `keep_alive` of the builders, which takes a `bool`
/// as well.
///
/// What is not given is the system's setting: on Linux it begins after two hours, probes every 75 seconds, and gives up
/// after the ninth. A connection that is given up ends with an error of kind `TimedOut`.
///
/// ```
/// use roundelay::{KeepAlive, TcpListener, TcpStream};
/// use std::time::Duration;
///
/// let keep_alive = KeepAlive::new().idle(Duration::from_secs(60)).interval(Duration::from_secs(10)).count(3);
/// roundelay::block_on(async {
///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
///     let stream = TcpStream::connect(listener.local_addr()?).keep_alive(keep_alive).await?;
///     assert!(socket2::SockRef::from(&stream).keepalive()?);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    on: bool,
    idle: Option<Duration>,
    interval: Option<Duration>,
    count: Option<u32>,
}

impl KeepAlive {
    /// The system probes, at its own times.
    pub const fn new() -> Self {
        Self { on: true, idle: None, interval: None, count: None }
    }

    /// How long nothing has to come before the first probe. Parts of a second count as a whole one.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// How long after one probe the next one follows. Parts of a second count as a whole one.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// After how many probes without an answer the connection is given up.
    pub const fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    fn has_times(&self) -> bool {
        self.idle.is_some() || self.interval.is_some() || self.count.is_some()
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::new()
    }
}

impl From<bool> for KeepAlive {
    fn from(on: bool) -> Self {
        Self { on, ..Self::new() }
    }
}

/// Which option of a socket could not be set, and why.
///
/// Found inside of an [`io::Error`] of the same kind by [`get_ref`](io::Error::get_ref) and a downcast; the operating
/// system's code is in [`error`](Self::error).
#[derive(Debug)]
pub struct SocketOptionError {
    /// The method that was awaited.
    pub method: String,
    /// The option, as it was given.
    pub option: String,
    /// The operating system's error, or `Unsupported` where it has no such option.
    pub error: io::Error,
}

impl fmt::Display for SocketOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot set {}: {}", self.method, self.option, self.error)
    }
}

impl Error for SocketOptionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// What is set on a socket before it is bound, listens or connects; `None` leaves what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// `None`: yes for TCP, wherever that can be.
    pub(crate) nodelay: Option<bool>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) send_buffer_size: Option<usize>,
    pub(crate) recv_buffer_size: Option<usize>,
    pub(crate) tos: Option<u8>,
    pub(crate) v6only: Option<bool>,
    pub(crate) bind_device: Option<String>,
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    V4,
    V6,
    /// A unix socket, or one of a family that nobody knows here.
    Other,
}

impl Domain {
    /// That of a socket which somebody else has made.
    pub(crate) fn of(socket: &Socket) -> Self {
        Self::of_address(&local_addr(socket).ok().into())
    }

    /// That of a socket with this address.
    pub(crate) fn of_address(address: &KeptAddress) -> Self {
        match address.ip() {
            Some(address) if address.is_ipv4() => Self::V4,
            Some(_) => Self::V6,
            None => Self::Other,
        }
    }
}

impl SocketOptions {
    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self, method: &str) -> io::Result<()> {
        let refuse = |text: &str| Err(invalid_input(format!("{method}: {text}")));
        for (option, size) in
            [("send_buffer_size()", self.send_buffer_size), ("recv_buffer_size()", self.recv_buffer_size)]
        {
            if size.is_some_and(|size| size == 0 || i32::try_from(size).is_err()) {
                return refuse(&format!("{option} must be at least 1, and less than 2 GiB"));
            }
        }
        if let Some(KeepAlive { idle, interval, count, .. }) = self.keep_alive {
            for (time, given) in [("idle()", idle), ("interval()", interval)] {
                if given.is_some_and(|given| given.is_zero()) {
                    return refuse(&format!("keep_alive(): {time} must be longer than zero"));
                }
            }
            if count.is_some_and(|count| count == 0 || i32::try_from(count).is_err()) {
                return refuse("keep_alive(): count() must be at least 1, and less than 2^31");
            }
        }
        if let Some(device) = &self.bind_device {
            // The system would shorten it, and take that for another one's name.
            if device.is_empty() || device.len() > LONGEST_DEVICE || device.contains('\0') {
                return refuse(&format!("bind_device({device:?}): that is no name of an interface"));
            }
        }
        Ok(())
    }

    /// The first option that was given and comes too late for a socket that is bound already.
    pub(crate) fn first_too_late(&self) -> Option<&'static str> {
        let given = [("v6only()", self.v6only.is_some()), ("bind_device()", self.bind_device.is_some())];
        first(&given)
    }

    /// The first option that was given and that only sockets of the internet have.
    pub(crate) fn first_of_internet(&self) -> Option<&'static str> {
        let given = [
            ("nodelay()", self.nodelay.is_some()),
            ("keep_alive()", self.keep_alive.is_some()),
            ("tos()", self.tos.is_some()),
        ];
        first(&given).or(self.first_too_late())
    }

    /// Sets what was given, and on a connection of TCP, or what makes such, `TCP_NODELAY`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an option that such a socket does not have; the operating system's, with a
    /// [`SocketOptionError`].
    pub(crate) fn apply_to_stream(&self, method: &str, socket: &Socket, domain: Domain) -> io::Result<()> {
        if self.nodelay.is_none() && domain != Domain::Other {
            set_nodelay(socket).map_err(|error| failed(method, "nodelay(true)".into(), error))?;
        }
        self.apply(method, socket, domain)
    }

    /// Sets what was given.
    ///
    /// # Errors
    ///
    /// As `apply_to_stream`.
    pub(crate) fn apply(&self, method: &str, socket: &Socket, domain: Domain) -> io::Result<()> {
        if let Some(option) = self.first_of_internet().filter(|_| domain == Domain::Other) {
            return Err(invalid_input(format!("{method}: {option} is for sockets of the internet only")));
        }
        let failing = |option: String| move |error| failed(method, option, error);
        if let Some(device) = &self.bind_device {
            bind_device(socket, device).map_err(failing(format!("bind_device({device:?})")))?;
        }
        if let Some(only) = self.v6only.filter(|_| domain == Domain::V6) {
            set_only_v6(socket, only).map_err(failing(format!("v6only({only})")))?;
        }
        self.set_inherited(socket, domain).map_err(|(option, error)| failed(method, option, error))
    }

    /// Sets on a connection what it may not have from the socket over which it came.
    pub(crate) fn apply_to_accepted(&self, socket: &Socket, domain: Domain) {
        if INHERITED && domain != Domain::Other {
            return;
        }
        let mut result = Ok(());
        if self.nodelay.is_none() && domain != Domain::Other {
            result = set_nodelay(socket).map_err(|error| ("nodelay(true)".into(), error));
        }
        // Some systems refuse it where the peer is gone already, which the first read will tell.
        if let Err((option, error)) = result.and_then(|()| self.set_inherited(socket, domain)) {
            note!(DEBUG, "roundelay::io", "cannot set {option} on an accepted connection: {error}");
        }
    }

    /// What a connection has as well, if the socket that it came over has it. The error comes with the option.
    fn set_inherited(&self, socket: &Socket, domain: Domain) -> Result<(), (String, io::Error)> {
        let failing = |option: String| move |error| (option, error);
        if let Some(size) = self.send_buffer_size {
            set_send_buffer_size(socket, size).map_err(failing(format!("send_buffer_size({size})")))?;
        }
        if let Some(size) = self.recv_buffer_size {
            set_recv_buffer_size(socket, size).map_err(failing(format!("recv_buffer_size({size})")))?;
        }
        if let Some(nodelay) = self.nodelay {
            let set = crate::os::options::set_nodelay(socket, nodelay);
            set.map_err(failing(format!("nodelay({nodelay})")))?;
        }
        if let Some(keep_alive) = self.keep_alive {
            set_keepalive(socket, keep_alive.on).map_err(failing(format!("keep_alive({})", keep_alive.on)))?;
            if keep_alive.has_times() {
                let KeepAlive { idle, interval, count, .. } = keep_alive;
                let set = set_keepalive_times(socket, idle, interval, count);
                set.map_err(failing(format!("keep_alive({keep_alive:?})")))?;
            }
        }
        if let Some(tos) = self.tos {
            if domain == Domain::V6 {
                set_traffic_class(socket, tos).map_err(failing(format!("tos({tos:#04x})")))?;
                // Its peers may be of IPv4, too.
                let _ = set_tos(socket, tos);
            } else {
                set_tos(socket, tos).map_err(failing(format!("tos({tos:#04x})")))?;
            }
        }
        Ok(())
    }
}

fn first(given: &[(&'static str, bool)]) -> Option<&'static str> {
    given.iter().find(|(_, given)| *given).map(|(option, _)| *option)
}

fn failed(method: &str, option: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), SocketOptionError { method: method.into(), option, error })
}

/// The settings of sockets of every kind. `$place` is where the [`SocketOptions`] are.
macro_rules! buffer_settings {
    ($($place:ident).+) => {
        /// How many bytes the system holds of what is sent and not received yet (`SO_SNDBUF`). The system has its own idea
        /// of what is too little or too much, and says nothing; Linux doubles it, for what it needs itself. Without it Linux
        /// fits the buffers of a TCP connection to what goes on there, which is mostly better.
        pub fn send_buffer_size(mut self, size: usize) -> Self {
            self.$($place).+.send_buffer_size = Some(size);
            self
        }

        /// How many bytes the system holds of what was received and not read yet (`SO_RCVBUF`). Otherwise as
        /// [`send_buffer_size`](Self::send_buffer_size).
        pub fn recv_buffer_size(mut self, size: usize) -> Self {
            self.$($place).+.recv_buffer_size = Some(size);
            self
        }
    };
}
pub(crate) use buffer_settings;

/// The setting of sockets of the internet of every kind.
macro_rules! tos_setting {
    ($($place:ident).+) => {
        /// The type of service of what is sent, which is the traffic class with IPv6 (`IP_TOS`, `IPV6_TCLASS`): its six
        /// upper bits are the DSCP. The two lower ones are for congestion, which TCP sees to itself.
        pub fn tos(mut self, tos: u8) -> Self {
            self.$($place).+.tos = Some(tos);
            self
        }
    };
}
pub(crate) use tos_setting;

/// The settings of TCP, beside those of every socket.
macro_rules! tcp_settings {
    ($($place:ident).+) => {
        /// Whether small writes are sent at once (`TCP_NODELAY`): yes, unless this says no.
        pub fn nodelay(mut self, nodelay: bool) -> Self {
            self.$($place).+.nodelay = Some(nodelay);
            self
        }

        /// Whether the system probes connections that are silent (`SO_KEEPALIVE`), and when: `true`, `false`, or a
        /// [`KeepAlive`](crate::KeepAlive) with times. Without it that is as the system has it: no.
        pub fn keep_alive(mut self, keep_alive: impl Into<$crate::net::KeepAlive>) -> Self {
            self.$($place).+.keep_alive = Some(keep_alive.into());
            self
        }

        $crate::net::buffer_settings!($($place).+);
        $crate::net::tos_setting!($($place).+);
    };
}
pub(crate) use tcp_settings;

/// The setting of sockets that are made here.
macro_rules! bind_device_setting {
    ($($place:ident).+) => {
        /// Sends and receives by way of one network interface only, by its name (`SO_BINDTODEVICE`): on Linux, and
        /// `Unsupported` elsewhere.
        pub fn bind_device(mut self, device: impl Into<String>) -> Self {
            self.$($place).+.bind_device = Some(device.into());
            self
        }
    };
}
pub(crate) use bind_device_setting;
