//! Errors of misuse and of ended work. I/O keeps [`std::io::Error`] with the operating system's code.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

/// A plain unit error: the type says everything, the text names the remedy.
macro_rules! unit_error {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl Error for $name {}

        impl From<$name> for io::Error {
            fn from(error: $name) -> Self {
                io::Error::new(io::ErrorKind::$kind, error)
            }
        }
    };
}

unit_error! {
    /// No event loop is running on this thread.
    NoRunningLoop, Other, "no running event loop on this thread"
}

unit_error! {
    /// The event loop is closed, or is closing just now.
    LoopClosed, Other, "event loop is closed"
}

unit_error! {
    /// [`run_until_complete`](crate::EventLoop::run_until_complete) was left by a `stop()` before its future was done.
    Stopped, Other, "event loop stopped before the future completed"
}

unit_error! {
    /// The future was cancelled.
    Cancelled, Interrupted, "cancelled"
}

unit_error! {
    /// The time given to [`timeout`](crate::timeout) or [`timeout_at`](crate::timeout_at) is over.
    #[doc(alias = "TimeoutError")]
    TimedOut, TimedOut, "timed out"
}

/// An operation that does not fit the state of a future, a server or a stream.
///
/// The text names the method that was called and the state that forbids it.
#[doc(alias = "InvalidStateError")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidState {
    /// What was called and why it could not be.
    text: Cow<'static, str>,
}

impl InvalidState {
    /// An error with this text.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for InvalidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for InvalidState {}

impl From<InvalidState> for io::Error {
    fn from(error: InvalidState) -> Self {
        io::Error::other(error)
    }
}

/// The system cannot send this file to this transport or socket by itself, and the way by reading and writing was
/// excluded.
///
/// Given by [`EventLoop::sendfile`](crate::EventLoop::sendfile) and [`sock_sendfile`](crate::EventLoop::sock_sendfile)
/// with `fallback(false)`, inside an [`io::Error`] of kind `Unsupported`, from which [`get_ref`](io::Error::get_ref) and a
/// downcast bring it back. Nothing was sent.
#[doc(alias = "SendfileNotAvailableError")]
#[derive(Debug)]
pub struct SendfileNotAvailable {
    /// What stands against it.
    reason: Cow<'static, str>,
    /// The system's own error, if it was asked.
    source: Option<io::Error>,
}

impl SendfileNotAvailable {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// The system has said so.
    pub(crate) fn refused(source: io::Error) -> Self {
        Self { reason: "the sendfile call failed".into(), source: Some(source) }
    }
}

impl fmt::Display for SendfileNotAvailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sendfile is not available: {}", self.reason)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for SendfileNotAvailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<SendfileNotAvailable> for io::Error {
    fn from(error: SendfileNotAvailable) -> Self {
        io::Error::new(io::ErrorKind::Unsupported, error)
    }
}

/// Why awaiting or reading a [`LoopFuture`](crate::LoopFuture) gave no value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FutureError {
    /// The future was cancelled.
    #[doc(alias = "CancelledError")]
    Cancelled,
    /// The error given to [`set_exception`](crate::LoopFuture::set_exception).
    Exception(Rc<dyn Error>),
    /// The future is not done yet, its value was taken before, or it belongs to another loop.
    InvalidState(InvalidState),
}

impl FutureError {
    /// Whether the future was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl fmt::Display for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("future was cancelled"),
            Self::Exception(error) => error.fmt(f),
            Self::InvalidState(error) => error.fmt(f),
        }
    }
}

impl Error for FutureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled => None,
            Self::Exception(error) => Some(&**error),
            Self::InvalidState(error) => Some(error),
        }
    }
}

impl From<FutureError> for io::Error {
    fn from(error: FutureError) -> Self {
        match error {
            FutureError::Cancelled => Cancelled.into(),
            // The exception is an `Rc`, which an `io::Error` cannot carry: its text has to do.
            FutureError::Exception(error) => io::Error::other(error.to_string()),
            FutureError::InvalidState(error) => error.into(),
        }
    }
}

