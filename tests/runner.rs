//! Running a program: `block_on` and `Runner`, and the order of their end (behaviours PO-05 to PO-10, CX-15, api 1).

// Handles to tasks and jobs are handed out of a run, to be looked at after the end.
#![allow(clippy::async_yields_async)]

mod common;
#[path = "common/runners.rs"]
mod runners;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::FutureExt;

use common::{DropCounter, Log, PATIENCE, alone, open_descriptors, take_reports};
use roundelay::{
    ContextVar, EventLoop, Fatal, JoinError, ManualClock, Outcome, Protocol, RunError, Runner, Server, Transport,
    block_on, get_running_loop, open_connection, spawn, spawn_blocking, start_server, yield_now,
};
use runners::{OnDrop, forever_with, hasty, jam, on_runner, panic_of, patient, told};

// ---------------------------------------------------------------- block_on

/// PO-05: `block_on` gives the future's output. The future may borrow, and may be a builder.
#[test]
fn block_on_gives_the_output() {
    let _alone = alone();
    let text = String::from("borrowed");
    assert_eq!(block_on(async { text.len() }), 8);
    assert_eq!(block_on(async { Err::<(), _>("an error is an output, too") }), Err("an error is an output, too"));

    struct Five;
    impl IntoFuture for Five {
        type Output = i32;
        type IntoFuture = std::future::Ready<i32>;
        fn into_future(self) -> Self::IntoFuture {
            std::future::ready(5)
        }
    }
    assert_eq!(block_on(Five), 5);
}

/// PO-05: inside of a running loop it is refused, the text names the outer loop, the inner future is never begun and
/// the outer loop goes on.
#[test]
fn block_on_is_refused_in_a_running_loop() {
    on_runner(Runner::builder().loop_factory(|| EventLoop::builder().name("outer").build()), |runner, el| {
        let begun = Cell::new(false);
        let drops = DropCounter::new();
        let guard = drops.guard();
        let refused = runner.run(async {
            let inner = async {
                let _guard = guard;
                begun.set(true);
            };
            let text = panic_of(|| block_on(inner));
            yield_now().await;
            text
        });
        let text = refused.unwrap();
        assert!(text.contains("block_on()") && text.contains(&format!("<EventLoop {} \"outer\"", el.id())), "{text}");
        assert!(!begun.get());
        assert_eq!(drops.count(), 1);
    });
}

/// PO-05: a panic of the future unwinds to the caller, payload and all, and the end before it is an orderly one.
#[test]
fn block_on_panics_after_the_orderly_end() {
    let _alone = alone();
    let descriptors = open_descriptors();
    let log = Log::new();
    let (own, peer) = (log.clone(), Rc::new(Cell::new(None)));
    let peer_kept = peer.clone();
    let panicking = async move {
        let log = own.clone();
        drop(forever_with(OnDrop(move || {
            get_running_loop().expect("destructors run on the loop");
            log.push("task dropped");
        })));
        peer_kept.set(Some(told(&own, "connection", |_| {}).await));
        panic_any(42_i32);
    };
    let payload = catch_unwind(AssertUnwindSafe(|| block_on(panicking))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&42_i32));
    assert_eq!(log.take(), ["task dropped", "connection lost None"]);
    drop(peer);
    assert_eq!(open_descriptors(), descriptors);
}

/// api 1: `block_on` panics where the loop is stopped under it, after the orderly end.
#[test]
fn block_on_panics_if_it_is_stopped() {
    let _alone = alone();
    let drops = DropCounter::new();
    let guard = drops.guard();
    let text = panic_of(|| {
        block_on(async {
            drop(forever_with(guard));
            get_running_loop().unwrap().stop();
            std::future::pending::<()>().await;
        })
    });
    assert!(text.contains("block_on()") && text.contains("stopped before the future completed"), "{text}");
    assert_eq!(drops.count(), 1);
}

/// api 1: every thread may have its own.
#[test]
fn block_on_in_several_threads() {
    let _alone = alone();
    let (send, receive) = mpsc::channel();
    let threads = [1, 2, 3].map(|n| {
        let send = send.clone();
        std::thread::spawn(move || {
            block_on(async {
                send.send(get_running_loop().unwrap().id()).unwrap();
                spawn(async move { n }).await.unwrap()
            })
        })
    });
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [1, 2, 3]);
    let mut ids: Vec<u64> = receive.try_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

