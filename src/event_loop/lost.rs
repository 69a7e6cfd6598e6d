//! Panics and errors that nobody will look at, on their way to the loop from any thread.

use std::error::Error;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use crate::error::{PanicPayload, give_up_payload};
use crate::event_loop::exception::emit;
use crate::event_loop::job::lock;
use crate::event_loop::remote::Remote;
use crate::sched::Local;
use crate::sched::handle::HandleInfo;
use crate::sched::ran::Post;
use crate::sched::ready::RemoteJob;
use crate::sched::report::{Exception, Problem, Subject};
use crate::sched::unasked::report_error;

/// What was lost.
enum Loss {
    Panic(PanicPayload),
    /// What makes an error of it, which itself may be bound to one thread.
    Error(Box<dyn FnOnce() -> Box<dyn Error> + Send>),
}

/// Something that nobody will look at.
pub(crate) struct Lost {
    message: &'static str,
    loss: Mutex<Option<Loss>>,
    /// What it is about, where more than its place is known.
    subject: Option<HandleInfo>,
    created_at: &'static Location<'static>,
}

impl Lost {
    /// A panic.
    pub(crate) fn panic(
        message: &'static str,
        payload: PanicPayload,
        subject: Option<HandleInfo>,
        created_at: &'static Location<'static>,
    ) -> Self {
        Self { message, loss: Mutex::new(Some(Loss::Panic(payload))), subject, created_at }
    }

    /// An error.
    pub(crate) fn error(
        message: &'static str,
        error: impl FnOnce() -> Box<dyn Error> + Send + 'static,
        subject: Option<HandleInfo>,
        created_at: &'static Location<'static>,
    ) -> Self {
        Self { message, loss: Mutex::new(Some(Loss::Error(Box::new(error)))), subject, created_at }
    }

    fn subject(&self) -> Option<Rc<dyn Subject>> {
        self.subject.clone().map(|subject| Rc::new(subject) as _)
    }

    fn tell(&self, local: &Local) {
        let loss = lock(&self.loss).take();
        match loss {
            Some(Loss::Panic(payload)) => local.caught(self.message, payload, self.subject(), Some(self.created_at)),
            Some(Loss::Error(error)) => {
                report_error(local, self.message, error, self.subject(), Some(self.created_at));
            }
            None => {}
        }
    }

    /// Where nobody is left to be told. All of it is the application's, and may panic, to which there may be no end.
    fn log(&self) {
        let loss = lock(&self.loss).take();
        let logged = catch_unwind(AssertUnwindSafe(|| match loss {
            Some(Loss::Panic(payload)) => self.write(Exception::Panic(&*payload)),
            Some(Loss::Error(error)) => self.write(Exception::Error(&*error())),
            None => {}
        }));
        if let Err(second) = logged {
            give_up_payload(second);
        }
    }

    fn write(&self, exception: Exception<'_>) {
        let (message, subject, created_at) = (self.message.into(), self.subject(), Some(self.created_at));
        let problem = Problem { message, exception: Some(exception), subject, created_at };
        emit(tracing::Level::ERROR, &problem.to_string());
    }
}

impl RemoteJob for Lost {
    fn run(self: Arc<Self>, local: &Local) {
        self.tell(local);
    }

    fn close(self: Arc<Self>, local: &Local) {
        self.tell(local);
    }

    fn about(&self) -> Post {
        Post { method: "the report of a panic", origin: Some(("", self.created_at)) }
    }
}

impl Remote {
    /// Tells the loop's exception handler of what nobody will look at, from any thread; where the loop is gone, whoever
    /// reads the log.
    pub(crate) fn report_lost(&self, lost: Lost) {
        if let Some(local) = self.own_local() {
            return lost.tell(&local);
        }
        let lost = Arc::new(lost);
        if self.post_job(lost.clone()).is_err() {
            lost.log();
        }
    }
}
