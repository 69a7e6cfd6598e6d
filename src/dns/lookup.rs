//! `getaddrinfo` and `getnameinfo`: on a thread of the default executor, unless there is nothing to look up.

use std::ffi::CString;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::dns::addr::{Family, Port, PortKind};
use crate::dns::hints::{AddrInfoFlags, Hints, NameInfoFlags, SocketType};
use crate::error::{LoopClosed, ResolveError, invalid_input};
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::os::names::{self, Answer, Failure, Query};

/// One address of a host, and the socket that fits it: see [`EventLoop::getaddrinfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddrInfo {
    /// The family of the address: IPv4 or IPv6.
    pub family: Family,
    /// The type of socket.
    pub socket_type: SocketType,
    /// The number of the protocol, zero if any fits.
    pub proto: i32,
    /// The canonical name of the host, in the first entry and if it was asked for.
    pub canonical_name: Option<String>,
    /// The address, with the port.
    pub address: SocketAddr,
}

impl From<Answer> for AddrInfo {
    fn from(answer: Answer) -> Self {
        let Answer { socket_type, proto, canonical_name, address } = answer;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        Self { family, socket_type: SocketType::of_raw(socket_type), proto, canonical_name, address }
    }
}

/// A question for the C library.
struct Question {
    host: Option<CString>,
    service: Option<CString>,
    query: Query,
    /// What is looked up, for messages.
    subject: String,
    /// Whether the answer needs neither network nor file.
    immediate: bool,
}

impl Question {
    fn new(host: Option<&str>, port: &Port, hints: Hints) -> io::Result<Self> {
        let subject = match (host, port.kind()) {
            (Some(host), PortKind::Service(service)) => format!("{host:?} with service {service:?}"),
            (Some(host), _) => format!("{host:?}"),
            (None, PortKind::Service(service)) => format!("service {service:?}"),
            (None, PortKind::Number(port)) => format!("port {port}"),
            (None, PortKind::None) => "neither host nor port".into(),
        };
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| invalid_input(format!("cannot resolve {subject}: it contains a zero byte")))
        };
        let service = match port.kind() {
            PortKind::None => None,
            PortKind::Number(port) => Some(c_string(&port.to_string())?),
            // The C library would take what is left of it in 16 bits.
            PortKind::Service(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(invalid_input(format!("cannot resolve {subject}: port {digits} is above 65535")));
            }
            PortKind::Service(name) => Some(c_string(name)?),
        };
        let has_flag = |flag| hints.flags.contains(flag);
        let host_is_known = has_flag(AddrInfoFlags::NUMERICHOST) || host.is_none_or(is_literal);
        let service_is_known = has_flag(AddrInfoFlags::NUMERICSERV) || port.number().is_some();
        let immediate = host_is_known && service_is_known;
        let mut flags = hints.flags;
        if immediate {
            flags |= AddrInfoFlags::NUMERICHOST | AddrInfoFlags::NUMERICSERV;
        }
        let query = Query {
            family: hints.family.to_raw(),
            socket_type: hints.socket_type.to_raw(),
            proto: hints.proto,
            flags: flags.bits(),
        };
        let host = host.map(c_string).transpose()?;
        Ok(Self { host, service, query, subject, immediate })
    }

    /// Blocks, unless it is immediate.
    fn ask(&self) -> Result<Vec<Answer>, Failure> {
        names::getaddrinfo(self.host.as_deref(), self.service.as_deref(), self.query)
    }
}

/// Whether a host is written as an address, also as one of an interface (`fe80::1%eth0`).
fn is_literal(host: &str) -> bool {
    let scoped = || host.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    host.parse::<IpAddr>().is_ok() || scoped()
}

fn failed(subject: String, failure: Failure) -> io::Error {
    let Failure { code, kind, system, message } = failure;
    ResolveError::wrap(subject, kind, code, system.as_ref(), message)
}

/// All addresses that the resolver has for a host and a port.
pub(crate) async fn look_up(
    el: &EventLoop,
    host: Option<&str>,
    port: &Port,
    hints: Hints,
) -> io::Result<Vec<AddrInfo>> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let question = Question::new(host, port, hints)?;
    let subject = question.subject.clone();
    if question.immediate {
        return answer(question.ask(), subject);
    }
    let asked = move || {
        let began = Instant::now();
        (question.ask(), began.elapsed())
    };
    let (answers, took) = el.run_while_awaited(asked).await?;
    if el.debug() {
        log(&subject, took, &answers, took >= el.slow_callback_duration());
    }
    answer(answers, subject)
}

fn answer(answers: Result<Vec<Answer>, Failure>, subject: String) -> io::Result<Vec<AddrInfo>> {
    let answers = answers.map_err(|failure| failed(subject, failure))?;
    Ok(answers.into_iter().map(AddrInfo::from).collect())
}

/// Says in debug mode how long a lookup took.
fn log(subject: &str, took: Duration, answers: &Result<Vec<Answer>, Failure>, is_slow: bool) {
    let answers = match answers {
        Ok(answers) => answers.iter().map(|answer| answer.address.to_string()).collect::<Vec<_>>().join(", "),
        Err(failure) => failure.message.clone(),
    };
    let text = format!("Getting address info of {subject} took {:.3} ms: {answers}", took.as_secs_f64() * 1e3);
    if is_slow {
        note!(INFO, "roundelay::io", "{text}");
    } else {
        note!(DEBUG, "roundelay::io", "{text}");
    }
}