// ---------------------------------------------------------------- the order of the end

/// PO-06, api 1: the end goes in this order: servers stop accepting; tasks are cancelled, their destructors running on
/// the loop; `connection_lost` is delivered; the executor is waited for; the loop is closed.
#[test]
fn the_order_of_the_end() {
    let log = Log::new();
    let (tell_job, job_told) = mpsc::channel::<()>();
    on_runner(patient(), |runner, el| {
        let (own, remote) = (log.clone(), el.remote());
        let run = runner.run(async move {
            let server: Server = start_server(async |_, _| (), ("127.0.0.1", 0)).await.unwrap();
            let (log, server_seen) = (own.clone(), server.clone());
            drop(forever_with(OnDrop(move || {
                let el = get_running_loop().expect("destructors run on the loop");
                let (serving, sockets) = (server_seen.is_serving(), server_seen.sockets().len());
                let transports = el.stats().transports.live();
                log.push(format!("task dropped: serving={serving} sockets={sockets} transports={transports}"));
            })));
            // It ends only when the connection was lost: were the executor waited for before that, it would not.
            let job = spawn_blocking(move || {
                let told = job_told.recv_timeout(PATIENCE).is_ok();
                (told, remote.call_soon_threadsafe(|| ()).is_ok())
            });
            let (_, peer) = told(&own, "connection", move |_| tell_job.send(()).unwrap()).await;
            assert!(server.is_serving());
            (job, peer)
        });
        let (job, mut peer) = run.unwrap();
        assert_eq!(log.take(), [""; 0], "nothing ends before the runner does");
        runner.close();
        let expected = ["task dropped: serving=false sockets=0 transports=1", "connection lost None"];
        assert_eq!(log.take(), expected);
        let (told, loop_was_open) = job.now_or_never().expect("it was waited for").unwrap();
        assert!(told && loop_was_open);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    });
}

/// PO-06: whoever waits for a task that the end has cancelled hears of it, as long as it lives itself.
#[test]
fn done_callbacks_hear_of_the_end() {
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let seen = outcomes.clone();
    on_runner(patient(), |runner, _| {
        let task = runner.run(async move {
            let task = forever_with(());
            task.add_done_callback(move |outcome| seen.borrow_mut().push(outcome));
            task
        });
        let mut task = task.unwrap();
        runner.close();
        assert!(task.is_cancelled());
        let end: Result<(), JoinError> = (&mut task).now_or_never().unwrap();
        assert!(end.unwrap_err().is_cancelled());
        assert_eq!(*outcomes.borrow(), [Outcome::Cancelled]);
    });
}

/// PO-06: tasks that destructors make are cancelled, too, generation after generation.
#[test]
fn destructors_that_spawn() {
    let drops = DropCounter::new();
    let guard = Rc::new(drops.guard());
    fn spawn_on_drop(generations: u32, guard: Rc<impl Sized + 'static>) {
        drop(forever_with(OnDrop(move || {
            if generations > 0 {
                spawn_on_drop(generations - 1, guard.clone());
            }
        })));
    }
    on_runner(patient(), |runner, el| {
        runner.run(async { spawn_on_drop(20, guard) }).unwrap();
        let before = el.stats().tasks.opened;
        runner.close();
        assert_eq!(el.stats().tasks.opened - before, 20);
        assert_eq!(drops.count(), 1);
    });
}

/// PO-06: destructors that spawn for as long as they can do not hold the end up.
#[test]
fn destructors_that_spawn_without_end() {
    fn spawn_on_drop(el: EventLoop) {
        if !el.is_closed() {
            let next = el.clone();
            let guard = OnDrop(Box::new(move || spawn_on_drop(next.clone())) as Box<dyn FnMut()>);
            drop(el.create_task(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            }));
        }
    }
    on_runner(patient(), |runner, el| {
        runner.run(async { spawn_on_drop(get_running_loop().unwrap()) }).unwrap();
        runner.close();
        assert!(el.is_closed() && el.stats().tasks.opened > 50);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("has ended in 100 rounds: 1 task\n"), "{reports:?}");
    });
}

/// PO-06: a destructor that panics is reported, and the others run all the same.
#[test]
fn a_destructor_that_panics() {
    let drops = DropCounter::new();
    let guard = drops.guard();
    on_runner(patient(), |runner, _| {
        runner
            .run(async {
                drop(forever_with(OnDrop(|| panic!("a bad destructor"))));
                drop(forever_with(guard));
                yield_now().await;
            })
            .unwrap();
        runner.close();
        assert_eq!(drops.count(), 1);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("a bad destructor"), "{reports:?}");
    });
}

