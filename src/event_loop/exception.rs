//! The exception handler: who hears of panics that were caught and of errors that nobody asked for.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::constants::MAX_NESTED_REPORTS;
use crate::error::{give_up_payload, panic_text};
use crate::event_loop::{Core, EventLoop};
use crate::sched::future::FutureInfo;
use crate::sched::handle::HandleInfo;
use crate::sched::info::TaskInfo;
pub(crate) use crate::sched::report::emit;
use crate::sched::report::{Exception, Problem, Report, Subject, write_report};

/// A function that hears of what went wrong, given to [`EventLoop::set_exception_handler`].
pub type ExceptionHandler = Rc<dyn Fn(&EventLoop, &ExceptionContext<'_>)>;

/// What went wrong, and with what.
#[derive(Clone)]
#[non_exhaustive]
pub struct ExceptionContext<'a> {
    /// A sentence for people.
    pub message: Cow<'a, str>,
    /// The panic or the error, if it is about one.
    pub exception: Option<Exception<'a>>,
    /// Where what failed was made by the application.
    pub created_at: Option<&'static Location<'static>>,
    /// What failed, and what it belongs to; the accessors find things by their type.
    subjects: Vec<Rc<dyn Subject>>,
    /// More entries, by name.
    extra: Vec<(Cow<'a, str>, Rc<dyn Subject>)>,
}

impl<'a> ExceptionContext<'a> {
    /// A context with a message and nothing else.
    pub fn new(message: impl Into<Cow<'a, str>>) -> Self {
        let message = message.into();
        Self { message, exception: None, created_at: None, subjects: Vec::new(), extra: Vec::new() }
    }

    /// Adds the panic or the error.
    pub fn with_exception(mut self, exception: Exception<'a>) -> Self {
        self.exception = Some(exception);
        self
    }

    /// Adds the place where what failed was made.
    pub fn with_created_at(mut self, created_at: &'static Location<'static>) -> Self {
        self.created_at = Some(created_at);
        self
    }

    /// Adds something that it is about. [`subject`](Self::subject) finds it by its type.
    pub fn with_subject(self, subject: impl Subject) -> Self {
        self.with_shared_subject(Rc::new(subject))
    }

    pub(crate) fn with_shared_subject(mut self, subject: Rc<dyn Subject>) -> Self {
        self.subjects.push(subject);
        self
    }

    /// Adds an entry under a name of your own.
    pub fn with_extra(mut self, name: impl Into<Cow<'a, str>>, value: impl Subject) -> Self {
        self.extra.push((name.into(), Rc::new(value)));
        self
    }

    /// The first subject of this type.
    pub fn subject<S: Subject>(&self) -> Option<&S> {
        // `Rc<dyn Subject>` is a subject itself, so its content has to be named.
        self.subjects.iter().find_map(|subject| Subject::as_any(&**subject).downcast_ref())
    }

    /// All subjects.
    pub fn subjects(&self) -> impl Iterator<Item = &dyn Subject> {
        self.subjects.iter().map(|subject| &**subject)
    }

    /// The entry of this name.
    pub fn extra(&self, name: &str) -> Option<&dyn Subject> {
        self.extra.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The callback concerned.
    pub fn handle(&self) -> Option<&HandleInfo> {
        self.subject()
    }

    /// The task concerned.
    pub fn task(&self) -> Option<&TaskInfo> {
        self.subject()
    }

    /// The future concerned.
    pub fn future(&self) -> Option<&FutureInfo> {
        self.subject()
    }
}

impl fmt::Display for ExceptionContext<'_> {
    /// The message with the panic's or the error's text; then a line for each cause of the error, for each subject, for the
    /// place where what failed was made, and for each further entry, in the order of their names. Nothing is said twice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_report(f, &self.message, self.exception, &self.subjects, self.created_at)?;
        let mut extra: Vec<_> = self.extra.iter().collect();
        extra.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in extra {
            write!(f, "\n  {name}: {value:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExceptionContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExceptionContext")
            .field("message", &self.message)
            .field("exception", &self.exception)
            .field("created_at", &self.created_at.map(|place| place.to_string()))
            .field("subjects", &self.subjects)
            .field("extra", &self.extra)
            .finish()
    }
}

impl EventLoop {
    /// Sets who hears of what went wrong; `None` brings the default back.
    ///
    /// The handler is called on the loop's thread, in the context (see [`Context`](crate::Context)) of what failed.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::rc::Rc;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let seen = Rc::new(RefCell::new(Vec::new()));
    /// let log = seen.clone();
    /// el.set_exception_handler(Some(Rc::new(move |_el, context| {
    ///     log.borrow_mut().push(context.exception.unwrap().to_string());
    /// })));
    /// el.call_soon(|| panic!("oh no"));
    /// el.run_once(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(*seen.borrow(), ["oh no"]);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_exception_handler(&self, handler: Option<ExceptionHandler>) {
        drop(self.core.exception_handler.replace(handler));
    }

    /// The handler set by [`set_exception_handler`](Self::set_exception_handler); `None` where the default is in use.
    #[doc(alias = "get_exception_handler")]
    pub fn exception_handler(&self) -> Option<ExceptionHandler> {
        self.core.exception_handler.borrow().clone()
    }

    /// Writes the context as an error: to `tracing` (target `roundelay`), or to stderr where no subscriber takes it.
    ///
    /// The text is that of the context's `Display`:
    ///
    /// ```text
    /// Error in a task that nobody awaits: cannot save
    ///   caused by: No space left on device (os error 28)
    ///   <Task ended name="saver" id=12 polls=2 spawned at src/main.rs:31:14>
    /// ```
    ///
    /// In debug mode a context without a place of creation is followed by what is running.
    pub fn default_exception_handler(&self, context: &ExceptionContext<'_>) {
        let mut text = context.to_string();
        if self.debug() && context.created_at.is_none() {
            text.push_str(&self.core.while_running());
        }
        emit(tracing::Level::ERROR, &text);
    }

    /// Calls the handler, or the default one where none is set.
    ///
    /// A handler that panics is caught: the default one then hears of the panic and of the original context. A
    /// [`Fatal`](crate::Fatal) panic is not swallowed: it leaves `run_*` after the running callback. A report that the
    /// handler makes itself goes to the handler, too; where that does not end, the default one takes over.
    pub fn call_exception_handler(&self, context: &ExceptionContext<'_>) {
        let core = &self.core;
        if core.is_observed() {
            core.show_report(&context.message);
        }
        let depth = core.handling.get();
        let Some(handler) = self.exception_handler().filter(|_| depth < MAX_NESTED_REPORTS) else {
            return self.guarded_default(context);
        };
        core.handling.set(depth + 1);
        // It may have been replaced meanwhile, and its last handle be this one.
        let called = catch_unwind(AssertUnwindSafe(move || handler(self, context)));
        if let Some(payload) = called.err().and_then(|payload| core.local.take_fatal(payload)) {
            let mut broken = ExceptionContext::new("Unhandled error in exception handler")
                .with_exception(Exception::Panic(&*payload))
                .with_extra("context", Nested(text_of(context)));
            broken.created_at = context.created_at;
            self.guarded_default(&broken);
            core.local.dispose(payload);
        }
        core.handling.set(depth);
    }

    /// The default handler, and a last line where even that fails.
    fn guarded_default(&self, context: &ExceptionContext<'_>) {
        let written = catch_unwind(AssertUnwindSafe(|| self.default_exception_handler(context)));
        let Some(payload) = written.err().and_then(|payload| self.core.local.take_fatal(payload)) else { return };
        let (error, context) = (panic_text(&*payload), text_of(context));
        // Nothing that could fail again: not the subscriber, which may be what failed, nor the payload's destructor.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("roundelay: Error in the default exception handler: {error}\nwhile handling: {context}\n"),
        );
        give_up_payload(payload);
    }
}

/// The text of a context; its message alone where the application's own `Debug` or `Display` panics.
fn text_of(context: &ExceptionContext<'_>) -> String {
    catch_unwind(AssertUnwindSafe(|| context.to_string())).unwrap_or_else(|payload| {
        give_up_payload(payload);
        context.message.to_string()
    })
}

/// The text of a context inside of another one, not quoted.
struct Nested(String);

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Report for Core {
    fn report(&self, problem: Problem<'_>) {
        let Some(el) = self.me.upgrade().map(EventLoop::handle) else {
            return;
        };
        let mut context = ExceptionContext::new(problem.message);
        context.exception = problem.exception;
        context.created_at = problem.created_at;
        context.subjects.extend(problem.subject);
        el.call_exception_handler(&context);
    }
}
