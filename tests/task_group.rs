//! Task groups: what is waited for, who fails with whom, and who hears of which error (behaviours CB).

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_strict_loop, settle, take_reports};
use roundelay::{
    Child, ContextVar, EventLoop, Fatal, GroupError, JoinError, Outcome, TaskGroup, get_running_loop, sleep, yield_now,
};

/// What was reported, without the places.
fn heads() -> Vec<String> {
    take_reports().iter().filter_map(|report| report.lines().next()).map(str::to_owned).collect()
}

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// A child that fails after some turns.
async fn failing(after: usize, text: &str) -> Result<(), String> {
    turns(after).await;
    Err(text.to_owned())
}

/// A child that never ends, and counts its drop.
fn waiting(drops: &DropCounter) -> impl Future<Output = ()> + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

fn names(error: &GroupError) -> Vec<&str> {
    error.iter().map(|error| error.name()).collect()
}

/// CB-41: the scope waits for all children, and what they gave is to be had afterwards.
#[test]
fn waits_for_all_children() {
    on_loop(|el| {
        complete(el, async {
            let (a, b) = TaskGroup::scope(async |group| {
                let slow = async {
                    turns(5).await;
                    Ok::<_, io::Error>("slow")
                };
                (group.spawn(slow), group.spawn_infallible(async { "fast" }))
            })
            .await
            .unwrap();
            assert!(a.is_done() && b.is_done());
            assert_eq!((a.await.unwrap(), b.await.unwrap()), ("slow", "fast"));
        });
    });
}

/// CB-41: children that are started late, by children and after the body has returned, are waited for, too; a group
/// without children is done with its body.
#[test]
fn waits_for_late_children() {
    fn spread(group: TaskGroup, log: Log, depth: usize) {
        let sibling = group.clone();
        group.spawn(async move {
            turns(1).await;
            log.push(format!("depth {depth}"));
            if depth < 3 {
                spread(sibling, log, depth + 1);
            }
        });
    }
    on_loop(|el| {
        complete(el, async {
            let log = Log::new();
            let scope = TaskGroup::scope(async |group| spread(group, log.clone(), 1));
            scope.await.unwrap();
            assert_eq!(log.take(), ["depth 1", "depth 2", "depth 3"]);
            assert_eq!(TaskGroup::scope(async |_| 7).await.unwrap(), 7);
        });
    });
}

/// CB-41: a child begins in the next turn, and the scope goes on in the turn after the last child's end.
#[test]
fn children_begin_and_end_in_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        let task = el.create_task(async move {
            let inner = told.clone();
            TaskGroup::scope(async |group| {
                group.spawn(async move { inner.push("child") });
                told.push("body");
            })
            .await
            .unwrap();
            told.push("after");
        });
        for expected in [vec!["body"], vec!["child"], vec!["after"]] {
            turn(el);
            assert_eq!(log.take(), expected);
        }
        complete(el, task).unwrap();
    });
}

/// CB-41: the body is part of the awaiting task: it may borrow, and awaits its children like any task.
#[test]
fn the_body_may_borrow() {
    on_loop(|el| {
        complete(el, async {
            let words = ["one".to_owned(), "two".to_owned()];
            let mut lengths = Vec::new();
            let first = TaskGroup::try_scope(async |group| {
                for word in &words {
                    let length = word.len();
                    lengths.push(group.spawn_infallible(async move { length }).await?);
                }
                Ok(&words[0])
            });
            assert_eq!(first.await.unwrap(), "one");
            assert_eq!(lengths, [3, 3]);
        });
    });
}

/// CB-41: an error ends everybody: siblings are cancelled, the body is dropped where it waits, and the error comes when
/// all of that is done.
#[test]
fn an_error_ends_the_group() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let mut siblings = Vec::new();
            let scope = TaskGroup::scope(async |group| {
                let _guard = drops.guard();
                siblings.extend((0..3).map(|_| group.spawn(waiting(&drops))));
                group.task_builder().name("culprit").spawn(failing(2, "no luck"));
                pending::<()>().await
            });
            let error = scope.await.unwrap_err();
            assert_eq!(drops.count(), 4);
            assert_eq!(error.to_string(), "task group failed: culprit: no luck");
            assert!(!error.is_cancelled() && !error.is_timed_out());
            assert_eq!(error.source().unwrap().to_string(), "no luck");
            assert!(error.iter().all(|error| error.task_id().is_some() && !error.is_panic()));
            for sibling in siblings {
                assert!(sibling.await.unwrap_err().is_cancelled());
            }
        });
    });
}