/// What a panic carried.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// The text of a panic's payload, where it has one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else if let Some(Fatal(payload)) = payload.downcast_ref::<Fatal>() {
        panic_text(&**payload)
    } else {
        "a panic without a text"
    }
}

/// Lets go of a payload whose destructor must not run, for it could be the next to panic. A plain text has none to fear.
pub(crate) fn give_up_payload(payload: PanicPayload) {
    if !payload.is::<&'static str>() && !payload.is::<String>() {
        std::mem::forget(payload);
    }
}

/// Why a task, callback or blocking job gave no value.
pub struct JoinError {
    repr: Repr,
}

enum Repr {
    Cancelled,
    /// A `Mutex` makes the error `Sync`, which the payload is not. Boxed, because each task has room for an error.
    Panic(Box<Mutex<PanicPayload>>),
    /// A panic with a [`Fatal`], which has left the loop.
    Fatal,
    /// A child of a task group, which has the error.
    Failed,
    /// A child of a task group, which has the payload. Here is its text in the place of it.
    PanicOfChild(Box<Mutex<PanicPayload>>),
    Closed,
}

/// What stands for the payload of a panic that has left the loop.
const FATAL: &str = "a fatal panic, which has left the event loop";

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self { repr: Repr::Cancelled }
    }

    pub(crate) fn closed() -> Self {
        Self { repr: Repr::Closed }
    }

    pub(crate) fn panic(payload: PanicPayload) -> Self {
        Self { repr: Repr::Panic(Box::new(Mutex::new(payload))) }
    }

    /// Of a panic whose payload unwinds out of the loop's run.
    pub(crate) fn fatal() -> Self {
        Self { repr: Repr::Fatal }
    }

    /// Of a child whose task group has its error.
    pub(crate) fn failed() -> Self {
        Self { repr: Repr::Failed }
    }

    /// Of a child whose task group has the payload of its panic.
    pub(crate) fn panic_of_child(payload: &(dyn Any + Send)) -> Self {
        let text: PanicPayload = Box::new(panic_text(payload).to_owned());
        Self { repr: Repr::PanicOfChild(Box::new(Mutex::new(text))) }
    }

    /// Whether it is about something that somebody else hears of.
    pub(crate) fn is_heard_elsewhere(&self) -> bool {
        matches!(self.repr, Repr::Fatal | Repr::Failed | Repr::PanicOfChild(_))
    }

    /// Whether it was cancelled before it ended.
    #[doc(alias = "CancelledError")]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.repr, Repr::Cancelled)
    }

    /// Whether it panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.repr, Repr::Panic(_) | Repr::Fatal | Repr::PanicOfChild(_))
    }

    /// Whether it is a child of a [`TaskGroup`](crate::TaskGroup) that gave an error. The error itself is with the
    /// group.
    pub fn is_failed(&self) -> bool {
        matches!(self.repr, Repr::Failed)
    }

    /// Whether the loop (or the executor) was closed before it could end, or before it was scheduled.
    pub fn is_closed(&self) -> bool {
        matches!(self.repr, Repr::Closed)
    }

    /// The payload of the panic, to be resumed with [`std::panic::resume_unwind`]; a text in the place of a [`Fatal`],
    /// which has left the loop, and of one that a [`TaskGroup`](crate::TaskGroup) has.
    ///
    /// # Panics
    ///
    /// If [`is_panic`](Self::is_panic) is false.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("JoinError::into_panic() called, but the error is: {error}"),
        }
    }

    /// The payload of the panic, or the error itself where there was none.
    ///
    /// # Errors
    ///
    /// The error unchanged, if it is not about a panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, Self> {
        match self.repr {
            Repr::Panic(payload) | Repr::PanicOfChild(payload) => {
                Ok(payload.into_inner().unwrap_or_else(|poison| poison.into_inner()))
            }
            Repr::Fatal => Ok(Box::new(FATAL)),
            repr => Err(Self { repr }),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Cancelled => f.write_str("cancelled"),
            Repr::Closed => f.write_str("event loop is closed"),
            Repr::Fatal => write!(f, "panicked: {FATAL}"),
            Repr::Failed => f.write_str("failed: the task group has the error"),
            Repr::Panic(payload) | Repr::PanicOfChild(payload) => {
                let payload = payload.lock().unwrap_or_else(|poison| poison.into_inner());
                write!(f, "panicked: {}", panic_text(&**payload))
            }
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        let kind = if error.is_cancelled() { io::ErrorKind::Interrupted } else { io::ErrorKind::Other };
        io::Error::new(kind, error)
    }
}