/// api 1: what is queued is sent before the end, also by connections whose task was cancelled.
#[test]
fn what_is_queued_is_sent() {
    on_runner(patient(), |runner, _| {
        let (expected, reading) = runner
            .run(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
                let (reader, writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                let written = jam(&writer.transport());
                drop(forever_with((reader, writer)));
                let reading = std::thread::spawn(move || {
                    let mut all = Vec::new();
                    peer.read_to_end(&mut all).map(|_| all.len())
                });
                (written, reading)
            })
            .unwrap();
        runner.close();
        assert_eq!(reading.join().unwrap().unwrap(), expected);
    });
}

/// api 1: a peer that does not read cannot hold the end beyond the bound; the protocol still hears of the end.
#[test]
fn a_peer_that_does_not_read() {
    for bound in [Duration::ZERO, Duration::from_millis(20)] {
        let log = Log::new();
        on_runner(Runner::builder().shutdown_bound(bound), |runner, _| {
            let peers = runner.run(async {
                let (jammed, slow) = told(&log, "jammed", |_| {}).await;
                jam(&jammed);
                let (_, other) = told(&log, "idle", |_| {}).await;
                (slow, other)
            });
            let _peers = peers.unwrap();
            runner.close();
            let mut lost = log.take();
            lost.sort();
            assert_eq!(lost, ["idle lost None", "jammed lost None"]);
            let reports = take_reports();
            assert!(reports.len() == 1 && reports[0].contains(&format!("within {bound:?}: ")), "{reports:?}");
        });
    }
}

/// api 1: a job that does not end is abandoned when the bound is over, and reported; what is queued behind never begins.
#[test]
fn a_job_that_does_not_end() {
    let (release, wait) = mpsc::channel::<()>();
    let (ended, end) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    on_runner(hasty(), |runner, _| {
        let job = runner.run(async {
            spawn_blocking(move || {
                begin.send(()).unwrap();
                let _ = wait.recv();
                ended.send(()).unwrap();
            })
        });
        let job = job.unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        runner.close();
        assert!(!job.is_done());
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("within 200ms: 1 blocking job\n"), "{reports:?}");
        // Its thread is let go of, and ends when the job does; nobody minds that the loop is gone.
        release.send(()).unwrap();
        end.recv_timeout(PATIENCE).unwrap();
    });
}

/// api 1: a protocol that stops the loop when its connection ends, as asyncio's often do, cuts the end of the others
/// short for nobody.
#[test]
fn stop_does_not_cut_the_end_short() {
    let log = Log::new();
    on_runner(patient(), |runner, _| {
        let stop = |_: &Transport| get_running_loop().unwrap().stop();
        let (written, peer) = runner
            .run(async {
                let (jammed, slow) = told(&log, "jammed", stop).await;
                let written = jam(&jammed);
                let others = [told(&log, "one", stop).await, told(&log, "two", stop).await];
                // Their peers hang up as soon as nothing runs.
                (written, slow, others)
            })
            .map(|(written, slow, _others)| (written, slow))
            .unwrap();
        let reading = std::thread::spawn(move || {
            let mut peer = peer;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all.len())
        });
        runner.close();
        let mut lost = log.take();
        lost.sort();
        assert_eq!(lost, ["jammed lost None", "one lost None", "two lost None"]);
        assert_eq!(reading.join().unwrap().unwrap(), written, "what was queued was sent");
    });
}

/// api 1: nor does a timer that stops the loop while jobs are waited for.
#[test]
fn a_timer_that_stops_the_loop_does_not_cut_the_end_short() {
    let (release, wait) = mpsc::channel::<()>();
    on_runner(patient(), |runner, el| {
        let (handle, jobs) = (el.clone(), el.clone());
        let job = runner.run(async move {
            let job = jobs.run_in_executor(None, move || wait.recv_timeout(PATIENCE).is_ok());
            // The job ends only after the loop was stopped.
            jobs.call_later(Duration::from_millis(1), move || {
                handle.stop();
                release.send(()).unwrap();
            });
            job
        });
        let job = job.unwrap();
        runner.close();
        assert!(job.now_or_never().expect("it was waited for").unwrap());
    });
}