/// CB-41: every error is kept, in the order in which they came: of children that fail in the same turn, and of children
/// and body.
#[test]
fn all_errors_are_kept() {
    on_loop(|el| {
        complete(el, async {
            let scope = TaskGroup::try_scope(async |group| {
                for (name, after) in [("b", 2), ("a", 2), ("late", 3)] {
                    group.task_builder().name(name).spawn(failing(after, name));
                }
                group.task_builder().name("c").spawn(async {
                    turns(2).await;
                    panic!("third") as ()
                });
                turns(2).await;
                Err::<(), _>("the body's".into())
            });
            let error = scope.await.unwrap_err();
            // The body is polled before its children, who were woken after it.
            assert_eq!(names(&error), ["body", "b", "a", "c"]);
            assert_eq!(error.to_string(), "task group failed: body: the body's; b: b; a: a; c: panicked: third");
            let (errors, count) = (error.into_errors(), 4);
            assert_eq!(errors.len(), count);
            assert_eq!(errors[0].task_id(), None);
            let panic = errors.into_iter().next_back().unwrap();
            assert!(panic.is_panic());
            let payload = panic.into_error().downcast::<JoinError>().unwrap().into_panic();
            assert_eq!(payload.downcast_ref(), Some(&"third"));
        });
    });
}

/// CB-41: the handle of a child that failed says so, and that the group has the error; nothing is reported, whether the
/// handle is kept or not.
#[test]
fn what_the_handle_says() {
    on_loop(|el| {
        complete(el, async {
            let log = Log::new();
            let mut handles: Option<(Child<u8>, Child<()>)> = None;
            let scope = TaskGroup::scope(async |group| {
                let failed = group.spawn(async { Err::<u8, _>(io::Error::other("its own")) });
                let told = log.clone();
                failed.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
                let panicked = group.spawn(async { panic!("loud") as () });
                let told = log.clone();
                panicked.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
                group.spawn(async { panic!("unseen") as () });
                handles = Some((failed, panicked));
                pending::<()>().await
            });
            assert_eq!(scope.await.unwrap_err().iter().count(), 3);
            turns(1).await;
            assert_eq!(log.take(), [format!("{:?}", Outcome::Failed), format!("{:?}", Outcome::Panicked)]);
            let (failed, panicked) = handles.unwrap();
            assert!(format!("{failed:?}").starts_with("<Task failed"), "{failed:?}");
            assert!(failed.is_done() && !failed.is_cancelled());
            let error = failed.into_task().await.unwrap_err();
            assert!(error.is_failed() && !error.is_panic() && !error.is_cancelled() && !error.is_closed());
            assert_eq!(error.to_string(), "failed: the task group has the error");
            assert_eq!(error.try_into_panic().unwrap_err().to_string(), "failed: the task group has the error");
            let error = panicked.await.unwrap_err();
            assert!(error.is_panic() && !error.is_failed());
            assert_eq!(error.to_string(), "panicked: loud");
            assert_eq!(error.into_panic().downcast_ref::<String>().unwrap(), "loud");
        });
        assert_eq!(take_reports(), [""; 0]);
    });
}

/// CB-41, CB-08: a child that is cancelled by somebody has not failed: the others go on, and the scope succeeds.
#[test]
fn a_cancelled_child_is_no_error() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let (cancelled, other) = TaskGroup::scope(async |group| {
                let cancelled = group.spawn(waiting(&drops));
                let other = group.spawn_infallible(async {
                    turns(4).await;
                    "done"
                });
                let itself = group.spawn(async {
                    get_running_loop().unwrap().current_task().unwrap().cancel();
                    pending::<()>().await
                });
                turns(1).await;
                assert!(cancelled.cancel());
                assert!(itself.await.unwrap_err().is_cancelled());
                (cancelled, other)
            })
            .await
            .unwrap();
            assert_eq!(drops.count(), 1);
            assert!(cancelled.await.unwrap_err().is_cancelled());
            assert_eq!(other.await.unwrap(), "done");
        });
    });
}

/// CB-41: an error of the body is one of the group, and cancels the children.
#[test]
fn an_error_of_the_body() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let scope = TaskGroup::try_scope(async |group| {
                group.spawn(waiting(&drops));
                turns(1).await;
                Ok("many".parse::<u8>()?)
            });
            let error = scope.await.unwrap_err();
            assert_eq!(drops.count(), 1);
            assert_eq!(names(&error), ["body"]);
            assert!(error.find::<std::num::ParseIntError>().is_some());
            assert!(error.find::<io::Error>().is_none());
        });
    });
}

