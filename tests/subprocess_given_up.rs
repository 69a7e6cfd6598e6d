//! Child processes that are given up: while they are made, waited for, or talked to.

mod common;

#[path = "common/children.rs"]
mod children;

use std::time::Duration;

use common::{complete, run_until};
use roundelay::{EventLoop, Process};

use children::{exec, has_children, no_child_is_left, shell};

async fn line(process: &mut Process) -> String {
    let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
    String::from_utf8(line).unwrap()
}

/// Runs a future, gives it up after so many polls, and says whether it was done before.
fn given_up<F: Future>(el: &EventLoop, future: F, polls: usize) -> Option<F::Output> {
    complete(el, common::poll_times(future, polls))
}

/// What waits for a child does not take hundreds of turns to come to an end in these tests.
const MANY: usize = 200;

on_every_loop! {
    /// SP-10, gh-125502: the creation of a child that is given up, wherever it is, leaves no child, and no pipe of it.
    fn creation_given_up(el) {
        let before = common::open_descriptors();
        let mut polls = 0;
        loop {
            let created = given_up(el, async { exec("sleep", &["1000"]).await.unwrap() }, polls);
            let Some(process) = created else {
                polls += 1;
                assert!(polls < MANY);
                // Killed and reaped, though the loop does nothing else.
                run_until(el, || !has_children());
                run_until(el, || common::open_descriptors() == before);
                continue;
            };
            assert!(has_children());
            process.kill().unwrap();
            complete(el, process.wait()).unwrap();
            assert_eq!(process.returncode(), Some(-9));
            break;
        }
        assert!(polls > 1, "the creation never waits: there is nothing to give up");
        no_child_is_left();
    }

    /// SP-10, gh-125502: so does one whose task is cancelled, and the loop then ends as usual.
    fn creation_cancelled(el) {
        for turns in 0..6 {
            let task = el.create_task(async { exec("sleep", &["1000"]).await });
            for _ in 0..turns {
                el.run_once(Some(Duration::ZERO)).unwrap();
            }
            task.cancel();
            match common::finish(el, task) {
                Err(error) => assert!(error.is_cancelled(), "{error}"),
                Ok(process) => {
                    // It was faster.
                    assert!(turns > 1);
                    let process = process.unwrap();
                    process.kill().unwrap();
                    complete(el, process.wait()).unwrap();
                }
            }
            run_until(el, || !has_children());
        }
    }

    /// SP-11: whoever gives up waiting changes nothing: the child goes on, and others are told of its end.
    fn wait_given_up(el) {
        let mut process = complete(el, async { exec("cat", &[]).await.unwrap() });
        for polls in 0..2 {
            assert!(given_up(el, process.wait(), polls).is_none());
        }
        let waiting: Vec<_> = (0..5).map(|_| {
            let wait = process.wait();
            el.create_task(async move { wait.await.unwrap().code() })
        }).collect();
        common::settle(el);
        let mut waiting = waiting.into_iter();
        for _ in 0..2 {
            let task = waiting.next().unwrap();
            task.cancel();
            assert!(common::finish(el, task).unwrap_err().is_cancelled());
        }
        assert_eq!(process.returncode(), None);
        process.stdin = None;
        for task in waiting {
            assert_eq!(common::finish(el, task).unwrap(), Some(0));
        }
        assert_eq!(complete(el, process.wait()).unwrap().code(), Some(0));
        no_child_is_left();
    }

    /// SP-11: a `communicate` that is given up, wherever it is, leaves the child running, and what it has not read.
    fn communicate_given_up(el) {
        let mut polls = 0;
        loop {
            let mut process = complete(el, async { shell("cat; echo end; exit 5").await.unwrap() });
            let done = given_up(el, process.communicate(Some(b"input ")), polls).transpose().unwrap();
            let is_done = done.is_some();
            // What was given up has written its input, if it has begun at all.
            let (out, err) = done.unwrap_or_else(|| complete(el, process.communicate(None)).unwrap());
            let expected: &[u8] = if polls == 0 { b"end\n" } else { b"input end\n" };
            assert_eq!((out.unwrap(), err.unwrap()), (expected.to_vec(), vec![]), "given up after {polls} polls");
            assert_eq!(process.returncode(), Some(5));
            if is_done {
                break;
            }
            polls += 1;
            assert!(polls < MANY);
        }
        assert!(polls > 1);
        no_child_is_left();
    }

    /// SP-11: a child that is dropped with everything in the middle of a conversation comes to the end of its input, and is
    /// reaped by the loop that nobody tells to.
    fn everything_dropped_at_each_point(el) {
        let before = common::open_descriptors();
        for polls in 0..8 {
            let conversation = async {
                let mut process = exec("cat", &[]).await.unwrap();
                process.stdin.as_mut().unwrap().write(b"one\n");
                assert_eq!(line(&mut process).await, "one\n");
                process.communicate(Some(b"two\n")).await.unwrap();
            };
            given_up(el, conversation, polls);
            run_until(el, || !has_children());
            run_until(el, || common::open_descriptors() == before && el.stats().transports.live() == 0);
        }
    }
}
