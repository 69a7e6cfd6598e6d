//! The orderly end of a loop, step by step.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::constants::END_ROUNDS;
use crate::error::Stopped;
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::reactor::slot::End;
use crate::runner::limit::EndLimit;
use crate::sched::report::Exception;
use crate::time::yield_now;

/// The orderly end of a loop, in at most `bound`.
pub(super) fn finish(el: &EventLoop, bound: Duration) {
    if el.is_closed() {
        return;
    }
    let limit = EndLimit::new(el, bound);
    for step in [Step::Listeners, Step::Tasks, Step::Connections, Step::Tasks, Step::Executor] {
        // A callback that stops the loop or panics fatally cuts no step short: it goes on in another run.
        let mut end = pin!(end_step(el, step, &limit));
        let mut panics = 0;
        while panics < END_ROUNDS {
            match catch_unwind(AssertUnwindSafe(|| el.run_until_complete(end.as_mut()))) {
                Ok(Ok(())) => break,
                Ok(Err(Stopped)) => {}
                Err(payload) => {
                    panics += 1;
                    let context = ExceptionContext::new("Fatal panic while the loop was ending");
                    el.call_exception_handler(&context.with_exception(Exception::Panic(&*payload)));
                    el.core.local.dispose(payload);
                }
            }
        }
    }
    el.close();
}

#[derive(Clone, Copy)]
enum Step {
    Listeners,
    Tasks,
    Connections,
    Executor,
}

async fn end_step(el: &EventLoop, step: Step, limit: &EndLimit) {
    match step {
        // Connections are left alone: tasks that are about to be cancelled may have something to say on them.
        Step::Listeners => stop_accepting(el),
        Step::Tasks => cancel_tasks(el, limit).await,
        Step::Connections => end_connections(el, limit).await,
        Step::Executor => {
            el.end_default_executor(Some(limit.wait()), limit.bound).await;
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

/// Cancels all tasks but the one that runs this, and waits until their futures are dropped. What is left after that, for
/// another thread spawns on and on, ends when the loop is closed.
async fn cancel_tasks(el: &EventLoop, limit: &EndLimit) {
    for _ in 0..END_ROUNDS {
        let tasks: Vec<_> = el.all_tasks().into_iter().filter(|task| !task.is_root).collect();
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            task.cancel();
        }
        yield_now().await;
        if limit.is_over() {
            return;
        }
    }
}

/// Closes all connections, gives them until the limit to send what is queued, and aborts the rest.
async fn end_connections(el: &EventLoop, limit: &EndLimit) {
    let end = |how| {
        let handlers = el.core.reactor.borrow().handlers();
        for handler in handlers {
            handler.end(how);
        }
        el.core.services.end(how);
    };
    end(End::Flush);
    let mut over = pin!(limit.wait());
    let in_time = poll_fn(|cx| match el.core.poll_transports_gone(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => over.as_mut().poll(cx).map(|()| false),
    });
    if in_time.await {
        return;
    }
    for _ in 0..END_ROUNDS {
        end(End::Now);
        yield_now().await;
        if el.stats().transports.live() == 0 {
            return;
        }
    }
}
