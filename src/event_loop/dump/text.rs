//! A dump for people.

use std::fmt::{self, Display, Formatter};

use crate::event_loop::dump::{Node, TaskDump, What};
use crate::sched::info::{AwaitKind, TaskInfo};

/// The deepest level that is drawn by itself: a long chain of tasks must not make lines that are as long.
const DEEPEST: usize = 24;

/// A node that is yet to be written.
struct Pending {
    place: usize,
    depth: usize,
    /// What its lines begin with: how far it is from the left.
    indent: String,
    /// Whether it is the last one below the same node.
    is_last: bool,
}

impl Display for TaskDump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "event loop {}", self.loop_id)?;
        if let Some(name) = &self.loop_name {
            write!(f, " {name:?}")?;
        }
        let s = if self.tasks == 1 { "" } else { "s" };
        write!(f, ": {} task{s}", self.tasks)?;
        if !self.is_inspected {
            f.write_str(" (not inspected: what they wait for is known in part)")?;
        }
        // No recursion: a chain of tasks may be longer than the stack is deep.
        let mut stack: Vec<Pending> = self.below(&self.top, 0, "").collect();
        while let Some(Pending { place, depth, indent, is_last }) = stack.pop() {
            let node = &self.nodes[place];
            let (branch, mut below) = match (depth, is_last) {
                (0, _) => ("", String::new()),
                (_, true) => ("└─ ", format!("{indent}   ")),
                (_, false) => ("├─ ", format!("{indent}│  ")),
            };
            write!(f, "\n{indent}{branch}")?;
            self.write_node(f, node, depth)?;
            let tail = if node.children.is_empty() && node.awaits_above.is_none() { "   " } else { "│  " };
            if let What::Task(info) = &node.what {
                if !info.waits_for.is_empty() || info.woken_by.is_some() {
                    write!(f, "\n{below}{tail}")?;
                    write_reasons(f, info)?;
                }
            }
            if let Some(above) = node.awaits_above {
                let corner = if node.children.is_empty() { "└─" } else { "├─" };
                write!(f, "\n{below}{corner} task #{above} again, which awaits this one: a cycle")?;
            }
            if depth >= DEEPEST {
                below = indent;
            }
            stack.extend(self.below(&node.children, depth + 1, &below));
        }
        Ok(())
    }
}

impl TaskDump {
    /// The nodes at these places, the first one as the last.
    fn below(&self, places: &[usize], depth: usize, indent: &str) -> impl Iterator<Item = Pending> {
        let last = places.last().copied();
        let pending = places.iter().rev().map(move |place| Pending {
            place: *place,
            depth,
            indent: indent.to_owned(),
            is_last: Some(*place) == last,
        });
        pending.collect::<Vec<_>>().into_iter()
    }

    fn write_node(&self, f: &mut Formatter<'_>, node: &Node, depth: usize) -> fmt::Result {
        if depth > DEEPEST {
            write!(f, "(level {depth}) ")?;
        }
        match &node.what {
            What::Branch(branch) => write!(f, "{} at {}, {} live", branch.kind, branch.made_at, branch.live),
            What::Task(info) => write_task(f, info),
        }
    }
}

fn write_task(f: &mut Formatter<'_>, info: &TaskInfo) -> fmt::Result {
    if let Some(by) = info.awaited_by {
        if !by.is_certain {
            f.write_str("perhaps ")?;
        }
        if !matches!(by.how, AwaitKind::Handle | AwaitKind::Gather | AwaitKind::TryGather | AwaitKind::Group) {
            write!(f, "{}: ", by.how)?;
        }
    }
    let (what, made) = if info.is_root { ("root", "run at") } else { ("task", "spawned at") };
    let TaskInfo { id, name, state, age, polls, spawned_at, .. } = info;
    write!(f, "{what} {name:?} #{id} {state}, age {age:.1?}, {polls} poll{}", if *polls == 1 { "" } else { "s" })?;
    if let Some(busy) = info.busy {
        write!(f, ", busy {busy:.1?}")?;
    }
    write!(f, ", {made} {spawned_at}")
}

/// What it waits for and what has woken it.
fn write_reasons(f: &mut Formatter<'_>, info: &TaskInfo) -> fmt::Result {
    info.write_waits(f, "")?;
    match info.woken_by {
        Some(by) if info.waits_for.is_empty() => write!(f, "woken by {by}"),
        Some(by) => write!(f, "; woken by {by}"),
        None => Ok(()),
    }
}
