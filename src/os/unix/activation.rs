//! Sockets that a process is started with, as systemd does it: "socket activation".
//!
//! Whoever starts the process puts them at the descriptors from 3 on, says how many there are and how they are called, and
//! whom that is for: a number that every process has for itself, so a child that inherits all of it knows that it is not
//! meant.

#![allow(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::FromRawFd;
use std::sync::{Mutex, PoisonError};

use socket2::{SockRef, Type};

use crate::error::invalid_input;
use crate::os::address::Address;
use crate::os::fault::{Call, retry_io};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::socket::{is_listening, kind, local_addr};

/// The first of them.
const FIRST: RawFd = 3;

/// Whom they are for, how many they are, and how they are called: of the environment.
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What systemd calls a socket that has no name.
const NO_NAME: &str = "unknown";

/// A socket that the process was started with: see [`listen_fds`].
///
/// It goes wherever a socket goes: to [`create_server`](crate::EventLoop::create_server), to
/// [`start_server`](crate::start_server), to their unix counterparts and to the plain listeners as an endpoint; to
/// [`connect_accepted_socket`](crate::EventLoop::connect_accepted_socket) and to
/// [`sock`](crate::CreateDatagramEndpoint::sock) as a descriptor. Dropping it closes it; whoever has started the process
/// has it still.
pub struct ListenFd {
    fd: OwnedFd,
    name: String,
}

impl ListenFd {
    /// What it is called: the `FileDescriptorName=` of its unit, `unknown` where nobody has said.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a socket that listens. One that does not is for datagrams, or a connection that was accepted for this
    /// process alone (`Accept=yes`).
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn is_listening(&self) -> io::Result<bool> {
        is_listening(self.as_fd())
    }

    /// Whether it is a socket for datagrams.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn is_datagram(&self) -> io::Result<bool> {
        Ok(kind(self.as_fd())? == Type::DGRAM)
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    ///
    /// The operating system's; `Unsupported` for one of another family than those of the internet and unix sockets.
    pub fn local_addr(&self) -> io::Result<Address> {
        local_addr(self)
    }
}

impl AsFd for ListenFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ListenFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<ListenFd> for OwnedFd {
    fn from(socket: ListenFd) -> Self {
        socket.fd
    }
}

impl fmt::Debug for ListenFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, fd) = (&self.name, self.as_raw_fd());
        f.debug_struct("ListenFd").field("name", name).field("fd", &fd).field("local", &self.local_addr().ok()).finish()
    }
}

/// Whether the sockets of this process were given away.
static TAKEN: Mutex<bool> = Mutex::new(false);

/// The sockets that this process was started with, by systemd or by whoever else speaks its language (`LISTEN_FDS`): they
/// are bound already, and clients may be waiting there. None where it was started otherwise.
///
/// Each process gets them once: another call gives none. They are not inherited by programs that this one starts. The
/// variables of the environment that tell of them are removed if no other thread is there that might read them at that
/// moment, so call it at the beginning of `main`; those that are left do no harm, for they say that they are for this process.
///
/// # Errors
///
/// `InvalidInput` for an environment that contradicts itself and for a descriptor that is not open or is no socket.
/// Everything is left as it was then.
///
/// ```
/// use roundelay::{Protocol, Transport};
///
/// struct Echo;
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
///         transport.write(data);
///     }
/// }
///
/// fn main() -> std::io::Result<()> {
///     let sockets = roundelay::listen_fds()?;
///     roundelay::block_on(async {
///         let el = roundelay::get_running_loop()?;
///         for socket in sockets {
///             println!("serving on {}, {:?}", socket.name(), socket.local_addr()?);
///             el.create_server(|| Echo, socket).await?;
///         }
///         Ok(())
///     })
/// }
/// ```
pub fn listen_fds() -> io::Result<Vec<ListenFd>> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let [process, count, names] = VARIABLES.map(env::var_os);
    let (Some(process), Some(count)) = (process, count) else { return Ok(Vec::new()) };
    if *taken || number("LISTEN_PID", &process)? != i64::from(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS", &count)?;
    let end = RawFd::try_from(count).ok().filter(|count| *count >= 0).and_then(|count| FIRST.checked_add(count));
    let end = end.ok_or_else(|| refused(format!("LISTEN_FDS={count}: there cannot be so many")))?;
    // Before anything is made for so many: it ends at the first that is not there.
    for fd in FIRST..end {
        check(fd)?;
    }
    let names = names_of(names, count as usize)?;
    let mut sockets = Vec::with_capacity(names.len());
    for (fd, name) in (FIRST..end).zip(names) {
        // SAFETY: it is open, and whoever has started this process has left it to this process. Nobody here has asked for
        // it before, and nobody else will be told of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        sockets.push(ListenFd { fd, name });
    }
    *taken = true;
    forget();
    for socket in &sockets {
        retry_io(Call::Option, || SockRef::from(&socket.fd).set_cloexec(true))?;
    }
    Ok(sockets)
}

fn refused(text: String) -> io::Error {
    invalid_input(format!("listen_fds: {text}"))
}

fn number(variable: &str, value: &OsString) -> io::Result<i64> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| refused(format!("{variable}={value:?} is no number")))
}

/// As many names as there are sockets.
fn names_of(names: Option<OsString>, count: usize) -> io::Result<Vec<String>> {
    let Some(names) = names else { return Ok(vec![NO_NAME.to_owned(); count]) };
    let names = names.to_string_lossy();
    let names: Vec<String> = if count == 0 { Vec::new() } else { names.split(':').map(str::to_owned).collect() };
    if names.len() != count {
        return Err(refused(format!("LISTEN_FDNAMES={names:?}: {} names for {count} sockets", names.len())));
    }
    Ok(names)
}

/// It must be open, and a socket.
fn check(fd: RawFd) -> io::Result<()> {
    // SAFETY: the call looks at a number, whether it is a descriptor or not.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(refused(format!("descriptor {fd} is not open")));
    }
    // SAFETY: it is open, as has just been seen, and nobody but whoever is given it here knows of it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    kind(fd).map(drop).map_err(|error| refused(format!("descriptor {} is no socket: {error}", fd.as_raw_fd())))
}

/// Takes the variables out of the environment, if nobody can be reading it.
fn forget() {
    if !is_only_thread() {
        return;
    }
    for variable in VARIABLES {
        // SAFETY: there is no other thread which could read the environment, and none comes while this one is here.
        unsafe { env::remove_var(variable) };
    }
}

/// Whether this process has one thread only, as far as that can be known.
fn is_only_thread() -> bool {
    #[cfg(target_os = "linux")]
    return std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    #[cfg(not(target_os = "linux"))]
    false
}