/// CB-41: a panic of the body cancels the children, waits for them, and goes on; what they have to say is reported.
#[test]
fn a_panic_of_the_body() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("in a destructor of the body's");
        }
    }
    on_loop(|el| {
        let drops = DropCounter::new();
        let task = el.create_task({
            let drop_one = waiting(&drops);
            async {
                TaskGroup::scope(async |group| {
                    group.spawn(drop_one);
                    group.task_builder().name("other").spawn(failing(2, "heard of"));
                    turns(2).await;
                    panic!("the body's")
                })
                .await
            }
        });
        settle(el);
        assert_eq!(drops.count(), 1);
        let error = complete(el, task).unwrap_err();
        assert_eq!(error.to_string(), "panicked: the body's");
        assert_eq!(heads(), ["Exception in a task group whose body has panicked: other: heard of"]);

        // It is dropped because a child has failed, and panics then.
        let task = el.create_task(async {
            TaskGroup::scope(async |group| {
                let _loud = Loud;
                group.task_builder().name("other").spawn(failing(1, "heard of"));
                pending::<()>().await
            })
            .await
        });
        settle(el);
        assert_eq!(complete(el, task).unwrap_err().to_string(), "panicked: in a destructor of the body's");
        assert_eq!(heads(), ["Exception in a task group whose body has panicked: other: heard of"]);

        // Only one of two panics can go on.
        let task = el.create_task(async {
            TaskGroup::scope(async |_| {
                let _loud = std::mem::ManuallyDrop::new(Loud);
                panic!("the first")
            })
            .await
        });
        assert_eq!(complete(el, task).unwrap_err().to_string(), "panicked: the first");
    });
}

/// A fatal panic of a child leaves the loop's run at once, and the group hears of it all the same.
#[test]
fn a_fatal_panic_of_a_child() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let sibling = waiting(&drops);
        let task = el.create_task(async {
            let scope = TaskGroup::scope(async |group| {
                group.spawn(sibling);
                group.task_builder().name("fatal").spawn(async { panic_any(Fatal::new(3)) as () });
            });
            scope.await.unwrap_err()
        });
        let payload = catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err();
        assert!(payload.is::<Fatal>());
        let error = complete(el, task).unwrap();
        assert_eq!(names(&error), ["fatal"]);
        assert!(error.iter().all(|error| error.is_panic()));
        assert_eq!(drops.count(), 1);
    });
}

/// A fatal panic of the body leaves the loop's run at once; the children go with the scope.
#[test]
fn a_fatal_panic_of_the_body() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let child = waiting(&drops);
        let task = el.create_task(async {
            let scope = TaskGroup::scope(async |group| {
                group.spawn(child);
                turns(1).await;
                panic_any(Fatal::new(3))
            });
            scope.await.unwrap()
        });
        assert!(catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err().is::<Fatal>());
        assert_eq!(drops.count(), 1);
        assert!(complete(el, task).unwrap_err().is_panic());
    });
}

/// CB-44: an error of the group is no cancellation of whoever awaits it: it goes on as before.
#[test]
fn whoever_awaited_goes_on() {
    on_loop(|el| {
        let task = el.create_task(async {
            let error = TaskGroup::scope(async |group| drop(group.spawn(failing(1, "no")))).await.unwrap_err();
            assert_eq!(error.iter().count(), 1);
            sleep(Duration::from_millis(1)).await;
            turns(2).await;
            "went on"
        });
        assert_eq!(complete(el, task).unwrap(), "went on");
    });
}

/// CB-44: a cancellation of whoever awaits the group, in the turn of the group's own error or while it is ending, is not
/// lost; the error is reported, for there is nobody to give it to.
#[test]
fn a_cancellation_beside_an_error() {
    for late in [0, 1] {
        on_strict_loop(|el| {
            let parent = Rc::new(RefCell::new(None::<roundelay::Canceller>));
            let cancel = parent.clone();
            let task = el.create_task(async move {
                let scope = TaskGroup::scope(async |group| {
                    group.task_builder().name("child").spawn(async move {
                        turns(1).await;
                        if late == 0 {
                            cancel.borrow().as_ref().unwrap().cancel();
                        } else {
                            let cancel = cancel.clone();
                            get_running_loop().unwrap().call_soon(move || cancel.borrow().as_ref().unwrap().cancel());
                        }
                        Err::<(), _>("its error")
                    });
                    group.spawn(async {
                        // Leaves the turn after next.
                        turns(9).await
                    });
                    pending::<()>().await
                });
                scope.await.unwrap_err();
                unreachable!("it is cancelled");
            });
            parent.replace(Some(task.canceller()));
            settle(el);
            assert!(task.is_cancelled());
            assert_eq!(heads(), ["Exception in a task group whose scope was dropped: child: its error"]);
        });
    }
}

