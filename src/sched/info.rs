//! What can be told of live tasks: where each comes from, what it waits for, who waits for it.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sched::active::{Awaiter, Ending, Entry, Handle, Kind, TaskId, TaskRef};
use crate::sched::branch::{BranchKey, Record};
use crate::sched::join::Canceller;
use crate::sched::{Due, Local};

/// What a live task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// It is being polled just now.
    Running,
    /// It is in the queue for the first time, or waits for something.
    Pending,
    /// It was asked to end: it will be dropped when its turn comes, or when the time is over in which it may end by
    /// itself.
    Cancelling,
    /// It has just ended: so it is in a report about its end.
    Ended,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Cancelling => "cancelling",
            Self::Ended => "ended",
        })
    }
}

/// What is known of a live task. A snapshot, except for [`cancel`](Self::cancel) and
/// [`cancel_gracefully`](Self::cancel_gracefully), which act on the task itself.
///
/// Some of it is noted only while the loop is [inspected](crate::EventLoop::set_inspection), as it is in debug mode.
#[derive(Clone)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The task's number.
    pub id: TaskId,
    /// Its name: the one given to it, or `Task-<id>`.
    pub name: Rc<str>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// What it is doing.
    pub state: TaskState,
    /// The time since it was spawned.
    ///
    /// No clock is read for it when a task is made: it counts from when the loop has last asked its selector before that,
    /// or from the beginning of the run, so that a task that is made late in a long turn looks older than it is, by no more
    /// than the turn is long.
    pub age: Duration,
    /// How often it was polled.
    pub polls: u64,
    /// The time spent in its polls, with what they have called; while the loop is inspected. `None` before the first of
    /// them.
    pub busy: Option<Duration>,
    /// What woke it last; while the loop is inspected.
    pub woken_by: Option<WokenBy>,
    /// What it waits for. Several things where it awaits several at the same time.
    ///
    /// That it waits for other tasks, a gather or a group is always known, and so is a timer that it awaits; anything else
    /// while the loop is inspected, and then as of its latest poll.
    pub waits_for: Vec<WaitsFor>,
    /// Who waits for its end.
    pub awaited_by: Option<AwaitedBy>,
    /// Whether it is the future given to `run_until_complete` or `block_on`, which cannot be cancelled, or to a
    /// [`Runner`](crate::Runner), which can.
    pub is_root: bool,
    pub(crate) branch: BranchKey,
    pub(crate) canceller: Canceller,
}

impl TaskInfo {
    /// Cancels the task, as [`Task::cancel`](crate::Task::cancel) does: true if it was not done yet.
    pub fn cancel(&self) -> bool {
        self.canceller.cancel()
    }

    /// Asks the task to end by itself within `grace`, as [`Task::cancel_gracefully`](crate::Task::cancel_gracefully)
    /// does: true if it was not done yet.
    pub fn cancel_gracefully(&self, grace: Duration) -> bool {
        self.canceller.cancel_gracefully(grace)
    }

    /// Gives the task another name, as [`Task::set_name`](crate::Task::set_name) does: true if it was not done yet. This
    /// snapshot keeps the name that it was made with.
    ///
    /// A task that somebody else has spawned can name itself:
    ///
    /// ```
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     el.current_task().unwrap().set_name("main");
    ///     assert_eq!(&*el.current_task().unwrap().name, "main");
    /// });
    /// ```
    pub fn set_name(&self, name: impl Into<Rc<str>>) -> bool {
        self.canceller.set_name(name.into())
    }
}

impl TaskInfo {
    /// Writes what it waits for, behind `before`; nothing where it waits for nothing.
    pub(crate) fn write_waits(&self, f: &mut fmt::Formatter<'_>, before: &str) -> fmt::Result {
        for (n, wait) in self.waits_for.iter().enumerate() {
            match n {
                0 => write!(f, "{before}waits for {wait}")?,
                _ => write!(f, " and {wait}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_root { "Root" } else { "Task" };
        let Self { id, name, state, polls, spawned_at, .. } = self;
        write!(f, "<{kind} {state} name={name:?} id={id} polls={polls} spawned at {spawned_at}")?;
        self.write_waits(f, " ")?;
        f.write_str(">")
    }
}

/// What has woken a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WokenBy {
    /// Nothing yet: it was spawned, or the run has begun.
    Spawn,
    /// The task itself, as [`yield_now`](crate::yield_now) does.
    Itself,
    /// Another task: it has ended, or has sent or set something.
    Task(TaskId),
    /// A timer.
    Timer,
    /// An event of this descriptor.
    Descriptor(i32),
    /// A callback of the loop, with the place where it was scheduled.
    Callback(&'static Location<'static>),
    /// Something that another thread has posted to the loop.
    Posted,
    /// Another thread.
    Thread,
    /// It was asked to end.
    Cancel,
    /// What runs outside of the loop's items: the code between two runs, or a destructor at the end.
    Outside,
}

impl fmt::Display for WokenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn => f.write_str("spawn"),
            Self::Itself => f.write_str("itself"),
            Self::Task(id) => write!(f, "task #{id}"),
            Self::Timer => f.write_str("a timer"),
            Self::Descriptor(fd) => write!(f, "descriptor {fd}"),
            Self::Callback(place) => write!(f, "a callback scheduled at {place}"),
            Self::Posted => f.write_str("a call posted by another thread"),
            Self::Thread => f.write_str("another thread"),
            Self::Cancel => f.write_str("being cancelled"),
            Self::Outside => f.write_str("code outside of the loop"),
        }
    }
}

