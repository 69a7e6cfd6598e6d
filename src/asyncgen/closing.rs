//! The generators of a loop that have begun and not ended, and how they are brought to their end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::combine::lineup::Lineup;
use crate::constants::END_ROUNDS;
use crate::error::Closed;
use crate::event_loop::exception::{ExceptionContext, emit};
use crate::event_loop::services::Service;
use crate::event_loop::waiters::Waiter;
use crate::event_loop::{Core, EventLoop, running};
use crate::sched::report::Exception;

/// What is said of a generator that fails while it is being closed.
const FAILED: &str = "Exception in the cleanup of an async generator";

/// What is known of an [`AsyncGen`](crate::AsyncGen).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct AsyncGenInfo {
    /// Where it was made.
    pub created_at: &'static Location<'static>,
    /// The name of its items' type.
    pub item: &'static str,
}

impl fmt::Debug for AsyncGenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<AsyncGen of {} created at {}>", self.item, self.created_at)
    }
}

impl ExceptionContext<'_> {
    /// The async generator concerned.
    pub fn asyncgen(&self) -> Option<&AsyncGenInfo> {
        self.subject()
    }
}

/// A generator, not known by its type.
pub(super) trait Closable {
    fn info(&self) -> AsyncGenInfo;

    /// From now on it is to come to its end.
    fn close(&self);

    /// A place among those who bring it there.
    fn join(&self) -> Waiter;

    /// Goes on with that. Ready when the body is gone, or where it is the body that does this.
    fn poll_close(&self, closer: &Waiter, cx: &Context<'_>) -> Poll<()>;
}

enum Live {
    /// Somebody has it.
    Held(Weak<dyn Closable>),
    /// It was dropped, and is to be closed yet.
    Orphan(Rc<dyn Closable>),
}

impl Live {
    fn get(&self) -> Option<Rc<dyn Closable>> {
        match self {
            Self::Held(generator) => generator.upgrade(),
            Self::Orphan(generator) => Some(generator.clone()),
        }
    }
}

/// The generators of a loop that have begun and not ended.
pub(super) struct AsyncGens {
    core: Weak<Core>,
    /// By number, and so in the order in which they began.
    live: RefCell<BTreeMap<u64, Live>>,
    next_id: Cell<u64>,
    /// Whether they were all closed once: one that comes after that may not be any more.
    shut_down: Cell<bool>,
}

impl Service for AsyncGens {
    fn new(el: &EventLoop) -> Self {
        Self { core: el.core.me.clone(), live: RefCell::default(), next_id: Cell::new(0), shut_down: Cell::new(false) }
    }

    fn close(&self) {
        let live = self.live.take();
        let Some(core) = self.core.upgrade() else { return };
        for generator in live.into_values() {
            if let Some(generator) = generator.get() {
                let info = generator.info();
                core.resource_warning(format_args!("unclosed async generator {info:?}"), None);
            }
            core.local.dispose(generator);
        }
    }
}

impl AsyncGens {
    /// A generator begins. If a loop runs it is the one that will close it: gives the generator's number there.
    pub(super) fn enter(generator: Weak<dyn Closable>, info: AsyncGenInfo) -> Option<(Weak<Self>, u64)> {
        let core = running::current().filter(|core| core.is_open())?;
        let gens = core.service::<Self>(&EventLoop::handle(core.clone()));
        if gens.shut_down.get() {
            core.resource_warning(format_args!("{info:?} was first iterated after shutdown_asyncgens()"), None);
        }
        let id = gens.next_id.get();
        gens.next_id.set(id + 1);
        gens.live.borrow_mut().insert(id, Live::Held(generator));
        Some((Rc::downgrade(&gens), id))
    }

    /// A generator has ended.
    pub(super) fn leave(&self, id: u64) {
        let left = self.live.borrow_mut().remove(&id);
        drop(left);
    }

    /// A generator was dropped before its end: a task closes it. Should somebody end that task before, it is still here to
    /// be closed with the others. False on a loop that is closed or about to be.
    pub(super) fn adopt(&self, id: u64, generator: Rc<dyn Closable>) -> bool {
        let Some(core) = self.core.upgrade().filter(|core| core.is_open()) else { return false };
        self.live.borrow_mut().insert(id, Live::Orphan(generator.clone()));
        let place = generator.info().created_at;
        let closing = bring_to_its_end(core.me.clone(), generator);
        // A task factory may panic, and this is a destructor.
        core.local.guarded(|| {
            let el = EventLoop::handle(core.clone());
            drop(el.task_builder().name("aclose").eager(false).spawn_at(place, closing));
        });
        true
    }