/// CB-45: while the group is failing, nobody may come any more: the future is dropped, the task is cancelled, and nothing is
/// reported, for whoever came is about to be cancelled, too.
#[test]
fn nobody_comes_to_a_failing_group() {
    struct Late(TaskGroup, DropCounter, Rc<Cell<bool>>);
    impl Drop for Late {
        fn drop(&mut self) {
            assert!(!self.0.is_open());
            let child = self.0.spawn(waiting(&self.1));
            assert_eq!(self.1.count(), 1);
            assert!(child.is_done() && child.is_cancelled());
            assert!(child.into_task().cancel_on_drop().detach_on_drop().is_cancelled());
            self.2.set(true);
        }
    }
    on_loop(|el| {
        let (drops, dropped) = (DropCounter::new(), Rc::new(Cell::new(false)));
        let (counter, flag) = (drops.clone(), dropped.clone());
        complete(el, async {
            let scope = TaskGroup::scope(async |group| {
                let late = Late(group.clone(), counter, flag);
                group.spawn(async move {
                    let _late = late;
                    pending::<()>().await
                });
                group.spawn(failing(1, "no"));
            });
            assert_eq!(scope.await.unwrap_err().iter().count(), 1);
        });
        assert!(dropped.get());
        assert_eq!(drops.count(), 1);
    });
}

/// CB-45: to a group that is over, or whose scope was dropped, nobody may come, and the exception handler is told.
#[test]
fn nobody_comes_to_a_group_that_is_over() {
    on_loop(|el| {
        let drops = DropCounter::new();
        complete(el, async {
            let group = TaskGroup::scope(async |group| {
                assert!(group.is_open());
                group
            })
            .await
            .unwrap();
            assert!(!group.is_open());
            let line = line!() + 1;
            let child = group.task_builder().name("late").spawn(waiting(&drops));
            assert_eq!(drops.count(), 1);
            assert_eq!(&*child.name(), "late");
            assert!(child.await.unwrap_err().is_cancelled());
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].starts_with("TaskGroup::spawn(): the group's scope is over"), "{reports:?}");
            assert!(reports[0].contains(&format!("{}:{line}", file!())), "{reports:?}");

            let mut leaked = None;
            let mut scope = Box::pin(TaskGroup::scope(async |group| {
                leaked = Some(group);
                pending::<()>().await
            }));
            assert!(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending())).await);
            drop(scope);
            drop(leaked.unwrap().spawn_infallible(waiting(&drops)));
            assert_eq!(drops.count(), 2);
            assert_eq!(take_reports().len(), 1);
        });
    });
}

/// CB-45, TK-28: on a closed loop a group takes nobody, and says so as any scheduling does.
#[test]
fn nobody_comes_on_a_closed_loop() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let kept = Rc::new(RefCell::new(None));
        let keep = kept.clone();
        drop(el.create_task(async move {
            let scope = TaskGroup::scope(async |group: TaskGroup| {
                keep.replace(Some(group.clone()));
                group.spawn(pending::<()>());
            });
            scope.await
        }));
        settle(el);
        el.close();
        let group = kept.take().unwrap();
        let child = group.spawn(waiting(&drops));
        assert_eq!(drops.count(), 1);
        assert!(child.is_done());
        assert!(take_reports()[0].contains("event loop is closed"));
    });
}