/// Something that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// The end of another task.
    Task {
        /// Its number.
        id: TaskId,
        /// Its name.
        name: Rc<str>,
    },
    /// The children of a gather or a task group.
    Children {
        /// Of which of them.
        of: AwaitKind,
        /// Where it was made.
        made_at: &'static Location<'static>,
        /// How many are live.
        live: usize,
    },
    /// A timer.
    Timer {
        /// When it is due, by the loop's clock.
        until: Instant,
        /// How long that was away when this was found out; zero if it was past.
        left: Duration,
    },
    /// That a descriptor is ready.
    Descriptor {
        /// Its number.
        fd: i32,
        /// Whether to be written to; otherwise to be read.
        write: bool,
    },
    /// A [`LoopFuture`](crate::LoopFuture).
    Future {
        /// Where that was made.
        created_at: &'static Location<'static>,
    },
    /// A job on another thread, or in another process, with its name.
    Job(&'static str),
    /// The end of a child process, by its number.
    Process(u32),
    /// Something else of this crate's, in a few words.
    Other(&'static str),
    /// Something that is not of this crate, such as a channel of another one.
    Unknown,
    /// Nothing that could wake it any more: nobody has kept its waker. It can only be cancelled.
    Nothing,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { id, name } => write!(f, "task {name:?} #{id}"),
            Self::Children { of, made_at, live } => write!(f, "{of} at {made_at} ({live} live)"),
            Self::Timer { left, .. } if left.is_zero() => f.write_str("a timer that is due"),
            Self::Timer { left, .. } => write!(f, "a timer in {left:.1?}"),
            Self::Descriptor { fd, write: false } => write!(f, "descriptor {fd} to be readable"),
            Self::Descriptor { fd, write: true } => write!(f, "descriptor {fd} to be writable"),
            Self::Future { created_at } => write!(f, "a LoopFuture created at {created_at}"),
            Self::Job(name) => write!(f, "the job {name}"),
            Self::Process(pid) => write!(f, "the end of process {pid}"),
            Self::Other(what) => f.write_str(what),
            Self::Unknown => f.write_str("something that holds its waker"),
            Self::Nothing => f.write_str("nothing: nobody holds its waker any more"),
        }
    }
}

/// Who waits for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwaitedBy {
    /// That task's number.
    pub task: TaskId,
    /// By what.
    pub how: AwaitKind,
    /// Whether that task has asked for this one in its latest poll, or is told by something that need not ask each time.
    /// Otherwise it may have turned to something else, and kept the handle.
    pub is_certain: bool,
}

/// By what tasks are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwaitKind {
    /// By the task's handle itself.
    Handle,
    /// By [`timeout`](crate::timeout) or [`timeout_scope`](crate::timeout_scope), around the handle.
    Timeout,
    /// By [`wait_for`](crate::wait_for).
    WaitFor,
    /// By [`shield`](crate::shield).
    Shield,
    /// By [`wait`](crate::wait).
    Wait,
    /// By [`as_completed`](crate::as_completed).
    AsCompleted,
    /// By a combinator of another crate, which polls with a waker of its own.
    Combinator,
    /// By [`gather`](crate::gather).
    Gather,
    /// By [`try_gather`](crate::try_gather).
    TryGather,
    /// By the scope of a [`TaskGroup`](crate::TaskGroup).
    Group,
}

impl AwaitKind {
    /// What is known of it where the loop was not inspected.
    fn if_unwatched(self) -> Self {
        match self {
            Self::Gather | Self::TryGather | Self::Group => self,
            _ => Self::Handle,
        }
    }

    /// Whether what is awaited need not be asked for at each poll of the awaiting task.
    fn is_told(self) -> bool {
        matches!(self, Self::Wait | Self::AsCompleted | Self::Combinator)
    }
}

