//! What holds several tasks together: groups and gathers. Kept so that it can be told for whom their children work.

use std::panic::Location;
use std::rc::{Rc, Weak};

use crate::sched::Local;
use crate::sched::active::{Awaiter, TaskRef};
use crate::sched::info::AwaitKind;

/// Where the record of a group or a gather is. Children hold what the record is of, so that it names nothing else before
/// they are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BranchKey(u32);

impl BranchKey {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// What is known of one.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) kind: AwaitKind,
    pub(crate) made_at: &'static Location<'static>,
    /// Who has polled it last; whoever has made it before that.
    pub(crate) awaiter: Awaiter,
    /// Whether it was polled.
    pub(crate) is_awaited: bool,
}

/// All records of a loop.
#[derive(Default)]
pub(crate) struct Branches {
    records: Vec<Option<Record>>,
    free: Vec<u32>,
}

impl Branches {
    fn insert(&mut self, record: Record) -> BranchKey {
        if let Some(place) = self.free.pop() {
            self.records[place as usize] = Some(record);
            return BranchKey(place);
        }
        let place = u32::try_from(self.records.len()).expect("fewer than 2^32 groups");
        self.records.push(Some(record));
        BranchKey(place)
    }

    fn remove(&mut self, key: BranchKey) {
        self.records[key.0 as usize] = None;
        self.free.push(key.0);
        if self.free.len() == self.records.len() {
            *self = Self::default();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BranchKey, &Record)> {
        let places = self.records.iter().zip(0..);
        places.filter_map(|(record, place)| Some((BranchKey(place), record.as_ref()?)))
    }
}

/// A record, for as long as this lives: of a group, by the group.
pub(crate) struct Branch {
    local: Weak<Local>,
    key: BranchKey,
}

impl Branch {
    pub(crate) fn new(local: &Rc<Local>, kind: AwaitKind, made_at: &'static Location<'static>) -> Self {
        let record = Record { kind, made_at, awaiter: local.awaiter(), is_awaited: false };
        Self { local: Rc::downgrade(local), key: local.branches.borrow_mut().insert(record) }
    }

    /// Whoever is being polled waits for it.
    pub(crate) fn await_here(&self, local: &Local) {
        if let Some(Some(record)) = local.branches.borrow_mut().records.get_mut(self.key.0 as usize) {
            (record.awaiter, record.is_awaited) = (local.awaiter(), true);
        }
    }

    pub(crate) fn key(&self) -> BranchKey {
        self.key
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        if let Some(local) = self.local.upgrade() {
            local.branches.borrow_mut().remove(self.key);
        }
    }
}

impl Local {
    /// The task that is being polled, as one that is told to wait.
    #[inline]
    pub(crate) fn awaiter(&self) -> Awaiter {
        let id = self.current.get().map_or(0, |task| task.id.as_u64());
        #[expect(clippy::cast_possible_truncation, reason = "to be compared with others of which the same is left")]
        Awaiter { id, poll: self.poll.get() as u32 }
    }

    /// Makes a task one of those of a branch.
    pub(crate) fn join_branch(&self, task: TaskRef, branch: &Branch) {
        if let Some(entry) = self.active.borrow().get(task) {
            entry.branch.set(branch.key);
        }
    }
}
