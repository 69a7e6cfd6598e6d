//! How the scheduler tells of panics and lost errors without knowing the loop.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::error::panic_text;

/// Something that a report is about: a task, a handle, a transport and so on.
///
/// Implemented by everything that has `Debug` and no borrowed content.
pub trait Subject: Any + fmt::Debug {
    /// The subject as `Any`, for a downcast.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any + fmt::Debug> Subject for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What went wrong, as an exception handler sees it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Exception<'a> {
    /// The payload of a panic.
    Panic(&'a (dyn Any + Send)),
    /// An error.
    Error(&'a (dyn Error + 'static)),
}

impl fmt::Display for Exception<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => f.write_str(panic_text(*payload)),
            Self::Error(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Exception<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => f.debug_tuple("Panic").field(&panic_text(*payload)).finish(),
            Self::Error(error) => f.debug_tuple("Error").field(error).finish(),
        }
    }
}

/// One thing to tell the exception handler.
pub(crate) struct Problem<'a> {
    pub(crate) message: Cow<'a, str>,
    pub(crate) exception: Option<Exception<'a>>,
    pub(crate) subject: Option<Rc<dyn Subject>>,
    /// Where the subject was made by the user's code.
    pub(crate) created_at: Option<&'static Location<'static>>,
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_head(f, &self.message, self.exception)?;
        if let Some(subject) = &self.subject {
            write!(f, "\n  {subject:?}")?;
        }
        if let Some(place) = self.created_at {
            write!(f, "\n  created at {place}")?;
        }
        Ok(())
    }
}

/// A message and the exception that it is about, which is not said twice where the message ends with it.
pub(crate) fn write_head(f: &mut fmt::Formatter<'_>, message: &str, exception: Option<Exception<'_>>) -> fmt::Result {
    f.write_str(message)?;
    let Some(exception) = exception else { return Ok(()) };
    let reason = format!(": {exception}");
    if message.ends_with(&reason) { Ok(()) } else { f.write_str(&reason) }
}

/// Takes reports. The loop implements it.
pub(crate) trait Report {
    fn report(&self, problem: Problem<'_>);
}

/// Where the default handler, the warnings and the reports of a loop that is gone are written: to `tracing`, or to
/// stderr where no subscriber would take it.
pub(crate) fn emit(level: tracing::Level, text: &str) {
    macro_rules! emit_at {
        ($level:ident) => {
            if tracing::enabled!(target: "roundelay", tracing::Level::$level) {
                tracing::event!(target: "roundelay", tracing::Level::$level, "{text}");
                return;
            }
        };
    }
    if level == tracing::Level::ERROR {
        emit_at!(ERROR);
    } else {
        emit_at!(WARN);
    }
    // A closed stderr is no reason to fail.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("roundelay: {text}\n"));
}