impl fmt::Display for AwaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handle => "await",
            Self::Timeout => "timeout",
            Self::WaitFor => "wait_for",
            Self::Shield => "shield",
            Self::Wait => "wait",
            Self::AsCompleted => "as_completed",
            Self::Combinator => "combinator",
            Self::Gather => "gather",
            Self::TryGather => "try_gather",
            Self::Group => "TaskGroup",
        })
    }
}

/// All that is known of a loop's tasks at one moment.
pub(crate) struct Snapshot {
    /// In order of creation.
    pub(crate) tasks: Vec<TaskInfo>,
    pub(crate) branches: Vec<BranchInfo>,
}

/// A group or a gather.
#[derive(Clone, Debug)]
pub(crate) struct BranchInfo {
    pub(crate) key: BranchKey,
    pub(crate) kind: AwaitKind,
    pub(crate) made_at: &'static Location<'static>,
    /// The number of the live task that waits for it, or has made it.
    pub(crate) task: Option<TaskId>,
    /// Its live children.
    pub(crate) live: usize,
}

/// By what a live task waits for something that names it as its awaiter, and whether that is certain; `None` if it has
/// turned to something else.
fn waiting(entry: &Entry, awaiter: Awaiter, kind: AwaitKind) -> Option<(AwaitKind, bool)> {
    let is_watched = entry.is_watched();
    let kind = if is_watched || awaiter.poll == Awaiter::IS_TOLD { kind } else { kind.if_unwatched() };
    #[expect(clippy::cast_possible_truncation, reason = "only so much was kept")]
    let is_certain = kind.is_told() || entry.polls() as u32 == awaiter.poll;
    // What is watched has said in its latest poll whatever it has to say.
    (is_certain || !is_watched).then_some((kind, is_certain))
}

fn wait_until(until: Instant, now: Instant) -> WaitsFor {
    WaitsFor::Timer { until, left: until.saturating_duration_since(now) }
}

impl Local {
    /// What is known of a live task. It takes a look at the others, for who waits for whom is noted with them, and no more:
    /// there may be many.
    pub(crate) fn task_info(&self, task: TaskRef) -> Option<TaskInfo> {
        let mut info = self.brief_info(task)?;
        if self.is_running(task) {
            // It waits for nothing.
            return Some(info);
        }
        let now = self.clock.now();
        let active = self.active.borrow();
        let entry = active.get_live(task)?;
        let own = Some(entry.awaiter.get()).filter(|_| entry.handle.get() == Handle::Held);
        let mut awaited = Vec::new();
        for other in active.iter() {
            let by = other.awaiter.get();
            let is_awaited = by.id == task.id.as_u64() && other.handle.get() == Handle::Held;
            if is_awaited && waiting(entry, by, other.awaited_in.get()).is_some() {
                awaited.push(other);
            }
            if let Some(own) = own.filter(|own| own.id == other.id().as_u64()) {
                let by = waiting(other, own, entry.awaited_in.get());
                info.awaited_by = by.map(|(how, is_certain)| AwaitedBy { task: other.id(), how, is_certain });
            }
        }
        for (key, &Record { kind, made_at, awaiter, is_awaited }) in self.branches.borrow().iter() {
            let is_own = is_awaited && awaiter.id == task.id.as_u64();
            if is_own && waiting(entry, awaiter, kind).is_some_and(|(_, is_certain)| is_certain) {
                let live = active.iter().filter(|child| child.branch.get() == key).count();
                if live > 0 {
                    info.waits_for.push(WaitsFor::Children { of: kind, made_at, live });
                }
            }
            if key == info.branch && info.awaited_by.is_none() {
                let by = active.iter().find(|other| other.id().as_u64() == awaiter.id);
                info.awaited_by = by.map(|by| AwaitedBy { task: by.id(), how: kind, is_certain: true });
            }
        }
        awaited.sort_by_key(|other| other.id());
        info.waits_for.extend(awaited.iter().map(|other| WaitsFor::Task { id: other.id(), name: other.name() }));
        if !entry.is_watched() {
            let timers = self.timers.borrow();
            let own = timers.iter().filter(|(_, due)| matches!(due, Due::Task(other) if *other == task));
            info.waits_for.extend(own.map(|(until, _)| wait_until(until, now)));
        }
        if info.waits_for.is_empty() && info.state == TaskState::Pending {
            info.waits_for.extend(entry.unnamed_wait());
        }
        Some(info)
    }

    /// What a live task knows of itself, without the others.
    pub(crate) fn brief_info(&self, task: TaskRef) -> Option<TaskInfo> {
        // The clock may be the application's.
        let now = self.clock.now();
        let canceller = Canceller::new(&self.shared_ref().local()?, task);
        let active = self.active.borrow();
        Some(self.own_info(active.get_live(task)?, now, canceller))
    }

    /// What is known of a task that is done.
    pub(crate) fn info_of(&self, entry: &Entry, canceller: Canceller) -> TaskInfo {
        self.own_info(entry, self.clock.now(), canceller)
    }

