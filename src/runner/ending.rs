//! The orderly end of a loop, step by step.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::asyncgen::unfinished;
use crate::constants::END_ROUNDS;
use crate::error::{Fatal, PanicPayload, Stopped};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::unfinished::{Kind, Unfinished, Why};
use crate::protocol::{DatagramHandle, Transport};
use crate::reactor::slot::End;
use crate::runner::limit::EndLimit;
use crate::runner::tasks::{end_tasks, tasks};
use crate::sched::report::Exception;
use crate::time::yield_now;

/// The orderly end of a loop, in at most `bound`.
pub(super) fn finish(el: &EventLoop, bound: Duration) {
    if el.is_closed() {
        return;
    }
    el.core.ending.set(true);
    let limit = EndLimit::new(el, bound);
    let left = RefCell::new(Unfinished::default());
    for step in STEPS {
        let mut step = pin!(end_step(el, step, &limit, &left));
        // A step that panics itself, by what it calls of the application's, is over.
        let mut end = pin!(poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| step.as_mut().poll(cx))).unwrap_or_else(|payload| {
                report_panic(el, payload);
                Poll::Ready(())
            })
        }));
        // A callback that stops the loop or panics fatally cuts no step short: it goes on in another run.
        let mut panics = 0;
        // Where the loop's owner is somebody else, who has let go of it, there is nothing left to end.
        while panics < END_ROUNDS && !el.is_closed() {
            match catch_unwind(AssertUnwindSafe(|| el.run_until_complete(end.as_mut()))) {
                Ok(Ok(())) => break,
                Ok(Err(Stopped)) => {}
                Err(payload) => {
                    panics += 1;
                    report_panic(el, payload);
                }
            }
        }
    }
    if el.is_closed() {
        return;
    }
    let mut left = left.into_inner();
    tasks(el).for_each(|task| left.add_task(task));
    unfinished(el).into_iter().for_each(|generator| left.add(Kind::Generator, generator));
    left.report(el, if limit.is_over() { Why::Bound(bound) } else { Why::EverNew });
    el.close();
}

fn report_panic(el: &EventLoop, payload: PanicPayload) {
    let is_fatal = payload.is::<Fatal>();
    let context = ExceptionContext::new(if is_fatal {
        "Fatal panic while the loop was ending"
    } else {
        "Exception while the loop was ending"
    });
    el.call_exception_handler(&context.with_exception(Exception::Panic(&*payload)));
    el.core.local.dispose(payload);
}

/// The end of the connections may leave new tasks and generators behind.
const STEPS: [Step; 7] =
    [Step::Listeners, Step::Tasks, Step::Generators, Step::Connections, Step::Tasks, Step::Generators, Step::Executor];

#[derive(Clone, Copy)]
enum Step {
    Listeners,
    Tasks,
    /// After the tasks, which may iterate them, and drop them when they end.
    Generators,
    Connections,
    Executor,
}

async fn end_step(el: &EventLoop, step: Step, limit: &EndLimit, left: &RefCell<Unfinished>) {
    match step {
        // Connections are left alone: tasks that are about to be cancelled may have something to say on them.
        Step::Listeners => stop_accepting(el),
        Step::Tasks => end_tasks(el, limit, left).await,
        Step::Generators => {
            let mut closed = pin!(el.shutdown_asyncgens());
            // Those that are left after that are found at the end.
            limit.before(|cx| closed.as_mut().poll(cx)).await;
        }
        Step::Connections => end_connections(el, limit, left).await,
        Step::Executor => {
            let jobs = el.end_default_executor(Some(limit.wait())).await;
            jobs.into_iter().for_each(|job| left.borrow_mut().add(Kind::Job, job));
        }
    }
}

fn stop_accepting(el: &EventLoop) {
    let handlers = el.core.reactor.borrow().handlers();
    for handler in handlers {
        handler.stop_accepting();
    }
    el.core.services.stop_accepting();
}

/// Closes all connections, gives them until the limit to send what is queued, and aborts the rest.
async fn end_connections(el: &EventLoop, limit: &EndLimit, left: &RefCell<Unfinished>) {
    let end = |how| {
        let handlers = el.core.reactor.borrow().handlers();
        for handler in handlers {
            handler.end(how);
        }
        el.core.services.end(how);
    };
    end(End::Flush);
    if limit.before(|cx| el.core.poll_transports_gone(cx)).await {
        return;
    }
    find_connections(el, &mut left.borrow_mut());
    for _ in 0..END_ROUNDS {
        end(End::Now);
        yield_now().await;
        if el.stats().transports.live() == 0 {
            return;
        }
    }
}

/// Finds those that are still there.
fn find_connections(el: &EventLoop, left: &mut Unfinished) {
    let handlers = el.core.reactor.borrow().handlers();
    for subject in handlers.into_iter().filter_map(|handler| handler.unfinished()) {
        if let Some(transport) = subject.downcast_ref::<Transport>() {
            left.add(Kind::Connection, transport.clone());
        } else if let Some(handle) = subject.downcast_ref::<DatagramHandle>() {
            left.add(Kind::Connection, handle.clone());
        }
    }
    el.core.services.unfinished(left);
}
