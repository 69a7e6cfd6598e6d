//! How the scheduler tells of panics and lost errors without knowing the loop.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::constants::MAX_CAUSES;
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
        write_report(f, &self.message, self.exception, self.subject.as_slice(), self.created_at)
    }
}

/// The text of a report: the message with what went wrong, the causes of that, what it is about, and where that was made.
/// Nothing is said twice: not a reason that the message ends with, a cause that the error's own text has, nor a place that
/// is in the text of what it is about.
pub(crate) fn write_report(
    f: &mut fmt::Formatter<'_>,
    message: &str,
    exception: Option<Exception<'_>>,
    subjects: &[Rc<dyn Subject>],
    created_at: Option<&'static Location<'static>>,
) -> fmt::Result {
    f.write_str(message)?;
    if let Some(exception) = exception {
        let mut reason = exception.to_string();
        if !message.ends_with(&format!(": {reason}")) {
            write!(f, ": {reason}")?;
        }
        let mut cause = match exception {
            Exception::Error(error) => error.source(),
            Exception::Panic(_) => None,
        };
        for _ in 0..MAX_CAUSES {
            let Some(error) = cause else { break };
            let text = error.to_string();
            if !reason.contains(&text) {
                write!(f, "\n  caused by: {text}")?;
                reason = text;
            }
            cause = error.source();
        }
    }
    let place = created_at.map(|place| place.to_string());
    let mut is_said = false;
    for subject in subjects {
        let text = format!("{subject:?}");
        is_said |= place.as_ref().is_some_and(|place| says(&text, place));
        write!(f, "\n  {text}")?;
    }
    match place {
        Some(place) if !is_said => write!(f, "\n  created at {place}"),
        _ => Ok(()),
    }
}

/// Whether a text names a place; the column is the end of it.
fn says(text: &str, place: &str) -> bool {
    text.split(place).skip(1).any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
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
