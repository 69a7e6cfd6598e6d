//! Where to connect to, and where to listen.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::Socket;

use crate::dns::addr::{Host, Port, host_and_port};
use crate::error::invalid_input;
use crate::os::activation::ListenFd;
use crate::os::fd::{AsFd, OwnedFd};
use crate::os::socket::{is_stream, set_nonblocking};

/// Where to connect to: a host and a port, addresses, or a connected socket that is there already.
///
/// Made from `(&str, u16)`, `(String, u16)`, `(IpAddr, u16)`, `SocketAddr`, lists of `SocketAddr` (from a resolver of
/// your own; tried in order), `socket2::Socket`, `std::net::TcpStream` and `OwnedFd`. Beside a host that is text, the port may
/// be text, too: a number or the name of a service, as in `("example.org", "http")`. See [`Port`]. Both may be one text, as
/// people write it: `"example.org:443"`, `"[::1]:80"`; one that names no port is an error of whatever it is given to.
///
/// ```
/// use roundelay::{TcpListener, TcpStream};
///
/// roundelay::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let port = listener.local_addr()?.port();
///     TcpStream::connect(("127.0.0.1", port)).await?;
///     TcpStream::connect(format!("127.0.0.1:{port}")).await?;
///     let error = TcpStream::connect("127.0.0.1").await.unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[doc(alias("host", "port", "sock"))]
pub struct Endpoint {
    pub(crate) kind: EndpointKind,
}

pub(crate) enum EndpointKind {
    Host(Host, Port),
    Addresses(Vec<SocketAddr>),
    Socket(Socket),
    /// A text that names no port.
    Malformed(String),
}

/// What is said of a text that is no endpoint.
pub(crate) fn malformed(method: &str, text: &str) -> io::Error {
    invalid_input(format!("{method}: {text:?} is not a host and a port, such as \"localhost:80\" or \"[::1]:80\""))
}

impl EndpointKind {
    /// An address, or a host and a port.
    fn parse(text: &str) -> Self {
        match (text.parse(), host_and_port(text)) {
            (Ok(address), _) => Self::Addresses(vec![address]),
            (_, Some((host, port))) => Self::Host(Host::parse(host), port.into()),
            _ => Self::Malformed(text.to_owned()),
        }
    }

    /// What a certificate of whoever is connected to has to be for.
    pub(crate) fn host(&self) -> Option<String> {
        match self {
            Self::Host(host, _) => Some(host.to_string()),
            Self::Addresses(addresses) if addresses.len() == 1 => Some(addresses[0].ip().to_string()),
            Self::Addresses(_) | Self::Socket(_) | Self::Malformed(_) => None,
        }
    }

    /// The endpoint for a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Host(Host::Name(name), port) => format!("{name}:{port}"),
            Self::Host(Host::Address(IpAddr::V6(ip)), port) => format!("[{ip}]:{port}"),
            Self::Host(Host::Address(ip), port) => format!("{ip}:{port}"),
            Self::Addresses(addresses) if addresses.len() == 1 => addresses[0].to_string(),
            Self::Addresses(addresses) => format!("{addresses:?}"),
            Self::Socket(_) => "the given socket".into(),
            Self::Malformed(text) => format!("{text:?}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.kind.describe())
    }
}

fn one(address: impl Into<SocketAddr>) -> EndpointKind {
    EndpointKind::Addresses(vec![address.into()])
}

macro_rules! endpoint_from {
    ($($from:ty, $pattern:pat => $kind:expr;)*) => {
        $(impl From<$from> for Endpoint {
            fn from($pattern: $from) -> Self {
                Self { kind: $kind }
            }
        })*
    };
}

impl<P: Into<Port>> From<(&str, P)> for Endpoint {
    fn from((host, port): (&str, P)) -> Self {
        Self { kind: EndpointKind::Host(Host::parse(host), port.into()) }
    }
}

impl<P: Into<Port>> From<(&String, P)> for Endpoint {
    fn from((host, port): (&String, P)) -> Self {
        Self::from((host.as_str(), port))
    }
}

impl<P: Into<Port>> From<(String, P)> for Endpoint {
    fn from((host, port): (String, P)) -> Self {
        Self::from((host.as_str(), port))
    }
}

endpoint_from! {
    &str, text => EndpointKind::parse(text);
    &String, text => EndpointKind::parse(text);
    String, text => EndpointKind::parse(&text);
    (IpAddr, u16), (ip, port) => one(SocketAddr::new(ip, port));
    (Ipv4Addr, u16), (ip, port) => one((ip, port));
    (Ipv6Addr, u16), (ip, port) => one((ip, port));
    SocketAddr, address => one(address);
    SocketAddrV4, address => one(address);
    SocketAddrV6, address => one(address);
    &[SocketAddr], addresses => EndpointKind::Addresses(addresses.to_vec());
    Vec<SocketAddr>, addresses => EndpointKind::Addresses(addresses);
    Socket, socket => EndpointKind::Socket(socket);
    std::net::TcpStream, stream => EndpointKind::Socket(stream.into());
    OwnedFd, fd => EndpointKind::Socket(fd.into());
}

