//! asyncio's loop policies, and the loop that a thread has set as its own. Thin: most programs need none of it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::{Arc, OnceLock, RwLock};

use crate::event_loop::{EventLoop, running};

/// Decides how loops are made and which one a thread has.
///
/// The process has one policy, so it is `Send + Sync`; the loops that it hands out belong to the thread that asks.
#[doc(alias = "AbstractEventLoopPolicy")]
pub trait EventLoopPolicy: Send + Sync + 'static {
    /// The loop of this thread; it is made and set if there is none.
    ///
    /// # Errors
    ///
    /// If no loop can be made, or the thread is ending.
    fn get_event_loop(&self) -> io::Result<EventLoop> {
        let ending = |_| io::Error::other("get_event_loop(): the thread is ending");
        let set = CURRENT.try_with(|current| current.borrow().as_ref().map(EventLoop::clone)).map_err(ending)?;
        // One that a child of `fork` has inherited is its parent's.
        if let Some(el) = set.filter(|el| !el.core.is_inherited()) {
            return Ok(el);
        }
        let el = self.new_event_loop()?;
        let handle = el.clone();
        self.set_event_loop(Some(el));
        Ok(handle)
    }

    /// Sets the loop of this thread. On a thread that is ending there is nothing left to set: a loop that is given is
    /// dropped.
    fn set_event_loop(&self, el: Option<EventLoop>) {
        let before = CURRENT.try_with(|current| current.replace(el));
        drop(before);
    }

    /// Makes a loop, which is not set.
    ///
    /// # Errors
    ///
    /// If no loop can be made.
    fn new_event_loop(&self) -> io::Result<EventLoop> {
        EventLoop::new()
    }
}

/// The policy that is in force until another one is set: [`EventLoop::new`], and one loop per thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultEventLoopPolicy;

impl EventLoopPolicy for DefaultEventLoopPolicy {}

thread_local! {
    /// The loop that the thread has set.
    static CURRENT: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

fn policy() -> &'static RwLock<Arc<dyn EventLoopPolicy>> {
    static POLICY: OnceLock<RwLock<Arc<dyn EventLoopPolicy>>> = OnceLock::new();
    POLICY.get_or_init(|| RwLock::new(Arc::new(DefaultEventLoopPolicy)))
}

/// The policy of the process.
pub fn get_event_loop_policy() -> Arc<dyn EventLoopPolicy> {
    policy().read().unwrap_or_else(|poison| poison.into_inner()).clone()
}

/// Sets the policy of the process; `None` brings the default one back.
pub fn set_event_loop_policy(new: Option<Arc<dyn EventLoopPolicy>>) {
    let new = new.unwrap_or_else(|| Arc::new(DefaultEventLoopPolicy));
    let before = std::mem::replace(&mut *policy().write().unwrap_or_else(|poison| poison.into_inner()), new);
    // With nothing locked: its destructor may look at the policy.
    drop(before);
}

/// The running loop of this thread; where none runs, the one that is set; where none is set, a new one, which is set.
///
/// In a task or callback, [`get_running_loop`](crate::get_running_loop) says the same without these choices.
///
/// # Errors
///
/// If no loop can be made, or the thread is ending.
///
/// ```
/// use roundelay::policy;
///
/// let el = policy::get_event_loop()?;
/// assert_eq!(el.run_until_complete(async { 1 + 1 }), Ok(2));
/// assert_eq!(policy::get_event_loop()?.id(), el.id());
/// policy::set_event_loop(None); // drops the owner, which closes the loop
/// assert!(el.is_closed());
/// # std::io::Result::Ok(())
/// ```
pub fn get_event_loop() -> io::Result<EventLoop> {
    match running::current() {
        Some(core) => Ok(EventLoop::handle(core)),
        None => get_event_loop_policy().get_event_loop(),
    }
}

/// Sets the loop of this thread. A value that owns its loop is kept, and closed when another one is set or the thread
/// ends.
pub fn set_event_loop(el: Option<EventLoop>) {
    get_event_loop_policy().set_event_loop(el);
}

/// Makes a loop by the policy of the process. It is not set.
///
/// # Errors
///
/// If no loop can be made.
#[track_caller]
pub fn new_event_loop() -> io::Result<EventLoop> {
    let el = get_event_loop_policy().new_event_loop()?;
    // Between here and there is the policy.
    el.core.created_at.set(Location::caller());
    Ok(el)
}

impl fmt::Debug for dyn EventLoopPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventLoopPolicy")
    }
}
