//! Tasks and futures of a loop, and what is known of them.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::JoinError;
use crate::event_loop::{Core, EventLoop};
use crate::sched::active::TaskId;
use crate::sched::context::{self, Context, Slot};
use crate::sched::future::LoopFuture;
use crate::sched::info::TaskInfo;
use crate::sched::join::Task;
use crate::sched::span;
use crate::sched::task::{self, Always, NewTask, drop_caught};

/// A boxed future of this thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// The future of a task as a factory sees it. Its output goes to the task by another way.
pub type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What a factory may know of the task that it is asked to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskMeta {
    /// The task's number.
    pub id: TaskId,
    /// The name given to it, if one was.
    pub name: Option<Rc<str>>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
}

/// A function that may wrap the future of each new task, given to [`EventLoop::set_task_factory`].
///
/// A wrapper that ends without having polled the future to its end leaves the task cancelled.
pub type TaskFactory = Rc<dyn Fn(&EventLoop, TaskFuture, &TaskMeta) -> TaskFuture>;

impl EventLoop {
    /// A future that you complete by [`set_result`](LoopFuture::set_result). It works on a closed loop, too.
    #[track_caller]
    pub fn create_future<T>(&self) -> LoopFuture<T> {
        LoopFuture::new(self.core.local.clone(), Location::caller())
    }

    /// Makes a task of a future. It starts in the next turn, in a copy of the current [`Context`](crate::Context); at
    /// once if the loop makes [eager tasks](Self::set_eager_tasks).
    ///
    /// On a closed loop the future is dropped unpolled, the task is done with
    /// [`JoinError::is_closed`](crate::JoinError::is_closed), and the exception handler is told.
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let task = el.create_task(async { "done" });
    /// assert_eq!(el.run_until_complete(task).unwrap().unwrap(), "done");
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn create_task<F>(&self, future: F) -> Task<F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: 'static,
    {
        self.task_builder().spawn(future)
    }

    /// As [`create_task`](Self::create_task), with a name or a context, or to start at once.
    pub fn task_builder(&self) -> TaskBuilder<'_> {
        TaskBuilder::new(&self.core)
    }

    /// Sets a function that may wrap the future of each new task; `None` makes tasks as they are.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// el.set_task_factory(Some(Rc::new(|_el, future, meta| {
    ///     let id = meta.id;
    ///     Box::pin(async move {
    ///         println!("{id} starts");
    ///         future.await;
    ///         println!("{id} ends");
    ///     })
    /// })));
    /// assert_eq!(el.run_until_complete(el.create_task(async { 1 })).unwrap().unwrap(), 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_task_factory(&self, factory: Option<TaskFactory>) {
        drop(self.core.task_factory.replace(factory));
    }

    /// The function set by [`set_task_factory`](Self::set_task_factory).
    #[doc(alias = "get_task_factory")]
    pub fn task_factory(&self) -> Option<TaskFactory> {
        self.core.task_factory.borrow().clone()
    }

    /// The task that is being polled: `None` in a callback and outside of the loop.
    pub fn current_task(&self) -> Option<TaskInfo> {
        let local = &self.core.local;
        local.task_info(local.current.get()?)
    }

    /// The tasks that are not done, in order of creation; among them the future of `run_until_complete`.
    pub fn all_tasks(&self) -> Vec<TaskInfo> {
        self.core.local.all_tasks()
    }
}

/// A task that is about to be made, by [`EventLoop::task_builder`].
///
/// ```
/// let el = roundelay::EventLoop::new()?;
/// let task = el.task_builder().name("adder").spawn(async { 1 + 1 });
/// assert_eq!(&*task.name(), "adder");
/// assert_eq!(el.run_until_complete(task).unwrap().unwrap(), 2);
/// # std::io::Result::Ok(())
/// ```
#[must_use = "nothing happens before spawn()"]
pub struct TaskBuilder<'a> {
    core: &'a Rc<Core>,
    pub(crate) name: Option<Rc<str>>,
    context: Option<Context>,
    /// `None`: as the loop says.
    eager: Option<bool>,
}

impl<'a> TaskBuilder<'a> {
    #[inline]
    pub(crate) fn new(core: &'a Rc<Core>) -> Self {
        Self { core, name: None, context: None, eager: None }
    }

    /// Names the task; otherwise it is called `Task-<id>`.
    pub fn name(mut self, name: impl Into<Rc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs the task in this context itself, not in a copy of the current one.
    pub fn context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }

