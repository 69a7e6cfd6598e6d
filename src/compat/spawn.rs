//! The spawners of the `futures` crate.

use futures_task::{FutureObj, LocalFutureObj, LocalSpawn, Spawn, SpawnError};

use crate::event_loop::EventLoop;
use crate::event_loop::remote::Remote;

/// Tasks that nobody waits for, as [`create_task`](EventLoop::create_task) makes them: a panic is reported.
///
/// The errors say that the loop is closed.
///
/// ```
/// use std::rc::Rc;
///
/// use futures::task::LocalSpawnExt;
///
/// roundelay::block_on(async {
///     let el = roundelay::get_running_loop().unwrap();
///     let name = Rc::new("local");
///     let handle = el.spawn_local_with_handle(async move { name.len() }).unwrap();
///     assert_eq!(handle.await, 5);
/// });
/// ```
impl LocalSpawn for EventLoop {
    #[track_caller]
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status_local()?;
        drop(self.create_task(future));
        Ok(())
    }

    fn status_local(&self) -> Result<(), SpawnError> {
        if self.is_closed() { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}

/// As its `LocalSpawn`.
impl Spawn for EventLoop {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn_local_obj(future.into())
    }

    fn status(&self) -> Result<(), SpawnError> {
        self.status_local()
    }
}

/// Tasks that nobody waits for, from any thread, as [`Remote::spawn`] makes them: a panic is reported.
///
/// [`Remote::spawn`] comes before `SpawnExt::spawn`, which can be called by that name.
///
/// The errors say that the loop is closed. A future that the loop has not taken yet when it is closed is dropped there.
///
/// ```
/// use futures::task::SpawnExt;
///
/// let el = roundelay::EventLoop::new()?;
/// let remote = el.remote();
/// let thread = std::thread::spawn(move || remote.spawn_with_handle(async { 6 * 7 }).unwrap());
/// let handle = thread.join().unwrap();
/// assert_eq!(el.run_until_complete(handle), Ok(42));
/// # std::io::Result::Ok(())
/// ```
impl Spawn for Remote {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn(move || future).map(drop).map_err(|_| SpawnError::shutdown())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.is_closed() { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}
