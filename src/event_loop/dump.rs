//! All tasks of a loop as a tree: who awaits whom.

mod json;
mod text;

use std::collections::HashMap;
use std::panic::Location;

use crate::error::LoopClosed;
use crate::event_loop::EventLoop;
use crate::event_loop::remote::{Remote, RemoteHandle};
use crate::event_loop::running;
use crate::sched::active::TaskId;
use crate::sched::branch::BranchKey;
use crate::sched::info::{AwaitKind, BranchInfo, Snapshot, TaskInfo};

/// All live tasks of a loop at one moment, and who awaits whom. Made by [`EventLoop::dump_tasks`].
///
/// It is a tree. A task stands below the one that awaits it, and the children of a gather or a task group stand below
/// that, which stands below the task that awaits it. At the top are those that nobody awaits: the future of `run_*`,
/// detached tasks, and those whose handle somebody has who has not asked for the output yet.
///
/// Its text (`Display`) is for people; what it looks like may change. For programs there are [`roots`](Self::roots) and
/// [`to_json`](Self::to_json).
///
/// ```text
/// event loop 1: 3 tasks
/// root "Task-1" #1 pending, age 2.0s, 2 polls, run at src/main.rs:8:5
/// │  waits for gather at src/main.rs:9:9 (2 live); woken by spawn
/// └─ gather at src/main.rs:9:9, 2 live
///    ├─ task "Task-2" #2 pending, age 2.0s, 1 poll, spawned at src/main.rs:9:9
///    │     waits for a timer in 3.0s; woken by spawn
///    └─ task "Task-3" #3 pending, age 2.0s, 4 polls, spawned at src/main.rs:9:9
///          waits for descriptor 7 to be readable; woken by descriptor 7
/// ```
///
/// What a task waits for, and what has woken it, is known as far as [`TaskInfo`] says.
#[doc(alias = "FutureCallGraph")]
#[derive(Clone, Debug)]
pub struct TaskDump {
    loop_id: u64,
    loop_name: Option<Box<str>>,
    is_inspected: bool,
    nodes: Vec<Node>,
    /// Those at the top.
    top: Vec<usize>,
    /// How many of the nodes, from the first one, are tasks.
    tasks: usize,
    cycles: Vec<Vec<TaskId>>,
}

#[derive(Clone, Debug)]
struct Node {
    what: What,
    children: Vec<usize>,
    /// The task that this one awaits again: it stands above this one.
    awaits_above: Option<TaskId>,
}

#[derive(Clone, Debug)]
enum What {
    Task(TaskInfo),
    Branch(BranchInfo),
}

/// A task, a gather or a task group in a [`TaskDump`].
#[doc(alias = "FrameCallGraphEntry")]
#[derive(Clone, Copy, Debug)]
pub struct TaskNode<'a> {
    dump: &'a TaskDump,
    node: &'a Node,
}

impl<'a> TaskNode<'a> {
    /// The task; `None` where this is a gather or a group.
    pub fn task(&self) -> Option<&'a TaskInfo> {
        match &self.node.what {
            What::Task(info) => Some(info),
            What::Branch(_) => None,
        }
    }

    /// The gather or group, and where it was made; `None` where this is a task.
    pub fn gathering(&self) -> Option<(AwaitKind, &'static Location<'static>)> {
        match &self.node.what {
            What::Task(_) => None,
            What::Branch(branch) => Some((branch.kind, branch.made_at)),
        }
    }

    /// What it awaits, or holds together.
    pub fn children(&self) -> impl Iterator<Item = TaskNode<'a>> + use<'a> {
        let dump = self.dump;
        self.node.children.iter().map(move |place| dump.node(*place))
    }
}

impl TaskDump {
    pub(crate) fn of(el: &EventLoop) -> Self {
        let Snapshot { tasks, branches } = el.core.local.snapshot();
        let mut parents = Parents::of(&tasks, &branches);
        let count = tasks.len();
        let all = tasks.into_iter().map(What::Task).chain(branches.into_iter().map(What::Branch));
        let mut nodes: Vec<Node> = all.map(|what| Node { what, children: Vec::new(), awaits_above: None }).collect();
        let (mut top, mut cycles) = (Vec::new(), Vec::new());
        for cycle in parents.cycles() {
            cycles.push(cycle.iter().filter_map(|place| nodes[*place].id()).collect());
            // It is cut: the first one stands at the top, and the last one, which awaits it, says so.
            let first = cycle[0];
            if let Some(last) = parents.0[first].take() {
                nodes[last].awaits_above = nodes[first].id();
            }
        }
        for (place, parent) in parents.0.iter().enumerate() {
            match parent {
                Some(parent) => nodes[*parent].children.push(place),
                None => top.push(place),
            }
        }
        // A gather that nobody awaits comes where its first child would.
        let first = |place: &usize| match &nodes[*place].what {
            What::Task(info) => (!info.is_root, Some(info.id)),
            What::Branch(_) => (true, nodes[*place].children.first().and_then(|child| nodes[*child].id())),
        };
        top.sort_by_key(first);
        Self {
            loop_id: el.id(),
            loop_name: el.name().map(Into::into),
            is_inspected: el.inspection(),
            nodes,
            top,
            tasks: count,
            cycles,
        }
    }

