//! Many child processes while the loop has other things to do: none is lost, and nothing of any is left.

mod common;

#[path = "common/children.rs"]
mod children;
#[path = "common/processes.rs"]
mod processes;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use common::{Kind, complete, run_on, run_until};
use roundelay::{
    EventLoop, ProcessHandle, StreamReader, StreamWriter, create_subprocess_shell, open_connection, sleep, start_server,
};

use children::{exec, no_child_is_left, shell};
use processes::{NONE, Told, gate};

/// A tenth where a sanitizer looks on, which everything takes longer under. `ci/` sets their options.
fn scaled(count: u32) -> u32 {
    let is_watched = ["TSAN_OPTIONS", "ASAN_OPTIONS"].iter().any(|name| std::env::var_os(name).is_some());
    if is_watched { count.div_ceil(10) } else { count }
}

/// What else the loop is busy with: a chain of callbacks, timers, and a conversation over TCP.
#[derive(Clone, Default)]
struct Other(Rc<Counts>);

#[derive(Default)]
struct Counts {
    is_over: Cell<bool>,
    callbacks: Cell<u64>,
    ticks: Cell<u64>,
    echoes: Cell<u64>,
}

fn more(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) {
    while let Ok(data) = reader.read(1000).await {
        if data.is_empty() {
            break;
        }
        writer.write(&data);
    }
    writer.close();
}

impl Other {
    fn start(el: &EventLoop) -> Self {
        let this = Self::default();
        this.clone().callback(el);
        this.clone().tick(el);
        drop(el.create_task(this.clone().converse()));
        this
    }

    fn callback(self, el: &EventLoop) {
        more(&self.0.callbacks);
        if !self.0.is_over.get() {
            let again = el.clone();
            el.call_soon(move || self.callback(&again));
        }
    }

    fn tick(self, el: &EventLoop) {
        more(&self.0.ticks);
        if !self.0.is_over.get() {
            let again = el.clone();
            el.call_later(Duration::from_micros(300), move || self.tick(&again));
        }
    }

    async fn converse(self) {
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let address = server.local_addrs()[0];
        let (mut reader, mut writer) = open_connection(address).await.unwrap();
        while !self.0.is_over.get() {
            let text = format!("{:100}", self.0.echoes.get());
            writer.write(text.as_bytes());
            assert_eq!(reader.readexactly(100).await.unwrap(), text.as_bytes());
            more(&self.0.echoes);
        }
        writer.close();
        writer.wait_closed().await.unwrap();
        server.close();
    }

    /// Ends it when all of it has gone on.
    fn end(&self, el: &EventLoop) {
        let Counts { callbacks, ticks, echoes, .. } = &*self.0;
        let before = [callbacks, ticks, echoes].map(Cell::get);
        run_until(el, || [callbacks, ticks, echoes].iter().zip(before).all(|(count, before)| count.get() > before + 5));
        self.0.is_over.set(true);
        run_until(el, || el.stats().tasks.live() == 0 && el.stats().transports.live() == 0);
        assert!(callbacks.get() >= el.stats().turns / 2, "the callbacks did not get their turns");
    }
}

/// One child, in one of several ways: each has its own code.
async fn one_child(el: &EventLoop, number: u32) {
    let code = (number % 251) as i32;
    match number % 5 {
        0 | 1 => {
            let process = create_subprocess_shell(format!("exit {code}")).await.unwrap();
            assert_eq!(process.wait().await.unwrap().code(), Some(code));
        }
        2 => {
            let mut process = shell("read n; echo \"$n\"; exit $n").await.unwrap();
            let input = format!("{code}\n");
            let (out, err) = process.communicate(Some(input.as_bytes())).await.unwrap();
            assert_eq!((out.unwrap(), err.unwrap()), (input.into_bytes(), vec![]));
            assert_eq!(process.returncode(), Some(code));
        }
        3 => {
            let told = Told::new();
            let command = format!("echo out; echo err >&2; exit {code}");
            let (process, _) = el.subprocess_shell(told.protocol(), command).await.unwrap();
            process.wait().await.unwrap();
            while !told.is_over() {
                roundelay::yield_now().await;
            }
            assert!(told.has(&format!("exited {code}")), "{:?}", told.so_far());
            assert_eq!(told.received().len(), 8);
        }
        _ => {
            // Nobody hears of its end but the loop.
            let process = exec("cat", &[]).await.unwrap();
            let handle = process.handle().clone();
            if number % 2 == 0 {
                handle.kill().unwrap();
            }
            drop(process);
            handle.wait().await.unwrap();
            assert_eq!(handle.returncode(), Some(if number % 2 == 0 { -9 } else { 0 }));
        }
    }
}