/// Why a [`Runner`](crate::Runner)'s `run` gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The loop was stopped before the future was done.
    Stopped,
    /// The main task was cancelled.
    Cancelled,
    /// It was cancelled because of Ctrl-C: see
    /// [`RunnerBuilder::cancel_on_interrupt`](crate::RunnerBuilder::cancel_on_interrupt).
    Interrupted,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => Stopped.fmt(f),
            Self::Cancelled => f.write_str("the main task was cancelled"),
            Self::Interrupted => f.write_str("the main task was interrupted by SIGINT"),
        }
    }
}

impl Error for RunError {}

impl From<RunError> for io::Error {
    fn from(error: RunError) -> Self {
        io::Error::new(io::ErrorKind::Interrupted, error)
    }
}

/// The peer closed the stream before what was asked for had arrived. Nothing is lost: the bytes are here.
#[doc(alias = "IncompleteReadError")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteRead {
    /// What had arrived; it is no longer in the reader.
    pub partial: Vec<u8>,
    /// How many bytes were asked for; `None` where a separator was.
    pub expected: Option<usize>,
}

impl fmt::Display for IncompleteRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(n) => write!(f, "{} bytes read on a total of {n} expected bytes", self.partial.len()),
            None => write!(f, "{} bytes read and the stream ended without a separator", self.partial.len()),
        }
    }
}

impl Error for IncompleteRead {}

impl From<IncompleteRead> for io::Error {
    fn from(error: IncompleteRead) -> Self {
        io::Error::new(io::ErrorKind::UnexpectedEof, error)
    }
}

/// A separator was not found within the reader's limit.
///
/// From [`readuntil`](crate::StreamReader::readuntil) nothing is lost: the bytes stay in the reader.
/// [`readline`](crate::StreamReader::readline) and [`lines`](crate::StreamReader::lines) have dropped the line, or what has
/// arrived of it, and go on behind that.
#[doc(alias = "LimitOverrunError")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOverrun {
    /// How many bytes, at least, are in the way: to be read to get past the overrun, where they are still there.
    pub consumed: usize,
    /// Whether the separator was found, but beyond the limit.
    pub found: bool,
}

impl fmt::Display for LimitOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found {
            write!(f, "separator is found, but chunk of {} bytes is longer than limit", self.consumed)
        } else {
            write!(f, "separator is not found within {} bytes, and chunk exceeds the limit", self.consumed)
        }
    }
}

impl Error for LimitOverrun {}

impl From<LimitOverrun> for io::Error {
    fn from(error: LimitOverrun) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// What could not be done with an address, and why.
///
/// Found inside of an [`io::Error`] of the same kind by [`get_ref`](io::Error::get_ref) and a downcast; the operating
/// system's code is in [`error`](Self::error).
#[derive(Debug)]
pub struct AddressError {
    /// What was tried: `connect to`, `bind on` or `listen on`.
    pub action: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// The operating system's error.
    pub error: io::Error,
}

impl AddressError {
    pub(crate) fn wrap(action: &'static str, address: SocketAddr, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self { action, address, error })
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action, self.address, self.error)
    }
}