/// Where to listen: hosts and a port, addresses, or a listening socket that is there already.
///
/// Made from what an [`Endpoint`] is made of, and from lists: `(&[&str], u16)`, `([&str; N], u16)`,
/// `(Vec<String>, u16)`, `Vec<SocketAddr>`, `std::net::TcpListener`, and from a [`ListenFd`]. A port may be text, too: see [`Port`]. An empty host, as in `("", 80)` and `":80"`, or
/// `(None, port)`, stands for all interfaces, of IPv4 and IPv6.
#[doc(alias("host", "port", "sock"))]
pub struct ServerEndpoint {
    pub(crate) kind: ServerEndpointKind,
}

pub(crate) enum ServerEndpointKind {
    Hosts(Vec<Host>, Port),
    /// All interfaces, of IPv4 and IPv6.
    Everywhere(Port),
    Addresses(Vec<SocketAddr>),
    Socket(Socket),
    /// A text that names no port.
    Malformed(String),
}

impl fmt::Debug for ServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ServerEndpointKind::Hosts(hosts, port) => write!(f, "ServerEndpoint({hosts:?}, {port})"),
            ServerEndpointKind::Everywhere(port) => write!(f, "ServerEndpoint(all interfaces, {port})"),
            ServerEndpointKind::Addresses(addresses) => write!(f, "ServerEndpoint({addresses:?})"),
            ServerEndpointKind::Socket(_) => f.write_str("ServerEndpoint(the given socket)"),
            ServerEndpointKind::Malformed(text) => write!(f, "ServerEndpoint({text:?})"),
        }
    }
}

impl ServerEndpoint {
    /// An address, or a host and a port.
    fn parse(text: &str) -> Self {
        match (text.parse(), host_and_port(text)) {
            (Ok(address), _) => addresses(vec![address]),
            (_, Some((host, port))) => Self::hosts([host], port),
            _ => Self { kind: ServerEndpointKind::Malformed(text.to_owned()) },
        }
    }

    fn hosts<'a>(hosts: impl IntoIterator<Item = &'a str>, port: impl Into<Port>) -> Self {
        let port = port.into();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        // One empty host among several means all interfaces, too. A list of none means nothing.
        if hosts.iter().any(|host| host.is_empty()) {
            return Self { kind: ServerEndpointKind::Everywhere(port) };
        }
        Self { kind: ServerEndpointKind::Hosts(hosts.into_iter().map(Host::parse).collect(), port) }
    }
}

macro_rules! server_endpoint_from {
    ($($from:ty, $pattern:pat => $endpoint:expr;)*) => {
        $(impl From<$from> for ServerEndpoint {
            fn from($pattern: $from) -> Self {
                $endpoint
            }
        })*
    };
}

fn addresses(addresses: Vec<SocketAddr>) -> ServerEndpoint {
    ServerEndpoint { kind: ServerEndpointKind::Addresses(addresses) }
}

fn socket(socket: Socket) -> ServerEndpoint {
    ServerEndpoint { kind: ServerEndpointKind::Socket(socket) }
}

server_endpoint_from! {
    &str, text => Self::parse(text);
    &String, text => Self::parse(text);
    String, text => Self::parse(&text);
    (IpAddr, u16), (ip, port) => addresses(vec![SocketAddr::new(ip, port)]);
    (Ipv4Addr, u16), (ip, port) => addresses(vec![SocketAddr::new(ip.into(), port)]);
    (Ipv6Addr, u16), (ip, port) => addresses(vec![SocketAddr::new(ip.into(), port)]);
    SocketAddr, address => addresses(vec![address]);
    SocketAddrV4, address => addresses(vec![address.into()]);
    SocketAddrV6, address => addresses(vec![address.into()]);
    &[SocketAddr], list => addresses(list.to_vec());
    Vec<SocketAddr>, list => addresses(list);
    Socket, given => socket(given);
    std::net::TcpListener, given => socket(given.into());
    OwnedFd, given => socket(given.into());
    ListenFd, given => socket(OwnedFd::from(given).into());
}

macro_rules! server_endpoint_of_hosts {
    ($($from:ty, $hosts:ident => $list:expr;)*) => {
        $(impl<P: Into<Port>> From<($from, P)> for ServerEndpoint {
            fn from(($hosts, port): ($from, P)) -> Self {
                Self::hosts($list, port)
            }
        })*
    };
}

server_endpoint_of_hosts! {
    &str, host => [host];
    &String, host => [host.as_str()];
    String, host => [host.as_str()];
    Option<&str>, host => [host.unwrap_or("")];
    &[&str], hosts => hosts.iter().copied();
    &[String], hosts => hosts.iter().map(String::as_str);
    Vec<String>, hosts => hosts.iter().map(String::as_str);
}

impl<P: Into<Port>, const N: usize> From<([&str; N], P)> for ServerEndpoint {
    fn from((hosts, port): ([&str; N], P)) -> Self {
        Self::hosts(hosts, port)
    }
}

/// Takes a socket of the application's: it has to be a stream socket, and becomes non-blocking.
pub(crate) fn take_socket(method: &str, socket: Socket) -> io::Result<Socket> {
    if !is_stream(socket.as_fd())? {
        return Err(invalid_input(format!("{method}: a stream socket was expected")));
    }
    set_nonblocking(&socket)?;
    Ok(socket)
}