    fn node(&self, place: usize) -> TaskNode<'_> {
        TaskNode { dump: self, node: &self.nodes[place] }
    }

    /// All tasks, in order of creation.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskInfo> {
        self.nodes[..self.tasks].iter().filter_map(|node| match &node.what {
            What::Task(info) => Some(info),
            What::Branch(_) => None,
        })
    }

    /// The tasks and gatherings at the top of the tree: the future of `run_*` first, the others in order of creation.
    pub fn roots(&self) -> impl Iterator<Item = TaskNode<'_>> {
        self.top.iter().map(|place| self.node(*place))
    }

    /// Tasks that await each other in a circle, each the next one and the last one the first: none of them will come to an
    /// end by itself, unless it waits for something else, too. The first of each stands at the top of the tree.
    pub fn cycles(&self) -> &[Vec<TaskId>] {
        &self.cycles
    }

    /// The number of tasks.
    pub fn len(&self) -> usize {
        self.tasks
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks == 0
    }
}

impl Node {
    fn id(&self) -> Option<TaskId> {
        match &self.what {
            What::Task(info) => Some(info.id),
            What::Branch(_) => None,
        }
    }
}

/// Below what each node stands: the tasks first, then the branches.
struct Parents(Vec<Option<usize>>);

impl Parents {
    fn of(tasks: &[TaskInfo], branches: &[BranchInfo]) -> Self {
        let task_places: HashMap<TaskId, usize> = tasks.iter().zip(0..).map(|(info, place)| (info.id, place)).collect();
        let branch_places: HashMap<BranchKey, usize> =
            branches.iter().zip(tasks.len()..).map(|(branch, place)| (branch.key, place)).collect();
        let mut parents = Vec::with_capacity(tasks.len() + branches.len());
        for info in tasks {
            let branch = branch_places.get(&info.branch).copied();
            let of_branch = branch.and_then(|place| branches[place - tasks.len()].task);
            // Whoever has the group of a child, and asks for the child itself as well, is named by the group.
            let other = info.awaited_by.filter(|by| branch.is_none() || of_branch != Some(by.task));
            let awaiter = other.and_then(|by| task_places.get(&by.task).copied());
            parents.push(awaiter.or(branch));
        }
        for branch in branches {
            parents.push(branch.task.and_then(|task| task_places.get(&task).copied()));
        }
        Self(parents)
    }

    /// Those in circles, each of which begins with its oldest task, in the order in which they await.
    fn cycles(&self) -> Vec<Vec<usize>> {
        // In which walk each was seen first.
        let mut seen = vec![usize::MAX; self.0.len()];
        let mut cycles = Vec::new();
        for start in 0..self.0.len() {
            let mut at = start;
            while seen[at] == usize::MAX {
                seen[at] = start;
                let Some(parent) = self.0[at] else { break };
                at = parent;
                if seen[at] == start {
                    // A parent awaits its child: so the circle is walked from its end.
                    let mut circle = vec![at];
                    let mut next = self.0[at];
                    while let Some(place) = next.filter(|place| *place != at) {
                        circle.push(place);
                        next = self.0[place];
                    }
                    circle.reverse();
                    let first = circle.iter().enumerate().min_by_key(|(_, place)| **place).map_or(0, |(n, _)| n);
                    circle.rotate_left(first);
                    cycles.push(circle);
                }
            }
        }
        cycles
    }
}

impl EventLoop {
    /// All live tasks, and who awaits whom, at this moment. On a closed loop there are none.
    ///
    /// A stuck program is looked into by [`dump_on_signal`](Self::dump_on_signal), too, and from another thread by
    /// [`Remote::dump_tasks`](crate::Remote::dump_tasks).
    ///
    /// ```
    /// use roundelay::{EventLoop, gather, sleep, spawn, yield_now};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let waiter = spawn(async {
    ///         gather([1, 2].map(|n| sleep(Duration::from_secs(n)))).await.unwrap();
    ///     });
    ///     yield_now().await;
    ///     yield_now().await;
    ///     let dump = roundelay::get_running_loop().unwrap().dump_tasks();
    ///     println!("{dump}");
    ///     let waiter = dump.roots().find(|node| node.task().is_some_and(|task| task.id == waiter.id())).unwrap();
    ///     let gather = waiter.children().next().unwrap();
    ///     assert_eq!(gather.gathering().unwrap().0, roundelay::AwaitKind::Gather);
    ///     assert_eq!(gather.children().count(), 2);
    /// });
    /// ```
    #[doc(alias("get_stack", "print_stack", "capture_call_graph", "format_call_graph", "print_call_graph"))]
    pub fn dump_tasks(&self) -> TaskDump {
        TaskDump::of(self)
    }
}

impl Remote {
    /// The text of a [`TaskDump`], made by the loop's thread in one of its next turns: it is awaited, or waited for on this
    /// thread. A loop that is stuck inside of a callback does not answer.
    ///
    /// For anything else, such as the JSON, use [`call_soon_threadsafe`](Self::call_soon_threadsafe) and ask the running
    /// loop there.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] if the loop is closed.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let remote = el.remote();
    /// let asker = std::thread::spawn(move || remote.dump_tasks().unwrap().wait().unwrap());
    /// el.run_until_complete(async {
    ///     while !asker.is_finished() {
    ///         roundelay::yield_now().await;
    ///     }
    /// })
    /// .unwrap();
    /// assert!(asker.join().unwrap().starts_with("event loop "));
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn dump_tasks(&self) -> Result<RemoteHandle<String>, LoopClosed> {
        self.call_soon_threadsafe(|| {
            running::current().map_or_else(String::new, |core| EventLoop::handle(core).dump_tasks().to_string())
        })
    }
}
