//! A dump for programs.

use std::collections::HashMap;

use crate::event_loop::dump::{TaskDump, What};
use crate::event_loop::json::{Json, Shown};
use crate::sched::branch::BranchKey;
use crate::sched::info::{BranchInfo, TaskInfo, WaitsFor, WokenBy};

impl TaskDump {
    /// The dump as one line of JSON: an object with the fields
    ///
    /// - `loop`: the loop's number, and `name`: its name, or null;
    /// - `inspection`: whether the loop is [inspected](crate::EventLoop::set_inspection);
    /// - `tasks`: an array of objects, in order of creation, with `id`, `name`, `is_root`, `state` (`"running"`,
    ///   `"pending"` or `"cancelling"`), `spawned_at` (`"file:line:column"`), `age` (in seconds), `polls`, `busy` (in
    ///   seconds, or null), `woken_by` (null, or an object with `kind` and `text`, and for another task its number as
    ///   `task`, for a descriptor `fd`, for a callback its place as `at`), `waits_for` (an array of objects with `kind` and
    ///   `text`, and, by kind, `task`, `left` in seconds, `fd` and `write`, `at`, `live`, `pid`, `name`), `awaited_by` (null,
    ///   or an object with `task`, `how` and `is_certain`), and `gathering`: the number of its gather or group, or null;
    /// - `gatherings`: an array of the gathers and groups that have live children: objects with `id`, `kind`, `made_at`,
    ///   `task` (the task that awaits it, or null) and `live`;
    /// - `cycles`: an array of arrays of task numbers, as [`cycles`](Self::cycles) gives them.
    ///
    /// Fields and kinds may be added in later versions; none changes its meaning. Characters are escaped, and whatever the
    /// names hold it is one line.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let task = el.task_builder().name("idle").spawn(roundelay::sleep(std::time::Duration::MAX));
    /// let dump: serde_json::Value = serde_json::from_str(&el.dump_tasks().to_json()).unwrap();
    /// assert_eq!(dump["tasks"][0]["name"], "idle");
    /// # drop(task);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut json = Json::new();
        self.write_json(&mut json);
        json.into_string()
    }

    /// As `to_json`, as the next value.
    pub(crate) fn write_json(&self, json: &mut Json) {
        json.object(|json| {
            json.field("loop", self.loop_id);
            json.field("name", self.loop_name.as_deref());
            json.field("inspection", self.is_inspected);
            json.key("tasks");
            let gatherings: HashMap<BranchKey, usize> = self.branches().map(|(n, branch)| (branch.key, n)).collect();
            json.array(|json| {
                self.tasks().for_each(|info| write_task(json, info, gatherings.get(&info.branch).copied()))
            });
            json.key("gatherings");
            json.array(|json| self.branches().for_each(|(number, branch)| write_branch(json, number, branch)));
            json.key("cycles");
            json.array(|json| {
                for cycle in self.cycles() {
                    json.array(|json| cycle.iter().for_each(|id| json.value(id.as_u64())));
                }
            });
        });
    }

    /// The branches with their numbers.
    fn branches(&self) -> impl Iterator<Item = (usize, &BranchInfo)> {
        let nodes = self.nodes[self.tasks..].iter().zip(1..);
        nodes.filter_map(|(node, number)| match &node.what {
            What::Branch(branch) => Some((number, branch)),
            What::Task(_) => None,
        })
    }
}

fn write_task(json: &mut Json, info: &TaskInfo, gathering: Option<usize>) {
    json.object(|json| {
        json.field("id", info.id.as_u64());
        json.field("name", &*info.name);
        json.field("is_root", info.is_root);
        json.field("state", Shown(info.state));
        json.field("spawned_at", Shown(info.spawned_at));
        json.field("age", info.age.as_secs_f64());
        json.field("polls", info.polls);
        json.field("busy", info.busy.map(|busy| busy.as_secs_f64()));
        json.key("woken_by");
        match &info.woken_by {
            Some(by) => write_woken_by(json, by),
            None => json.value(None::<u64>),
        }
        json.key("waits_for");
        json.array(|json| info.waits_for.iter().for_each(|wait| write_wait(json, wait)));
        json.key("awaited_by");
        match info.awaited_by {
            Some(by) => json.object(|json| {
                json.field("task", by.task.as_u64());
                json.field("how", Shown(by.how));
                json.field("is_certain", by.is_certain);
            }),
            None => json.value(None::<u64>),
        }
        json.field("gathering", gathering);
    });
}

fn write_branch(json: &mut Json, number: usize, branch: &BranchInfo) {
    json.object(|json| {
        json.field("id", number);
        json.field("kind", Shown(branch.kind));
        json.field("made_at", Shown(branch.made_at));
        json.field("task", branch.task.map(|task| task.as_u64()));
        json.field("live", branch.live);
    });
}

fn write_woken_by(json: &mut Json, by: &WokenBy) {
    json.object(|json| {
        let kind = match by {
            WokenBy::Spawn => "spawn",
            WokenBy::Itself => "itself",
            WokenBy::Task(_) => "task",
            WokenBy::Timer => "timer",
            WokenBy::Descriptor(_) => "descriptor",
            WokenBy::Callback(_) => "callback",
            WokenBy::Posted => "posted",
            WokenBy::Thread => "thread",
            WokenBy::Cancel => "cancel",
            WokenBy::Outside => "outside",
        };
        json.field("kind", kind);
        match by {
            WokenBy::Task(id) => json.field("task", id.as_u64()),
            WokenBy::Descriptor(fd) => json.field("fd", *fd),
            WokenBy::Callback(place) => json.field("at", Shown(place)),
            _ => {}
        }
        json.field("text", Shown(by));
    });
}

fn write_wait(json: &mut Json, wait: &WaitsFor) {
    json.object(|json| {
        let kind = match wait {
            WaitsFor::Task { .. } => "task",
            WaitsFor::Children { .. } => "children",
            WaitsFor::Timer { .. } => "timer",
            WaitsFor::Descriptor { .. } => "descriptor",
            WaitsFor::Future { .. } => "future",
            WaitsFor::Job(_) => "job",
            WaitsFor::Process(_) => "process",
            WaitsFor::Other(_) => "other",
            WaitsFor::Unknown => "unknown",
            WaitsFor::Nothing => "nothing",
        };
        json.field("kind", kind);
        match wait {
            WaitsFor::Task { id, .. } => json.field("task", id.as_u64()),
            WaitsFor::Children { made_at, live, .. } => {
                json.field("at", Shown(made_at));
                json.field("live", *live);
            }
            WaitsFor::Timer { left, .. } => json.field("left", left.as_secs_f64()),
            WaitsFor::Descriptor { fd, write } => {
                json.field("fd", *fd);
                json.field("write", *write);
            }
            WaitsFor::Future { created_at } => json.field("at", Shown(created_at)),
            WaitsFor::Job(name) => json.field("name", *name),
            WaitsFor::Process(pid) => json.field("pid", *pid),
            WaitsFor::Other(_) | WaitsFor::Unknown | WaitsFor::Nothing => {}
        }
        json.field("text", Shown(wait));
    });
}
