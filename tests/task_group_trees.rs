//! Task groups in task groups: whatever fails, nobody is left and no error is lost.

mod common;
#[path = "common/group_tree.rs"]
mod group_tree;

use std::future::Future;
use std::pin::Pin;

use proptest::prelude::*;

use common::{on_loop, on_strict_loop};
use group_tree::{check, tree, with_quiet_trees};
use roundelay::{EventLoop, GroupError, TaskGroup, gather, try_gather};

/// CB-41, CB-43, CB-44: random trees of groups in which anything fails, panics, is cancelled or is dropped: at the end no
/// child is left, and every error was heard, once.
#[test]
fn random_trees() {
    with_quiet_trees(|| {
        on_loop(|el| {
            let mut config = ProptestConfig::with_cases(300);
            config.failure_persistence = None;
            let drop_after = prop_oneof![Just(1000), 0..20_usize];
            proptest!(config, |(root in tree(), drop_after in drop_after, eager in any::<bool>())| {
                el.set_eager_tasks(eager);
                check(el, root, drop_after)?;
            });
        });
    });
}

/// An error is found wherever it is in the tree.
#[test]
fn errors_of_groups_in_groups() {
    on_loop(|el| {
        let leaf = |text: &'static str| async move {
            TaskGroup::scope(async |group| {
                drop(group.task_builder().name("leaf").spawn(async move { Err::<(), _>(text) }))
            })
            .await
        };
        let outer = TaskGroup::scope(async |group| {
            group.task_builder().name("a").spawn(leaf("left"));
            group.task_builder().name("b").spawn(leaf("right"));
        });
        let error = el.run_until_complete(outer).unwrap().unwrap_err();
        let text = "task group failed: a: (task group failed: leaf: left); b: (task group failed: leaf: right)";
        assert_eq!(error.to_string(), text);
        let inner = error.find::<GroupError>().unwrap();
        assert_eq!(inner.to_string(), "task group failed: leaf: left");
        assert_eq!((&error).into_iter().count(), 2);
    });
}

type Counted = Pin<Box<dyn Future<Output = u64>>>;

/// How many tasks were made by a run, and what it gave.
fn tasks_of(el: &EventLoop, root: Counted) -> (u64, u64) {
    let before = el.stats().tasks.opened;
    let leaves = el.run_until_complete(root).unwrap();
    (leaves, el.stats().tasks.opened - before)
}

/// TF-13: a gather of width 5 in gathers, 4 deep, makes 780 tasks, and one for the root.
#[test]
fn recursive_gathers() {
    fn grow(depth: u8) -> Counted {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            gather((0..5).map(|_| grow(depth - 1))).await.unwrap().into_iter().sum()
        })
    }
    on_strict_loop(|el| {
        assert_eq!(tasks_of(el, grow(4)), (625, 780));
        let root = Box::pin(async { try_gather([async { Ok::<_, std::io::Error>(grow(4).await) }]).await.unwrap()[0] });
        assert_eq!(tasks_of(el, root), (625, 781));
    });
}

/// TF-13: the same of task groups.
#[test]
fn recursive_groups() {
    fn grow(depth: u8) -> Counted {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            let children = TaskGroup::scope(async |group| {
                (0..5).map(|_| group.spawn_infallible(grow(depth - 1))).collect::<Vec<_>>()
            });
            let mut sum = 0;
            for child in children.await.unwrap() {
                sum += child.await.unwrap();
            }
            sum
        })
    }
    on_strict_loop(|el| {
        assert_eq!(tasks_of(el, grow(4)), (625, 780));
    });
}