    /// Starts the task here and now, inside of [`spawn`](Self::spawn), or, with `false`, in the next turn, whatever
    /// [`EventLoop::set_eager_tasks`] says, which has the details.
    ///
    /// ```
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let task = el.task_builder().eager(true).spawn(async { "no turn of the loop was needed" });
    ///     assert!(task.is_done());
    /// });
    /// ```
    #[doc(alias = "eager_start")]
    pub fn eager(mut self, eager: bool) -> Self {
        self.eager = Some(eager);
        self
    }

    /// Makes the task. See [`EventLoop::create_task`].
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Task<F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: 'static,
    {
        self.spawn_at(Location::caller(), future)
    }

    /// As `spawn`, with the place to be named as that of creation.
    #[inline]
    pub(crate) fn spawn_at<F>(self, spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: 'static,
    {
        self.spawn_owned(spawned_at, future, |future| Always::new(future.into_future()))
    }

    /// As `spawn_at`, of the future that `make` makes of the value. Where that ends with an error, so does the task: whoever
    /// owns it has taken its output.
    #[inline]
    pub(crate) fn spawn_owned<V, F, T>(
        self,
        spawned_at: &'static Location<'static>,
        value: V,
        make: impl FnOnce(V) -> F,
    ) -> Task<T>
    where
        F: Future<Output = Result<T, JoinError>> + 'static,
        T: 'static,
    {
        let Self { core, name, context, eager } = self;
        let id = TaskId::next();
        if !core.is_open() {
            return refuse(core, value, name, id, spawned_at);
        }
        let eager = eager.unwrap_or_else(|| core.eager_tasks.get());
        let context = context.map_or_else(context::fork_current, Slot::Shared);
        let mut new = NewTask { id, name, context, spawned_at, span: None };
        let factory = core.task_factory.borrow().clone();
        if let Some(factory) = factory {
            return create_by(&*factory, core, new, eager, make(value));
        }
        // What makes the future is the application's, and so is a subscriber: either may have closed the loop.
        let future = make(value);
        new.span = span::of_new_task(&core.local, id, new.name.as_deref(), spawned_at);
        if !core.is_open() {
            span::close(new.span, &core.local);
            return refuse(core, future, new.name, id, spawned_at);
        }
        let (runnable, task) = task::spawn(&core.local, new, future);
        core.start_task(runnable, eager);
        task
    }

    /// The task of a future that its owner does not take any more: the future is dropped, and the task is done as cancelled.
    #[cold]
    pub(crate) fn refuse<V, T: 'static>(self, spawned_at: &'static Location<'static>, value: V) -> Task<T> {
        let local = &self.core.local;
        local.refuse(value, |value| drop_caught(local, value, "Exception in the destructor of a task's future"));
        let new = NewTask { id: TaskId::next(), name: self.name, context: Slot::EMPTY, spawned_at, span: None };
        task::ended(local, new, JoinError::cancelled())
    }
}

/// Makes a task by the factory.
fn create_by<F, T>(
    factory: &dyn Fn(&EventLoop, TaskFuture, &TaskMeta) -> TaskFuture,
    core: &Rc<Core>,
    mut new: NewTask,
    eager: bool,
    future: F,
) -> Task<T>
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    let meta = TaskMeta { id: new.id, name: new.name.clone(), spawned_at: new.spawned_at };
    let output = Rc::new(Cell::new(None));
    let slot = output.clone();
    let boxed: TaskFuture = Box::pin(async move { slot.set(Some(future.await)) });
    let wrapped = factory(&EventLoop::handle(core.clone()), boxed, &meta);
    new.span = span::of_new_task(&core.local, new.id, new.name.as_deref(), new.spawned_at);
    if !core.is_open() {
        span::close(new.span, &core.local);
        return refuse(core, wrapped, new.name, new.id, new.spawned_at);
    }
    let wrapped = async move {
        wrapped.await;
        output.take().unwrap_or_else(|| Err(JoinError::cancelled()))
    };
    let (runnable, task) = task::spawn(&core.local, new, wrapped);
    core.start_task(runnable, eager);
    task
}

/// Drops the future that a closed loop was given, and says so.
#[cold]
fn refuse<V, T: 'static>(
    core: &Core,
    value: V,
    name: Option<Rc<str>>,
    id: TaskId,
    spawned_at: &'static Location<'static>,
) -> Task<T> {
    core.local.refuse(value, drop);
    core.local.report_closed("create_task", spawned_at);
    let new = NewTask { id, name, context: Slot::EMPTY, spawned_at, span: None };
    task::ended(&core.local, new, JoinError::closed())
}

impl fmt::Debug for TaskBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