/// api 1: a fatal panic during the end is reported, and the end goes on.
#[test]
fn a_fatal_panic_during_the_end() {
    let log = Log::new();
    on_runner(patient(), |runner, _| {
        let fatal = |_: &Transport| panic_any(Fatal::new("what a pity"));
        let peers = runner.run(async { [told(&log, "one", fatal).await.1, told(&log, "two", fatal).await.1] });
        let _peers = peers.unwrap();
        runner.close();
        assert_eq!(log.take(), ["one lost None", "two lost None"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        for report in reports {
            assert!(report.contains("while the loop was ending: what a pity"), "{report}");
        }
    });
}

/// api 1: a protocol that connects anew whenever its connection is lost does not hold the end up.
#[test]
fn a_protocol_that_always_connects_anew() {
    struct Stubborn(std::net::SocketAddr, Rc<Cell<u32>>);
    impl Protocol for Stubborn {
        fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
            self.1.set(self.1.get() + 1);
            drop(spawn(connect(self.0, self.1.clone())));
        }
    }
    async fn connect(address: std::net::SocketAddr, lost: Rc<Cell<u32>>) {
        let el = get_running_loop().unwrap();
        el.create_connection(move || Stubborn(address, lost), address).await.unwrap();
    }
    let lost = Rc::new(Cell::new(0));
    on_runner(hasty(), |runner, el| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log::new();
        let run = runner.run(async {
            connect(address, lost.clone()).await;
            // So that the end has to wait, and to abort.
            let (jammed, peer) = told(&log, "jammed", |_| {}).await;
            jam(&jammed);
            peer
        });
        let _peer = run.unwrap();
        runner.close();
        assert!(lost.get() >= 1);
        assert_eq!(el.stats().transports.live(), 0);
        // Those who were about to connect when the loop was closed are gone without a word.
        drop(take_reports());
    });
}

/// EventLoop::close itself says nothing to protocols: the orderly end does.
#[test]
fn closing_the_loop_is_not_the_orderly_end() {
    let log = Log::new();
    let _alone = alone();
    let el = EventLoop::new().unwrap();
    let (_, _peer) = el.run_until_complete(told(&log, "connection", |_| {})).unwrap();
    el.close();
    assert_eq!(log.take(), [""; 0]);
}

// ---------------------------------------------------------------- Runner

/// PO-09: the loop is made when it is first needed; all runs share it, and the context; tasks go on from run to run.
#[test]
fn runs_share_the_loop_and_the_context() {
    static NAME: ContextVar<u32> = ContextVar::new("name");
    static OUTER: ContextVar<&str> = ContextVar::new("outer");
    let _alone = alone();
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    let factory = move || {
        count.set(count.get() + 1);
        EventLoop::new()
    };
    OUTER.set("set before the runner");
    let mut runner = Runner::builder().loop_factory(factory).build();
    assert_eq!(made.get(), 0);
    let (id, task) = runner
        .run(async {
            assert_eq!((NAME.get(), OUTER.get()), (None, Some("set before the runner")));
            NAME.set(1);
            OUTER.set("set in the runner");
            let task = spawn(async {
                yield_now().await;
                yield_now().await;
                NAME.get()
            });
            (get_running_loop().unwrap().id(), task)
        })
        .unwrap();
    assert_eq!((NAME.get(), OUTER.get()), (None, Some("set before the runner")), "the context is the runner's own");
    let again = runner.run(async {
        assert_eq!(OUTER.get(), Some("set in the runner"));
        let before = NAME.get();
        NAME.set(2);
        (get_running_loop().unwrap().id(), before, task.await.unwrap())
    });
    assert_eq!(again.unwrap(), (id, Some(1), Some(1)));
    assert_eq!(runner.run(async { NAME.get() }), Ok(Some(2)));
    assert_eq!(runner.get_loop().unwrap().id(), id);
    assert_eq!(made.get(), 1);
    runner.close();
}

/// PO-09: closing twice is closing once; what comes after it fails and says why; a runner that was never used closes,
/// too.
#[test]
fn use_after_close_fails() {
    let _alone = alone();
    let mut unused = Runner::new();
    unused.close();
    let mut runner = Runner::new();
    let el = runner.get_loop().unwrap();
    runner.run(async {}).unwrap();
    for mut runner in [unused, runner] {
        runner.close();
        runner.close();
        let error = runner.get_loop().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let begun = Cell::new(false);
        let text = panic_of(|| runner.run(async { begun.set(true) }));
        assert!(text.contains("Runner::run()") && text.contains("closed"), "{text}");
        assert!(!begun.get());
        assert!(format!("{runner:?}").contains("closed"));
    }
    assert!(el.is_closed());
}