impl Error for AddressError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Which program could not be started, and why.
///
/// Found inside of an [`io::Error`] of the same kind by [`get_ref`](io::Error::get_ref) and a downcast; the operating
/// system's code is in [`error`](Self::error).
#[derive(Debug)]
pub struct StartError {
    /// The program, as it was to be found.
    pub program: OsString,
    /// The directory in which it was to begin, if that was said. The system does not tell which of the two it has missed.
    pub current_dir: Option<PathBuf>,
    /// The operating system's error.
    pub error: io::Error,
}

impl StartError {
    pub(crate) fn wrap(command: &Command, error: io::Error) -> io::Error {
        let program = command.get_program().to_owned();
        let current_dir = command.get_current_dir().map(Path::to_owned);
        io::Error::new(error.kind(), Self { program, current_dir, error })
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {:?}", self.program)?;
        if let Some(dir) = &self.current_dir {
            write!(f, " in {dir:?}")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// What kind of thing the resolver could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResolveErrorKind {
    /// There is no such host, or it has no address of the family asked for.
    UnknownName,
    /// There is no such service, or not for this type of socket.
    UnknownService,
    /// No name server could be reached, or none had an answer this time.
    Temporary,
    /// A name server has failed.
    Failed,
    /// The family, the type of socket, the protocol or the flags asked for are not supported, or do not go together.
    Unsupported,
    /// There is not enough memory.
    OutOfMemory,
    /// The operating system's: see [`ResolveError::os_error`].
    System,
    /// What else there may be.
    Other,
}

/// A name has no address, or an address no name, as far as the resolver knows.
///
/// Found inside of an [`io::Error`] by [`get_ref`](io::Error::get_ref) and a downcast. That one is of kind `NotFound` for
/// an unknown name or service, `Unsupported` and `OutOfMemory` for those, the operating system's for its errors, else
/// `Other`.
///
/// ```
/// use roundelay::{AddrInfoFlags, ResolveError, ResolveErrorKind};
///
/// roundelay::block_on(async {
///     let el = roundelay::get_running_loop().unwrap();
///     let error = el.getaddrinfo("not-a-number", 80).flags(AddrInfoFlags::NUMERICHOST).await.unwrap_err();
///     let error: &ResolveError = error.get_ref().unwrap().downcast_ref().unwrap();
///     assert_eq!(error.kind(), ResolveErrorKind::UnknownName);
///     assert!(error.to_string().starts_with("cannot resolve \"not-a-number\": "));
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    /// What was looked up, as it stands in the text.
    subject: String,
    kind: ResolveErrorKind,
    code: i32,
    os_error: Option<i32>,
    message: String,
}

impl ResolveError {
    /// `system` is the operating system's error, where there is one.
    pub(crate) fn wrap(
        subject: String,
        kind: ResolveErrorKind,
        code: i32,
        system: Option<&io::Error>,
        message: String,
    ) -> io::Error {
        let io_kind = match kind {
            ResolveErrorKind::UnknownName | ResolveErrorKind::UnknownService => io::ErrorKind::NotFound,
            ResolveErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ResolveErrorKind::OutOfMemory => io::ErrorKind::OutOfMemory,
            _ => system.map_or(io::ErrorKind::Other, io::Error::kind),
        };
        let os_error = system.and_then(io::Error::raw_os_error);
        io::Error::new(io_kind, Self { subject, kind, code, os_error, message })
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ResolveErrorKind {
        self.kind
    }

    /// The number that `getaddrinfo` or `getnameinfo` gave: one of the `EAI_` of `<netdb.h>`.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The operating system's code, where the kind is [`System`](ResolveErrorKind::System).
    pub fn os_error(&self) -> Option<i32> {
        self.os_error
    }

    /// What the resolver says, without what was looked up.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {}: {}", self.subject, self.message)
    }
}

impl Error for ResolveError {}

/// Every address was tried and none worked; one error for each attempt, in the order of the attempts.
///
/// Given by [`create_connection`](crate::EventLoop::create_connection) with `all_errors(true)` inside an
/// [`io::Error`], from which [`get_ref`](io::Error::get_ref) and a downcast bring it back.
#[derive(Debug)]
pub struct ConnectErrors {
    /// What each attempt said; never empty.
    pub errors: Vec<io::Error>,
}

impl fmt::Display for ConnectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("create_connection failed: ")?;
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for ConnectErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(|error| error as _)
    }
}