/// CX-01, CX-03: a child runs in a copy of the context in which it was started, or in the one that it is given.
#[test]
fn contexts_of_children() {
    static NAME: ContextVar<&str> = ContextVar::new("name");
    on_loop(|el| {
        complete(el, async {
            NAME.set("parent");
            let shared = roundelay::Context::new();
            let (own,) = TaskGroup::scope(async |group| {
                let own = group.spawn_infallible(async {
                    let inherited = NAME.replace("child");
                    turns(1).await;
                    (inherited, NAME.get())
                });
                group.task_builder().context(&shared).spawn_infallible(async { NAME.set("shared") });
                (own,)
            })
            .await
            .unwrap();
            assert_eq!(own.await.unwrap(), (Some("parent"), Some("child")));
            assert_eq!(NAME.get(), Some("parent"));
            assert_eq!(shared.run(|| NAME.get()), Some("shared"));
        });
    });

    trait Replace {
        fn replace(&self, value: &'static str) -> Option<&'static str>;
    }
    impl Replace for ContextVar<&'static str> {
        fn replace(&self, value: &'static str) -> Option<&'static str> {
            let before = self.get();
            self.set(value);
            before
        }
    }
}

/// TF-01: children are made by the task factory; one whose wrapper ends without running it counts as cancelled.
#[test]
fn children_of_a_factory() {
    on_loop(|el| {
        let made = Log::new();
        let log = made.clone();
        el.set_task_factory(Some(Rc::new(move |_, future, meta| {
            log.push(meta.name.as_deref().unwrap_or("?"));
            if meta.name.as_deref() == Some("never") { Box::pin(async {}) } else { future }
        })));
        let drops = DropCounter::new();
        complete(el, async {
            let (never, good) = TaskGroup::scope(async |group| {
                let never = group.task_builder().name("never").spawn(waiting(&drops));
                (never, group.task_builder().name("good").spawn_infallible(async { 1 }))
            })
            .await
            .unwrap();
            assert!(never.await.unwrap_err().is_cancelled());
            assert_eq!(good.await.unwrap(), 1);
            let scope = TaskGroup::scope(async |group| drop(group.task_builder().name("bad").spawn(failing(1, "no"))));
            assert_eq!(scope.await.unwrap_err().to_string(), "task group failed: bad: no");
        });
        assert_eq!(made.take(), ["never", "good", "bad"]);
        assert_eq!(drops.count(), 1);

        // TF-05: its panic comes out of spawn, and is the body's.
        el.set_task_factory(Some(Rc::new(|_, _, _| panic!("no tasks today"))));
        let mut scope = Box::pin(TaskGroup::scope(async |group| drop(group.spawn(waiting(&drops)))));
        let panicked = catch_unwind(AssertUnwindSafe(|| el.run_until_complete(scope.as_mut())));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"no tasks today"));
        assert_eq!(drops.count(), 2);
        el.set_task_factory(None);
    });
}

/// What is kept of the errors can cross threads and become an `io::Error`, with the kind of the first one.
#[test]
fn errors_as_io_errors() {
    fn crosses_threads<T: Send + Sync + 'static>() {}
    crosses_threads::<GroupError>();
    on_loop(|el| {
        complete(el, async {
            let failing = |error: io::Error| async move {
                let scope = TaskGroup::scope(async |group| drop(group.spawn(async { Err::<(), _>(error) })));
                io::Error::from(scope.await.unwrap_err())
            };
            assert_eq!(failing(io::ErrorKind::NotFound.into()).await.kind(), io::ErrorKind::NotFound);
            let scope = TaskGroup::scope(async |group| drop(group.spawn(async { Err::<(), _>("text") })));
            let error = io::Error::from(scope.await.unwrap_err());
            assert_eq!(error.kind(), io::ErrorKind::Other);
            assert!(error.get_ref().unwrap().is::<GroupError>());
        });
    });
}

/// Outside of a running loop, in another one, and after its end, the scope's panic says what is wrong.
#[test]
fn where_a_scope_cannot_be_polled() {
    on_loop(|el| {
        let text = |poll: &mut dyn FnMut()| {
            let payload = catch_unwind(AssertUnwindSafe(poll)).unwrap_err();
            payload
                .downcast::<String>()
                .map_or_else(|text| text.downcast_ref::<&str>().unwrap().to_string(), |text| *text)
        };
        let mut cx = Context::from_waker(Waker::noop());
        let mut never = pin!(TaskGroup::scope(async |_| ()));
        let outside = text(&mut || drop(never.as_mut().poll(&mut cx)));
        assert_eq!(outside, "roundelay::TaskGroup::scope() was called outside of a running event loop");

        let mut scope = Box::pin(TaskGroup::scope(async |group| {
            group.spawn(turns(2));
        }));
        assert!(el.run_until_complete(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending()))).unwrap());
        let other = EventLoop::new().unwrap();
        let foreign = text(&mut || drop(other.run_until_complete(scope.as_mut())));
        assert!(foreign.starts_with("a task group of loop"), "{foreign}");
        other.close();
        complete(el, scope.as_mut()).unwrap();
        let again = text(&mut || drop(scope.as_mut().poll(&mut cx)));
        assert_eq!(again, "TaskGroup::scope(): polled after it was ready");
    });
}
