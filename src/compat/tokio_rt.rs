//! Futures that need a running tokio runtime.
//!
//! What a library of tokio's needs is a context, in which it finds tokio's reactor, timers and spawner: a thread-local of
//! tokio's, which is there for as long as the future is polled, and dropped. Behind it stands one runtime for the process,
//! with one thread, which waits for tokio's descriptors and timers and wakes our loop from there. Two runtimes that drive
//! each other on one thread were rejected: each has a wait of its own, and neither can be asked for the other's.

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime::{Builder, Handle};

use crate::os::fork::Home;

/// The runtime of the process, made when it is first needed. It is never shut down: its thread ends with the process.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

struct Shared {
    handle: Handle,
    /// In a child of `fork` there is no thread, and the runtime's descriptors are the parent's.
    home: Home,
}

/// The handle of the process's runtime.
fn shared() -> io::Result<Handle> {
    // No code of the application's runs under the lock. A child whose parent was just making the runtime waits for ever, as
    // it would for the allocator's lock.
    let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
    if let Some(shared) = shared.as_ref().filter(|shared| shared.home.is_here()) {
        return Ok(shared.handle.clone());
    }
    let handle = start()?;
    // The parent's is touched no more: its last handle would close what it shares.
    if let Some(inherited) = shared.replace(Shared { handle: handle.clone(), home: Home::here() }) {
        std::mem::forget(inherited);
    }
    Ok(handle)
}

/// Starts a runtime on a thread of its own.
fn start() -> io::Result<Handle> {
    let (made, is_made) = mpsc::sync_channel(1);
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().thread_name("tokio-blocking").build();
        match runtime {
            Ok(runtime) => {
                if made.send(Ok(runtime.handle().clone())).is_ok() {
                    runtime.block_on(pending::<()>());
                }
            }
            Err(error) => drop(made.send(Err(error))),
        }
    };
    thread::Builder::new().name("roundelay-tokio".to_owned()).spawn(run)?;
    is_made.recv().unwrap_or_else(|_| Err(io::Error::other("the runtime's thread has panicked")))
}

/// Runs a future that needs a tokio runtime, reqwest's for instance, on this loop.
///
/// The future is polled where it is awaited, so it need not be `Send`; each time, and when it is dropped, within the context
/// of a tokio runtime. There tokio's sockets, timers and `tokio::spawn` work. Several such futures share the runtime: one for
/// the process, with one thread named `roundelay-tokio`, started at the first call.
///
/// # What it costs
///
/// The thread waits for tokio's descriptors and timers, and sleeps where there are none. What it sees wakes the loop from
/// another thread: 5 to 50 microseconds each time, and two system calls. What the future does with sockets in between is done
/// on the loop's thread. What is given to `tokio::spawn` runs on `roundelay-tokio`, and must not block it;
/// `tokio::task::spawn_blocking` has threads of its own. Each call allocates a box for the future.
///
/// # How it ends
///
/// A panic of the future passes to whoever awaits it. Dropping it is clean: its descriptors and timers leave tokio's reactor.
/// What it has spawned goes on, as it does under tokio. The runtime is not shut down: when the process ends its thread does,
/// and holds up neither [`block_on`](crate::block_on) nor the return from `main`; what was spawned is not waited for then.
///
/// In a child of `fork` tokio's descriptors are the parent's. There a future that was made before is not polled any more (it
/// panics), and not dropped but leaked; the first call in the child makes a runtime of its own.
///
/// # Panics
///
/// If the runtime cannot be made, for want of descriptors or threads.
///
/// ```
/// use roundelay::compat;
/// use std::time::Duration;
///
/// roundelay::block_on(async {
///     let answer = compat::tokio(async {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         tokio::spawn(async { 42 }).await.unwrap()
///     });
///     assert_eq!(answer.await, 42);
/// });
/// ```
#[track_caller]
pub fn tokio<F: IntoFuture>(future: F) -> Tokio<F::IntoFuture> {
    match shared() {
        Ok(handle) => Tokio::new(handle, future.into_future()),
        Err(error) => panic!("compat::tokio(): the runtime cannot be made: {error}"),
    }
}

/// As [`tokio()`], in the context of a runtime of the application's own.
///
/// Somebody has to run it: a runtime of several threads does so by itself, one of the kind `current_thread` only while a
/// thread is in its `block_on`. The handle does not keep it from being shut down; tokio's sockets and timers fail then.
///
/// ```
/// use roundelay::compat;
/// use std::time::Duration;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let handle = runtime.handle().clone();
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let thread = std::thread::spawn(move || runtime.block_on(stopped));
///
/// roundelay::block_on(async {
///     compat::tokio_with(&handle, async { tokio::time::sleep(Duration::from_millis(1)).await }).await;
/// });
/// drop(stop);
/// # let _ = thread.join().unwrap();
/// # std::io::Result::Ok(())
/// ```
pub fn tokio_with<F: IntoFuture>(handle: &Handle, future: F) -> Tokio<F::IntoFuture> {
    Tokio::new(handle.clone(), future.into_future())
}

/// A future that runs in the context of a tokio runtime; see [`tokio()`] and [`tokio_with`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Tokio<F> {
    handle: Handle,
    home: Home,
    /// `None` once it is dropped. In a box, which can be leaked.
    future: Option<Pin<Box<F>>>,
}

impl<F> Tokio<F> {
    fn new(handle: Handle, future: F) -> Self {
        Self { handle, home: Home::here(), future: Some(Box::pin(future)) }
    }

    /// The runtime in whose context it is.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<F: Future> Future for Tokio<F> {
    type Output = F::Output;

    /// # Panics
    ///
    /// With the future's own panic; if it is polled after it was done; and in a child of `fork` that has inherited it.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        assert!(this.home.is_here(), "compat::tokio(): the future is that of a process that has forked this one");
        let future = this.future.as_mut().expect("compat::tokio(): polled after it was done");
        let context = this.handle.enter();
        let output = std::task::ready!(future.as_mut().poll(cx));
        // What it holds is released before its end is seen.
        this.future = None;
        drop(context);
        Poll::Ready(output)
    }
}

impl<F> Drop for Tokio<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        if !self.home.is_here() {
            // It would take the parent's descriptors out of the reactor that both share.
            return std::mem::forget(future);
        }
        // At the end of a thread there may be no context any more.
        let ends = Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
        let _context = (!ends).then(|| self.handle.enter());
        drop(future);
    }
}

impl<F> fmt::Debug for Tokio<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokio").field("is_done", &self.future.is_none()).finish_non_exhaustive()
    }
}