    /// All live tasks in order of creation.
    pub(crate) fn all_tasks(&self) -> Vec<TaskInfo> {
        self.snapshot().tasks
    }

    fn is_running(&self, task: TaskRef) -> bool {
        self.current.get() == Some(task) || self.interrupted.borrow().contains(&Some(task))
    }

    /// What a task's own entry says.
    fn own_info(&self, entry: &Entry, now: Instant, canceller: Canceller) -> TaskInfo {
        let task = entry.task();
        let state = match entry.ending.get() {
            _ if entry.outcome().is_some() => TaskState::Ended,
            _ if self.is_running(task) => TaskState::Running,
            Ending::No | Ending::Watched if !entry.is_asked() => TaskState::Pending,
            _ => TaskState::Cancelling,
        };
        let details = entry.details(now, state);
        TaskInfo {
            id: task.id,
            name: entry.name(),
            spawned_at: entry.spawned_at(),
            state,
            age: Duration::from_nanos(self.counters.nanos(now).saturating_sub(entry.spawned())),
            polls: entry.polls(),
            busy: details.busy,
            woken_by: details.woken_by,
            waits_for: details.waits_for,
            awaited_by: None,
            is_root: entry.kind() != Kind::Task,
            branch: entry.branch.get(),
            canceller,
        }
    }

    /// All live tasks, and who waits for whom.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // The clock may be the application's.
        let now = self.clock.now();
        let Some(me) = self.shared_ref().local() else { return Snapshot { tasks: Vec::new(), branches: Vec::new() } };
        let active = self.active.borrow();
        let mut entries: Vec<&Entry> = active.iter().collect();
        entries.sort_by_key(|entry| entry.id());
        let mut tasks: Vec<TaskInfo> =
            entries.iter().map(|entry| self.own_info(entry, now, Canceller::new(&me, entry.task()))).collect();
        let places: HashMap<u64, usize> = tasks.iter().zip(0..).map(|(info, n)| (info.id.as_u64(), n)).collect();
        // Who waits for this, if it is a live task, by what, and whether that is certain.
        let waiter = |awaiter: Awaiter, kind: AwaitKind| {
            let place = *places.get(&awaiter.id)?;
            waiting(entries[place], awaiter, kind).map(|(kind, is_certain)| (place, kind, is_certain))
        };

        let mut live: HashMap<BranchKey, usize> = HashMap::new();
        for info in &tasks {
            *live.entry(info.branch).or_default() += 1;
        }
        let mut branches = HashMap::new();
        for (key, record) in self.branches.borrow().iter() {
            let Some(&live) = live.get(&key) else { continue };
            let (kind, made_at) = (record.kind, record.made_at);
            let task = places.get(&record.awaiter.id).map(|place| tasks[*place].id);
            branches.insert(key, BranchInfo { key, kind, made_at, task, live });
            if let (Some((place, _, true)), true) = (waiter(record.awaiter, kind), record.is_awaited) {
                if tasks[place].state != TaskState::Running {
                    tasks[place].waits_for.push(WaitsFor::Children { of: kind, made_at, live });
                }
            }
        }
        for (n, entry) in entries.iter().enumerate() {
            let is_held = entry.handle.get() == Handle::Held;
            let direct = if is_held { waiter(entry.awaiter.get(), entry.awaited_in.get()) } else { None };
            if let Some((place, kind, is_certain)) = direct {
                if tasks[place].state != TaskState::Running {
                    let (id, name) = (tasks[n].id, tasks[n].name.clone());
                    tasks[place].waits_for.push(WaitsFor::Task { id, name });
                }
                tasks[n].awaited_by = Some(AwaitedBy { task: tasks[place].id, how: kind, is_certain });
            } else if let Some(branch) = branches.get(&tasks[n].branch) {
                let by = |task| AwaitedBy { task, how: branch.kind, is_certain: true };
                tasks[n].awaited_by = branch.task.map(by);
            }
        }
        for (until, due) in self.timers.borrow().iter() {
            if let Due::Task(task) = due {
                let Some(place) = places.get(&task.id.as_u64()) else { continue };
                // Noted already where the task is watched.
                let info = &mut tasks[*place];
                if !entries[*place].is_watched() && info.state != TaskState::Running {
                    info.waits_for.push(wait_until(until, now));
                }
            }
        }
        for (info, entry) in tasks.iter_mut().zip(&entries) {
            if info.waits_for.is_empty() && info.state == TaskState::Pending {
                info.waits_for.extend(entry.unnamed_wait());
            }
        }
        let mut branches: Vec<BranchInfo> = branches.into_values().collect();
        branches.sort_by_key(|branch| branch.key);
        Snapshot { tasks, branches }
    }
}