/// An error that is given out again and again: the operating system's code is kept, that the loop was closed, and what is
/// of TLS; of other errors kind and text.
#[derive(Clone, Debug)]
pub(crate) enum LastingError {
    Os(i32),
    LoopClosed,
    #[cfg(feature = "__tls")]
    Tls(rustls::Error),
    Other(io::ErrorKind, Rc<str>),
}

impl LastingError {
    pub(crate) fn new(error: &io::Error) -> Self {
        #[cfg(feature = "__tls")]
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            return Self::Tls(error.clone());
        }
        match error.raw_os_error() {
            Some(code) => Self::Os(code),
            None if error.get_ref().is_some_and(|error| error.is::<LoopClosed>()) => Self::LoopClosed,
            None => Self::Other(error.kind(), error.to_string().into()),
        }
    }

    pub(crate) fn get(&self) -> io::Error {
        match self {
            Self::Os(code) => io::Error::from_raw_os_error(*code),
            Self::LoopClosed => LoopClosed.into(),
            #[cfg(feature = "__tls")]
            Self::Tls(error) => invalid_data(error.clone()),
            Self::Other(kind, text) => io::Error::new(*kind, &**text),
        }
    }
}

/// An [`io::Error`] for bad arguments, which names the method.
pub(crate) fn invalid_input(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// An [`io::Error`] for what a peer must not send.
#[cfg(feature = "__tls")]
pub(crate) fn invalid_data(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// An error of the operating system's, with the name of the method in front.
pub(crate) fn of_method(method: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{method}: {error}"))
}

/// The panic of a protocol callback as the `io::Error` that `connection_lost` gets.
pub(crate) fn callback_panicked(callback: &str, payload: &(dyn Any + Send)) -> io::Error {
    io::Error::other(format!("{callback} panicked: {}", panic_text(payload)))
}

/// An async generator is to come to its end: nobody will take what its body [emits](crate::Emitter::emit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the async generator is being closed")
    }
}

impl Error for Closed {}

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        Self::other(closed)
    }
}

/// A payload for [`std::panic::panic_any`] that no callback's guard swallows.
///
/// The loop catches the panics of callbacks, tasks and protocols and reports them. A panic that carries a `Fatal`
/// is the exception, as `KeyboardInterrupt` and `SystemExit` are in asyncio: it unwinds out of `run_forever`,
/// `run_until_complete` or `run_once`, is not reported, and leaves the loop usable: what was queued runs in the next run.
/// Whoever awaits what died is told that it panicked, by a [`JoinError`] that has a text in the place of the payload. One
/// from outside of a run, in a destructor say, leaves the next run. Where two come in one step the second is reported as
/// any other panic, and so is one that finds the loop closing or closed.
///
/// ```
/// use roundelay::{EventLoop, Fatal};
/// use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
///
/// let el = EventLoop::new()?;
/// el.call_soon(|| panic_any(Fatal::new(7_i32)));
/// let payload = catch_unwind(AssertUnwindSafe(|| el.run_forever())).unwrap_err();
/// assert_eq!(payload.downcast::<Fatal>().unwrap().0.downcast_ref::<i32>(), Some(&7));
/// assert!(!el.is_closed());
/// # std::io::Result::Ok(())
/// ```
pub struct Fatal(
    /// What the panic is about: anything that the catcher expects.
    pub Box<dyn Any + Send>,
);

impl Fatal {
    /// A fatal payload around any value.
    pub fn new(payload: impl Any + Send) -> Self {
        Self(Box::new(payload))
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fatal({})", panic_text(&*self.0))
    }
}

/// The text of the report about jobs that outlived the executor's bound.
pub(crate) fn executor_overrun(jobs: usize, bound: Duration) -> String {
    format!("the default executor did not finish within {bound:?}: {jobs} job(s) abandoned")
}