    /// Those that began with this number or later.
    fn since(&self, first: u64) -> Vec<Rc<dyn Closable>> {
        self.live.borrow().range(first..).filter_map(|(_, live)| live.get()).collect()
    }
}

/// The generators of a loop that have not come to their end.
pub(crate) fn unfinished(el: &EventLoop) -> Vec<AsyncGenInfo> {
    if el.is_closed() {
        return Vec::new();
    }
    el.core.service::<AsyncGens>(el).since(0).iter().map(|generator| generator.info()).collect()
}

/// Closes a generator that nobody else will hear of: a panic is reported.
async fn bring_to_its_end(core: Weak<Core>, generator: Rc<dyn Closable>) {
    let closer = generator.join();
    let closed = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| generator.poll_close(&closer, cx))) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    });
    if let (Err(payload), Some(core)) = (closed.await, core.upgrade()) {
        let info = generator.info();
        core.local.caught(FAILED, payload, Some(Rc::new(info)), Some(info.created_at));
    }
}

/// Tells of an error that a body has ended with while it was being closed, unless that only passes on that it was.
pub(super) fn report_error(error: &(dyn Error + 'static), info: AsyncGenInfo) {
    if is_closed(error) {
        return;
    }
    let context = ExceptionContext::new(FAILED)
        .with_exception(Exception::Error(error))
        .with_created_at(info.created_at)
        .with_subject(info);
    match running::current() {
        Some(core) => EventLoop::handle(core).call_exception_handler(&context),
        None => emit(tracing::Level::ERROR, &context.to_string()),
    }
}

/// Whether an error is `Closed`, or comes of it.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    // Such an error says that the source of its content is its own.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(content) => is_closed(content),
        None => error.is::<Closed>() || error.source().is_some_and(is_closed),
    }
}

impl EventLoop {
    /// Brings all async generators that have begun in this loop to their end, at the same time, and waits for them, as
    /// [`AsyncGen::aclose`](crate::AsyncGen::aclose) does for one.
    ///
    /// One that panics, or fails, in what it cleans up is reported to the exception handler, and the others go on. Whoever
    /// iterates one of them sees its end. In debug mode there is a warning of each generator that begins after this was
    /// called.
    ///
    /// [`block_on`](crate::block_on) and [`Runner`](crate::Runner) do this at their end, within their bound.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use roundelay::{EventLoop, async_gen};
    ///
    /// let el = EventLoop::new()?;
    /// let mut items = async_gen(async |y| {
    ///     while y.emit("item").await.is_ok() {}
    ///     println!("cleaned up");
    ///     Ok(())
    /// });
    /// el.run_until_complete(async {
    ///     items.next().await;
    ///     el.shutdown_asyncgens().await;
    ///     assert_eq!(items.next().await, None);
    /// })
    /// .unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn shutdown_asyncgens(&self) {
        if self.is_closed() {
            return;
        }
        let gens = self.core.service::<AsyncGens>(self);
        gens.shut_down.set(true);
        let mut first = 0;
        // What they held and what they begin on their way out comes after them, but not for ever.
        for _ in 0..END_ROUNDS {
            let generators = gens.since(first);
            first = gens.next_id.get();
            if generators.is_empty() {
                return;
            }
            for generator in &generators {
                self.core.local.guarded(|| generator.close());
            }
            let core = &self.core.me;
            all(generators.into_iter().map(|generator| bring_to_its_end(core.clone(), generator))).await;
        }
    }
}

/// Waits for all of the futures at the same time.
async fn all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<Option<Pin<Box<F>>>> = futures.map(|future| Some(Box::pin(future))).collect();
    let (lineup, mut left) = (Lineup::new(futures.len()), futures.len());
    poll_fn(|cx| {
        for _ in 0..lineup.wait(cx) {
            let Some((number, waker)) = lineup.next() else { break };
            let Some(future) = &mut futures[number] else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                futures[number] = None;
                left -= 1;
            }
        }
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}