/// PO-09: dropping a runner is its orderly end.
#[test]
fn dropping_a_runner_ends_it() {
    let log = Log::new();
    let _alone = alone();
    let mut runner = patient().build();
    let el = runner.get_loop().unwrap();
    let peer = runner.run(async {
        let log_task = log.clone();
        drop(forever_with(OnDrop(move || log_task.push("task dropped"))));
        told(&log, "connection", |_| {}).await.1
    });
    let _peer = peer.unwrap();
    drop(runner);
    assert!(el.is_closed());
    assert_eq!(log.take(), ["task dropped", "connection lost None"]);
}

/// PO-09: a runner that is dropped inside of its own loop closes that loop when the run ends.
#[test]
fn a_runner_dropped_inside_of_its_own_loop() {
    let _alone = alone();
    let descriptors = open_descriptors();
    let mut runner = Runner::new();
    let el = runner.get_loop().unwrap();
    let result = el.run_until_complete(async move {
        drop(runner);
        get_running_loop().unwrap().is_closed()
    });
    assert!(result.is_err() || result == Ok(false));
    assert!(el.is_closed());
    drop(el);
    assert_eq!(open_descriptors(), descriptors);
}

/// PO-10: inside of a running loop neither `run` nor `close` of any runner works; the text names the outer loop, and the
/// runner stays what it was.
#[test]
fn runners_do_not_nest() {
    let _alone = alone();
    let mut inner = Runner::new();
    let inner_loop = inner.get_loop().unwrap();
    let mut outer = Runner::new();
    let outer_loop = outer.get_loop().unwrap();
    let texts = outer.run(async {
        let run = panic_of(|| inner.run(async {}));
        (run, panic_of(|| inner.close()))
    });
    let (run, close) = texts.unwrap();
    let name = format!("<EventLoop {} ", outer_loop.id());
    assert!(run.contains("Runner::run()") && run.contains(&name), "{run}");
    assert!(close.contains("Runner::close()") && close.contains(&name), "{close}");
    // The inner one's own loop is no exception.
    let text = inner_loop.run_until_complete(async { panic_of(|| inner.close()) }).unwrap();
    assert!(text.contains(&format!("<EventLoop {} ", inner_loop.id())), "{text}");
    assert_eq!(inner.run(async { 1 }), Ok(1));
}

/// api 1: a run that is stopped says so; its future is dropped, and the next run goes on.
#[test]
fn a_stopped_run() {
    on_runner(patient(), |runner, _| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let stopped: Result<(), RunError> = runner.run(async {
            let _guard = guard;
            get_running_loop().unwrap().stop();
            std::future::pending().await
        });
        assert_eq!(stopped, Err(RunError::Stopped));
        assert_eq!(drops.count(), 1);
        assert_eq!(RunError::Stopped.to_string(), "event loop stopped before the future completed");
        assert_eq!(runner.run(async { 2 }), Ok(2));
    });
}

/// api 1: a run whose main task is cancelled says so, whoever cancels it; the future is dropped on the loop.
#[test]
fn a_cancelled_run() {
    on_runner(patient(), |runner, _| {
        let log = Log::new();
        for by_itself in [false, true] {
            let own = log.clone();
            let cancelled: Result<(), RunError> = runner.run(async move {
                let _guard = OnDrop(move || {
                    get_running_loop().unwrap();
                    own.push("dropped");
                });
                let el = get_running_loop().unwrap();
                let main = el.current_task().unwrap();
                assert!(main.is_root);
                if by_itself {
                    main.cancel();
                } else {
                    el.call_soon(move || main.cancel());
                }
                std::future::pending().await
            });
            assert_eq!(cancelled, Err(RunError::Cancelled));
            assert_eq!(log.take(), ["dropped"]);
        }
        let error = io::Error::from(RunError::Cancelled);
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Interrupted, "the main task was cancelled"));
        assert_eq!(runner.run(async { 3 }), Ok(3));
    });
}