/// So many children, so many of them at once.
fn load(el: &EventLoop, count: u32, at_once: u32) {
    let other = Other::start(el);
    let (next, done, live, most) = <(Rc<Cell<u32>>, Rc<Cell<u32>>, Rc<Cell<u32>>, Rc<Cell<u32>>)>::default();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let (el, next, done, live, most) = (el.clone(), next.clone(), done.clone(), live.clone(), most.clone());
            let worker = el.clone();
            el.create_task(async move {
                while next.get() < count {
                    let number = next.replace(next.get() + 1);
                    // So that not all of them are started in one turn.
                    sleep(Duration::from_micros(u64::from(number * 37 % 2000))).await;
                    live.set(live.get() + 1);
                    most.set(most.get().max(live.get()));
                    one_child(&worker, number).await;
                    live.set(live.get() - 1);
                    done.set(done.get() + 1);
                }
            })
        })
        .collect();
    complete(el, async {
        for worker in workers {
            worker.await.unwrap();
        }
    });
    assert_eq!((done.get(), live.get()), (count, 0));
    assert!(most.get() > at_once.min(count) / 3, "{most:?} at once");
    other.end(el);
    no_child_is_left();
}

/// SP-13, SP-30: a thousand children, fifty at a time, watched by their descriptors: none is lost, each has its own status,
/// and neither a zombie nor a descriptor is left.
#[test]
fn a_thousand_children() {
    run_on(|| Kind::Epoll.builder(), |el| load(el, scaled(1000), 50));
}

/// The same on the portable selector, and on one without edges.
#[test]
fn children_on_every_selector() {
    for kind in [Kind::Polling, Kind::Level] {
        run_on(|| kind.builder(), |el| load(el, scaled(200), 50));
    }
}

/// The same where the system has no descriptors of processes, so that a thread waits for each.
#[test]
fn children_watched_by_threads() {
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| match seccomp::refuse(libc::SYS_pidfd_open, libc::ENOSYS) {
            Ok(()) => run_on(|| Kind::Epoll.builder(), |el| load(el, scaled(200), 50)),
            Err(error) => seccomp::skip("children_watched_by_threads", &error),
        });
        if let Err(payload) = refused.join() {
            std::panic::resume_unwind(payload);
        }
    });
}

on_every_loop! {
    /// SP-30: children that all end at the same moment are all heard of, each once.
    fn all_end_at_once(el) {
        let (gate, theirs) = gate();
        let told: Vec<Told> = (0..scaled(100)).map(|_| Told::new()).collect();
        for told in &told {
            let start = el.subprocess_exec(told.protocol(), "cat", NONE).stdin(theirs.try_clone().unwrap());
            complete(el, start).unwrap();
        }
        drop((gate, theirs));
        run_until(el, || told.iter().all(Told::is_over));
        for told in told {
            let events = told.take();
            let ends = events.iter().filter(|event| event.starts_with("exited") || event.starts_with("lost"));
            assert_eq!(ends.count(), 2, "{events:?}");
        }
        no_child_is_left();
    }

    /// SP-09: children that are all closed at the same moment are all killed and reaped.
    fn all_closed_at_once(el) {
        let told: Vec<Told> = (0..scaled(50)).map(|_| Told::new()).collect();
        let processes: Vec<ProcessHandle> =
            told.iter().map(|told| complete(el, el.subprocess_exec(told.protocol(), "cat", NONE)).unwrap().0).collect();
        let pids: BTreeSet<u32> = processes.iter().map(ProcessHandle::pid).collect();
        assert_eq!(pids.len(), processes.len());
        processes.iter().for_each(ProcessHandle::close);
        run_until(el, || told.iter().all(Told::is_over));
        assert!(processes.iter().all(|process| process.returncode() == Some(-9)));
        no_child_is_left();
    }

    /// SP-13: rounds of children leave no more descriptors behind than one.
    fn rounds(el) {
        let counts = RefCell::new(Vec::new());
        for _ in 0..5 {
            complete(el, async {
                for number in 0..5 {
                    one_child(el, number).await;
                }
            });
            run_until(el, || el.stats().transports.live() == 0);
            counts.borrow_mut().push(common::open_descriptors());
        }
        let counts = counts.take();
        assert!(counts[1..].windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        no_child_is_left();
    }
}
