//! Random trees of task groups, for the tests of groups and of orders. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::set_hook;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use proptest::prelude::*;

use crate::common::{DropCounter, settle, take_reports};
use roundelay::{EventLoop, TaskGroup, get_running_loop, yield_now};

/// Runs what panics hundreds of times on purpose, quietly.
pub fn with_quiet_trees(f: impl FnOnce()) {
    let hook = std::panic::take_hook();
    set_hook(Box::new(|info| {
        if !info.payload().is::<String>()
            || info.location().is_some_and(|place| !place.file().ends_with("group_tree.rs"))
        {
            eprintln!("{info}");
        }
    }));
    f();
    set_hook(hook);
}

async fn turns(n: u8) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// What a node of a tree does.
#[derive(Clone, Debug)]
pub enum Node {
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

pub fn tree() -> impl Strategy<Value = Node> {
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
pub fn check(el: &EventLoop, root: Node, drop_after: usize) -> Result<(), TestCaseError> {
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