/// A lookup that is about to be made: see [`EventLoop::getaddrinfo`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct GetAddrInfo {
    el: EventLoop,
    host: Option<String>,
    port: Port,
    hints: Hints,
}

impl EventLoop {
    /// The addresses of a host and a port (a number, the name of a service, or none), off the loop.
    ///
    /// The answer is that of the C library's `getaddrinfo`, in its order. Without a host the addresses are the loopback's,
    /// or those that stand for all interfaces with [`AddrInfoFlags::PASSIVE`]. Names are looked up on a thread of the default
    /// executor. What needs no lookup (an address as the host, or none, and a number as the port) is answered at once, also
    /// while all threads are busy. Names are passed on as they are: of those that are not ASCII their form in Punycode.
    ///
    /// Dropping the future leaves the lookup to itself: one that has not begun never begins, and one that has begun holds up
    /// neither [`shutdown_default_executor`](Self::shutdown_default_executor) nor the end of the program.
    ///
    /// # Errors
    ///
    /// One that carries a [`ResolveError`]; `InvalidInput` for a port above 65535 and where there is a zero byte in a text;
    /// [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Family, SocketType};
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let found = el.getaddrinfo("localhost", "80").family(Family::V4).socket_type(SocketType::Stream).await?;
    ///     assert_eq!(found[0].address, "127.0.0.1:80".parse().unwrap());
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn getaddrinfo<'a>(&self, host: impl Into<Option<&'a str>>, port: impl Into<Port>) -> GetAddrInfo {
        let host = host.into().map(str::to_owned);
        GetAddrInfo { el: self.clone(), host, port: port.into(), hints: Hints::default() }
    }

    /// The names of the host and of the service at an address, off the loop.
    ///
    /// The answer is that of the C library's `getnameinfo`: where something has no name, it is the number. With
    /// [`NameInfoFlags::NUMERICHOST`] and [`NameInfoFlags::NUMERICSERV`] it is given at once; otherwise a thread of the default
    /// executor looks it up, as in [`getaddrinfo`](Self::getaddrinfo).
    ///
    /// # Errors
    ///
    /// One that carries a [`ResolveError`]; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use roundelay::NameInfoFlags;
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let numbers = NameInfoFlags::NUMERICHOST | NameInfoFlags::NUMERICSERV;
    ///     let names = el.getnameinfo(([127, 0, 0, 1], 80), numbers).await?;
    ///     assert_eq!(names, ("127.0.0.1".to_owned(), "80".to_owned()));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn getnameinfo(&self, address: impl Into<SocketAddr>, flags: NameInfoFlags) -> GetNameInfo {
        let (el, address) = (self.clone(), address.into());
        GetNameInfo { future: Box::pin(async move { names_of(&el, address, flags).await }) }
    }
}

async fn names_of(el: &EventLoop, address: SocketAddr, flags: NameInfoFlags) -> io::Result<(String, String)> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let ask = move || names::getnameinfo(&address, flags.bits());
    let immediate = flags.contains(NameInfoFlags::NUMERICHOST | NameInfoFlags::NUMERICSERV);
    let answer = if immediate { ask() } else { el.run_while_awaited(ask).await? };
    answer.map_err(|failure| failed(address.to_string(), failure))
}

impl GetAddrInfo {
    /// Addresses of this family only.
    pub fn family(mut self, family: Family) -> Self {
        self.hints.family = family;
        self
    }

    /// Entries for this type of socket only.
    #[doc(alias = "type")]
    pub fn socket_type(mut self, socket_type: SocketType) -> Self {
        self.hints.socket_type = socket_type;
        self
    }

    /// Entries for this protocol only, by its number (6 for TCP).
    pub fn proto(mut self, proto: i32) -> Self {
        self.hints.proto = proto;
        self
    }

    /// What else the resolver is told.
    pub fn flags(mut self, flags: AddrInfoFlags) -> Self {
        self.hints.flags = flags;
        self
    }
}

impl fmt::Debug for GetAddrInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetAddrInfo")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for GetAddrInfo {
    type Output = io::Result<Vec<AddrInfo>>;
    type IntoFuture = Resolving;

    fn into_future(self) -> Resolving {
        let Self { el, host, port, hints } = self;
        Resolving { future: Box::pin(async move { look_up(&el, host.as_deref(), &port, hints).await }) }
    }
}

/// The future of [`GetAddrInfo`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Resolving {
    future: BoxFuture<io::Result<Vec<AddrInfo>>>,
}

impl Future for Resolving {
    type Output = io::Result<Vec<AddrInfo>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Resolving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolving")
    }
}

/// The future of [`EventLoop::getnameinfo`]: the names of the host and of the service.
#[must_use = "futures do nothing unless they are awaited"]
pub struct GetNameInfo {
    future: BoxFuture<io::Result<(String, String)>>,
}

impl Future for GetNameInfo {
    type Output = io::Result<(String, String)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for GetNameInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GetNameInfo")
    }
}
