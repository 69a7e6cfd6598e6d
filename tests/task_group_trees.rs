//! Task groups in task groups: whatever fails, nobody is left and no error is lost.

mod common;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use proptest::prelude::*;

use common::{DropCounter, on_loop, on_strict_loop, settle, take_reports};
use roundelay::{EventLoop, GroupError, TaskGroup, gather, get_running_loop, try_gather, yield_now};

async fn turns(n: u8) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// What a node of a tree does.
#[derive(Clone, Debug)]
enum Node {
    Succeeds(u8),
    Fails(u8),
    Panics(u8),
    CancelsItself(u8),
    CancelsItsGroup(u8),
    /// Starts the others, waits, and fails or not.
    Group(Vec<Node>, u8, bool),
    /// As `Group`, but starts them one after the other.
    Slow(Vec<Node>),
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = (0..6_u8, 0..12).prop_map(|(after, what)| match what {
        0 | 1 => Node::Fails(after),
        2 => Node::Panics(after),
        3 => Node::CancelsItself(after),
        4 => Node::CancelsItsGroup(after),
        _ => Node::Succeeds(after),
    });
    leaf.prop_recursive(4, 40, 5, |inner| {
        let nodes = prop::collection::vec(inner, 0..5);
        prop_oneof![
            (nodes.clone(), 0..5_u8, prop::bool::weighted(0.1))
                .prop_map(|(nodes, after, fails)| { Node::Group(nodes, after, fails) }),
            nodes.prop_map(Node::Slow),
        ]
    })
}

/// What was begun and what was said on the way.
#[derive(Clone, Default)]
struct Story {
    drops: DropCounter,
    begun: Rc<RefCell<usize>>,
    errors: Rc<RefCell<Vec<String>>>,
}

impl Story {
    /// The text of a new error, which has to be heard somewhere.
    fn error(&self) -> String {
        let mut errors = self.errors.borrow_mut();
        let text = format!("error{:03}.", errors.len());
        errors.push(text.clone());
        text
    }
}

type Run = Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>>>;

fn run(node: Node, story: Story, group: Option<TaskGroup>) -> Run {
    *story.begun.borrow_mut() += 1;
    let guard = story.drops.guard();
    Box::pin(async move {
        let _guard = guard;
        let start = |group: &TaskGroup, node: Node, story: &Story| {
            group.spawn(run(node, story.clone(), Some(group.clone())));
        };
        match node {
            Node::Succeeds(after) => turns(after).await,
            Node::Fails(after) => {
                turns(after).await;
                return Err(story.error().into());
            }
            Node::Panics(after) => {
                turns(after).await;
                std::panic::panic_any(story.error());
            }
            Node::CancelsItself(after) => {
                turns(after).await;
                get_running_loop()?.current_task().unwrap().cancel();
                turns(1).await;
            }
            Node::CancelsItsGroup(after) => {
                turns(after).await;
                group.into_iter().for_each(|group| group.cancel());
                turns(1).await;
            }
            Node::Group(nodes, after, fails) => {
                let scope = TaskGroup::try_scope(async |group| {
                    nodes.iter().for_each(|node| start(&group, node.clone(), &story));
                    turns(after).await;
                    if fails { Err(story.error().into()) } else { Ok(()) }
                });
                match scope.await {
                    Err(error) if error.iter().count() > 0 => return Err(error.into()),
                    _ => {}
                }
            }
            Node::Slow(nodes) => {
                let scope = TaskGroup::scope(async |group| {
                    for node in &nodes {
                        start(&group, node.clone(), &story);
                        turns(2).await;
                    }
                });
                match scope.await {
                    Err(error) if error.iter().count() > 0 => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    })
}

/// Runs a tree; drops it after so many turns if it is not done by then. Every error is in the group's or was reported, once.
fn check(el: &EventLoop, root: Node, drop_after: usize) -> Result<(), TestCaseError> {
    let story = Story::default();
    let told = story.clone();
    let mut scope = Box::pin(TaskGroup::scope(async |group: TaskGroup| {
        group.spawn(run(root, told, Some(group.clone())));
    }));
    let mut heard = String::new();
    for n in 0.. {
        let polled = el.run_until_complete(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx)))).unwrap();
        if let Poll::Ready(result) = polled {
            heard = result.err().map(|error| error.to_string()).unwrap_or_default();
            break;
        }
        if n == drop_after {
            break;
        }
    }
    drop(scope);
    prop_assert_eq!(story.drops.count(), *story.begun.borrow(), "futures that outlive the scope");
    settle(el);
    prop_assert_eq!(el.stats().tasks.live(), 0);
    heard.push_str(&take_reports().join("\n"));
    for error in story.errors.borrow().iter() {
        prop_assert_eq!(heard.matches(error.as_str()).count(), 1, "{} in {:?}", error, &heard);
    }
    Ok(())
}

/// CB-41, CB-43, CB-44: random trees of groups in which anything fails, panics, is cancelled or is dropped: at the end no
/// child is left, and every error was heard, once.
#[test]
fn random_trees() {
    let hook = std::panic::take_hook();
    // Hundreds of panics on purpose.
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<String>() || info.location().is_some_and(|place| !place.file().ends_with("trees.rs")) {
            eprintln!("{info}");
        }
    }));
    on_loop(|el| {
        let mut config = ProptestConfig::with_cases(300);
        config.failure_persistence = None;
        proptest!(config, |(root in tree(), drop_after in prop_oneof![Just(1000), 0..20_usize], eager in any::<bool>())| {
            el.set_eager_tasks(eager);
            check(el, root, drop_after)?;
        });
    });
    std::panic::set_hook(hook);
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