/// PO-05: a panic of the main future unwinds out of `run`; the runner stays usable.
#[test]
fn a_run_that_panics() {
    on_runner(patient(), |runner, _| {
        let text = panic_of(|| runner.run(async { panic!("main's own") }));
        assert_eq!(text, "main's own");
        assert_eq!(runner.run(async { 4 }), Ok(4));
    });
}

/// api 1: a panic with `Fatal` in a callback unwinds out of `run`, is not reported, and leaves the loop usable.
#[test]
fn a_fatal_panic_leaves_the_runner_usable() {
    on_runner(patient(), |runner, _| {
        let fatal = catch_unwind(AssertUnwindSafe(|| {
            runner.run(async {
                get_running_loop().unwrap().call_soon(|| panic_any(Fatal::new(5_i32)));
                std::future::pending::<()>().await;
            })
        }));
        let fatal = fatal.unwrap_err().downcast::<Fatal>().unwrap();
        assert_eq!(fatal.0.downcast_ref(), Some(&5_i32));
        assert_eq!(runner.run(async { 6 }), Ok(6));
    });
}

/// PO-07: the runner's debug setting holds in both directions, whatever the factory made.
#[test]
fn the_debug_setting_holds() {
    for debug in [false, true] {
        let factory = move || EventLoop::builder().debug(!debug).build();
        on_runner(Runner::builder().debug(debug).loop_factory(factory), |runner, _| {
            assert_eq!(runner.run(async { get_running_loop().unwrap().debug() }), Ok(debug));
        });
        let factory = move || EventLoop::builder().debug(debug).build();
        on_runner(Runner::builder().loop_factory(factory), |runner, _| {
            assert_eq!(runner.run(async { get_running_loop().unwrap().debug() }), Ok(debug), "as the factory says");
        });
    }
}

/// PO-08: a factory that fails is heard of, once; afterwards the runner is closed.
#[test]
fn a_factory_that_fails() {
    let _alone = alone();
    let failing = || -> io::Result<EventLoop> { Err(io::Error::other("no loops today")) };
    let mut runner = Runner::builder().loop_factory(failing).build();
    assert_eq!(runner.get_loop().unwrap_err().to_string(), "no loops today");
    assert_eq!(runner.get_loop().unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut runner = Runner::builder().loop_factory(failing).build();
    let text = panic_of(|| runner.run(async {}));
    assert!(text.contains("Runner::run()") && text.contains("no loops today"), "{text}");
}

/// api 9: a loop that the application has closed itself is closed, and the runner says so.
#[test]
fn a_loop_closed_behind_the_runners_back() {
    let _alone = alone();
    let mut runner = Runner::new();
    runner.run(async {}).unwrap();
    runner.get_loop().unwrap().close();
    let text = panic_of(|| runner.run(async {}));
    assert!(text.contains("event loop is closed"), "{text}");
    runner.close();
}

/// api 1: the bound of the end is one of real time where the loop's clock stands still.
#[test]
fn a_clock_that_stands_still() {
    let (release, wait) = mpsc::channel::<()>();
    let (ended, end) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let builder = hasty().loop_factory(|| EventLoop::builder().clock(ManualClock::new()).build());
    on_runner(builder, |runner, _| {
        let peer = runner
            .run(async {
                drop(spawn_blocking(move || {
                    begin.send(()).unwrap();
                    let _ = wait.recv();
                    ended.send(()).unwrap();
                }));
                let (jammed, slow) = told(&Log::new(), "jammed", |_| ()).await;
                jam(&jammed);
                slow
            })
            .unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        runner.close();
        let reports = take_reports();
        let expected = "within 200ms: 1 connection, 1 blocking job\n";
        assert!(reports.len() == 1 && reports[0].contains(expected), "{reports:?}");
        drop(peer);
        release.send(()).unwrap();
        end.recv_timeout(PATIENCE).unwrap();
    });
}

/// api 1: another thread that spawns without end does not hold up the end.
#[test]
fn a_flood_of_tasks_from_another_thread() {
    // What is spawned until then is kept.
    on_runner(Runner::builder().shutdown_bound(Duration::from_millis(20)), |runner, el| {
        let (remote, stop) = (el.remote(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let flood = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                drop(remote.spawn(async || std::future::pending::<()>().await));
            }
        });
        runner.run(async { yield_now().await }).unwrap();
        runner.close();
        // The latest of them may have been named as not ended.
        drop(take_reports());
        stop.store(true, Ordering::SeqCst);
        flood.join().unwrap();
    });
}
