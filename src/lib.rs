//! asyncio's event loop for Rust.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod constants;
mod dns;
mod error;
mod event_loop;
mod executor;
mod net;
mod os;
mod protocol;
mod reactor;
mod sched;
mod transport;

pub use error::*;
pub use event_loop::exception::{ExceptionContext, ExceptionHandler};
pub use event_loop::remote::{Remote, RemoteHandle, RemoteTask};
pub use event_loop::running::get_running_loop;
pub use event_loop::stats::{Stats, Tally};
pub use event_loop::tasks::{TaskBuilder, TaskFactory, TaskFuture, TaskMeta};
pub use event_loop::{AbstractEventLoop, AbstractHandle, Builder, EventLoop, LoopKind, SelectorEventLoop};
pub use sched::active::{TaskId, TaskInfo, TaskState};
pub use sched::clock::{Clock, ManualClock, MonotonicClock};
pub use sched::context::{Context, ContextVar, Token};
pub use sched::future::{FutureInfo, LoopFuture, Take};
pub use sched::handle::{Handle, HandleInfo, TimerHandle};
pub use sched::join::{CallbackId, CancelOnDrop, Canceller, Outcome, Task};
pub use sched::report::{Exception, Subject};
