//! Which loop is the running one, and which one a thread has by the policy (behaviours PO-01 to PO-04 and PO-08; runners
//! have their own file).
//!
//! The policy is the process's: each test brings the default one back.

mod common;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{on_loop, run_until};
use roundelay::policy::{self, DefaultEventLoopPolicy, EventLoopPolicy};
use roundelay::{EventLoop, NoRunningLoop, Runner, get_running_loop};

/// Runs a test beside a loop of its own, and takes back what it has set: the thread's loop and the process's policy.
fn with_policies(body: impl FnOnce(&EventLoop)) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            policy::set_event_loop_policy(None);
            policy::set_event_loop(None);
        }
    }
    on_loop(|el| {
        let _restore = Restore;
        body(el);
    });
}

/// The running loop's id.
fn running() -> Option<u64> {
    get_running_loop().ok().map(|el| el.id())
}

/// PO-01: outside of a run there is no running loop, and the error says so.
#[test]
fn no_loop_runs_outside() {
    with_policies(|el| {
        assert_eq!(get_running_loop().unwrap_err(), NoRunningLoop);
        assert_eq!(NoRunningLoop.to_string(), "no running event loop on this thread");
        // A loop that the thread has set is not one that runs.
        policy::set_event_loop(Some(el.clone()));
        assert_eq!(running(), None);
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(running(), None);
    });
}

/// PO-01: in callbacks of every kind, in tasks and in the future that is run, it is the loop that runs them; afterwards
/// there is none again.
#[test]
fn the_loop_runs_inside() {
    with_policies(|el| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = seen.clone();
            move || seen.borrow_mut().push((what, running()))
        };
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        el.call_soon(note("soon"));
        el.call_later(Duration::ZERO, note("later"));
        el.add_writer(&ours, note("writer")).unwrap();
        let future = el.create_future::<()>();
        let done = note("done");
        future.add_done_callback(move |_| done());
        future.set_result(()).unwrap();
        let task = note("task");
        drop(el.create_task(async move { task() }));
        let posted = Arc::new(Mutex::new(None));
        let place = posted.clone();
        el.remote().call_soon_threadsafe(move || *place.lock().unwrap() = running()).unwrap();
        let drops = note("destructor");
        struct OnDrop<F: FnMut()>(F);
        impl<F: FnMut()> Drop for OnDrop<F> {
            fn drop(&mut self) {
                (self.0)();
            }
        }
        let on_drop = OnDrop(drops);
        el.call_soon(move || drop(on_drop));
        let root = note("root");
        el.run_until_complete(async {
            root();
            while seen.borrow().iter().filter(|(what, _)| *what != "writer").count() < 6
                || posted.lock().unwrap().is_none()
            {
                roundelay::yield_now().await;
            }
        })
        .unwrap();
        assert!(el.remove_writer(&ours));
        for what in ["soon", "later", "writer", "done", "task", "destructor", "root"] {
            assert!(seen.borrow().iter().any(|(other, _)| *other == what), "{what} did not run");
        }
        assert!(seen.borrow().iter().all(|(_, id)| *id == Some(el.id())), "{:?}", seen.borrow());
        assert_eq!(*posted.lock().unwrap(), Some(el.id()));
        assert_eq!(running(), None);
    });
}

/// PO-01: each thread has its own: where one runs a loop, the other sees none, and then its own.
#[test]
fn the_running_loop_is_the_threads() {
    with_policies(|el| {
        let id = el.id();
        el.run_until_complete(async {
            assert_eq!(running(), Some(id));
            let other = thread::spawn(move || {
                assert_eq!(running(), None);
                let own = EventLoop::new().unwrap();
                assert_ne!(own.id(), id);
                assert_eq!(own.run_until_complete(async { running() }), Ok(Some(own.id())));
                assert_eq!(running(), None);
            });
            other.join().unwrap();
            assert_eq!(running(), Some(id));
        })
        .unwrap();
    });
}

/// A policy that has no loop to give.
struct Barren;

impl EventLoopPolicy for Barren {
    fn get_event_loop(&self) -> io::Result<EventLoop> {
        Err(io::Error::other("no loop today"))
    }
    fn new_event_loop(&self) -> io::Result<EventLoop> {
        Err(io::Error::other("no new loop, either"))
    }
}

/// PO-02: in a running loop `get_event_loop` gives that loop, whatever the thread has set and whatever the policy says.
#[test]
fn the_running_loop_comes_before_the_policy() {
    with_policies(|el| {
        let id = || policy::get_event_loop().map(|el| el.id());
        policy::set_event_loop(Some(EventLoop::new().unwrap()));
        assert_ne!(id().unwrap(), el.id());
        assert_eq!(el.run_until_complete(async { id().unwrap() }), Ok(el.id()));
        policy::set_event_loop_policy(Some(Arc::new(Barren)));
        assert_eq!(id().unwrap_err().to_string(), "no loop today");
        assert_eq!(el.run_until_complete(async { id().unwrap() }), Ok(el.id()));
        // What it gives there is a handle: dropping it closes nothing.
        let given = el.run_until_complete(async { policy::get_event_loop().unwrap() }).unwrap();
        drop(given);
        assert!(!el.is_closed());
    });
}

/// PO-03: the first call of a thread makes its loop and sets it; later calls give the same one; it can be used as any.
#[test]
fn the_first_call_makes_the_threads_loop() {
    with_policies(|_| {
        let first = policy::get_event_loop().unwrap();
        assert_eq!(policy::get_event_loop().unwrap().id(), first.id());
        assert_eq!(first.run_until_complete(async { 6 * 7 }), Ok(42));
        // What the call gives is a handle: the thread is the owner.
        let id = first.id();
        drop(first);
        let again = policy::get_event_loop().unwrap();
        assert_eq!(again.id(), id);
        assert!(!again.is_closed());
    });
}

/// PO-03: after `set_event_loop(None)` the thread has no loop, what it had is closed, and the next call makes another.
#[test]
fn without_a_loop_another_is_made() {
    with_policies(|_| {
        let first = policy::get_event_loop().unwrap();
        policy::set_event_loop(None);
        assert!(first.is_closed());
        let second = policy::get_event_loop().unwrap();
        assert_ne!(second.id(), first.id());
        assert!(!second.is_closed());
        // A loop that was closed stays the thread's until another is set, as in asyncio.
        second.close();
        let given = policy::get_event_loop().unwrap();
        assert_eq!((given.id(), given.is_closed()), (second.id(), true));
    });
}

/// PO-03: every thread has a loop of its own, the main one is not special, and it is closed when its thread ends.
#[test]
fn each_thread_has_its_own() {
    with_policies(|el| {
        let here = policy::get_event_loop().unwrap();
        let id = here.id();
        let other = thread::spawn(move || {
            let there = policy::get_event_loop().unwrap();
            assert_ne!(there.id(), id);
            assert_eq!(policy::get_event_loop().unwrap().id(), there.id());
            there.remote()
        });
        run_until(el, || other.is_finished());
        assert!(other.join().unwrap().call_soon_threadsafe(|| ()).is_err(), "the loop has outlived its thread");
        assert!(!here.is_closed());
    });
}

/// PO-04: `set_event_loop` sets the thread's loop: one that is owned is kept, and closed when another takes its place;
/// of one that is not, a handle is kept, and it stays open.
#[test]
fn setting_the_threads_loop() {
    with_policies(|el| {
        policy::set_event_loop(Some(el.clone()));
        assert_eq!(policy::get_event_loop().unwrap().id(), el.id());
        let owned = EventLoop::new().unwrap();
        let handle = owned.clone();
        policy::set_event_loop(Some(owned));
        assert_eq!(policy::get_event_loop().unwrap().id(), handle.id());
        assert!(!el.is_closed() && !handle.is_closed());
        policy::set_event_loop(Some(el.clone()));
        assert!(handle.is_closed());
        policy::set_event_loop(None);
        assert!(!el.is_closed());
    });
}

/// PO-04: a loop may be replaced from within itself: it is closed when its turn is over.
#[test]
fn replaced_by_its_own_callback() {
    with_policies(|_| {
        let el = policy::get_event_loop().unwrap();
        let inside = el.clone();
        let after = el.call_soon(move || {
            policy::set_event_loop(None);
            inside.is_closed()
        });
        let closed = el.run_until_complete(after);
        assert!(matches!(closed, Ok(Ok(false))), "{closed:?}");
        assert!(el.is_closed());
    });
}

/// PO-04: `new_event_loop` makes a loop and sets nothing.
#[test]
fn a_new_loop_is_not_set() {
    with_policies(|_| {
        let set = policy::get_event_loop().unwrap();
        let made = policy::new_event_loop().unwrap();
        assert_ne!(made.id(), set.id());
        assert_eq!(policy::get_event_loop().unwrap().id(), set.id());
        drop(made);
        assert!(!set.is_closed());
    });
}

/// A policy that counts its calls, and names the loops that it makes.
#[derive(Default)]
struct Counting {
    calls: Mutex<Vec<&'static str>>,
}

impl Counting {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl EventLoopPolicy for Counting {
    fn get_event_loop(&self) -> io::Result<EventLoop> {
        self.note("get");
        DefaultEventLoopPolicy.get_event_loop()
    }
    fn set_event_loop(&self, el: Option<EventLoop>) {
        self.note("set");
        DefaultEventLoopPolicy.set_event_loop(el);
    }
    fn new_event_loop(&self) -> io::Result<EventLoop> {
        self.note("new");
        EventLoop::builder().name("counted").build()
    }
}

/// PO-04: the policy is the process's: what it overrides is asked, on every thread; `None` brings the default one back;
/// the getter gives the one that is set.
#[test]
fn a_policy_of_ones_own() {
    with_policies(|el| {
        let counting = Arc::new(Counting::default());
        policy::set_event_loop_policy(Some(counting.clone()));
        let set = policy::get_event_loop_policy();
        assert!(std::ptr::addr_eq(Arc::as_ptr(&set), Arc::as_ptr(&counting)));
        let made = policy::new_event_loop().unwrap();
        assert_eq!(made.name(), Some("counted"));
        policy::set_event_loop(Some(made));
        policy::get_event_loop().unwrap();
        assert_eq!(counting.take(), ["new", "set", "get"]);
        let other = thread::spawn(|| {
            policy::new_event_loop().unwrap();
        });
        run_until(el, || other.is_finished());
        other.join().unwrap();
        assert_eq!(counting.take(), ["new"]);
        policy::set_event_loop_policy(None);
        policy::get_event_loop().unwrap();
        assert_eq!(counting.take(), [""; 0]);
        assert_eq!(Arc::strong_count(&counting), 2, "the getter's and the test's");
    });
}

/// PO-04: a policy that says only how loops are made is asked for the loop of each thread, once.
#[test]
fn a_policy_that_only_makes_loops() {
    struct Named;
    impl EventLoopPolicy for Named {
        fn new_event_loop(&self) -> io::Result<EventLoop> {
            EventLoop::builder().name("by policy").build()
        }
    }
    with_policies(|_| {
        policy::set_event_loop_policy(Some(Arc::new(Named)));
        let made = policy::get_event_loop().unwrap();
        assert_eq!(made.name(), Some("by policy"));
        assert_eq!(policy::get_event_loop().unwrap().id(), made.id());
    });
}

/// PO-04: a policy that cannot make a loop says why, and the thread is as it was.
#[test]
fn a_policy_that_fails() {
    with_policies(|_| {
        policy::set_event_loop_policy(Some(Arc::new(Barren)));
        assert_eq!(policy::new_event_loop().unwrap_err().to_string(), "no new loop, either");
        assert_eq!(policy::get_event_loop().unwrap_err().to_string(), "no loop today");
        policy::set_event_loop_policy(None);
        assert!(policy::get_event_loop().is_ok());
    });
}

/// PO-08: a runner runs on the loop that its factory makes, and neither asks the policy nor sets the thread's loop; so
/// does `block_on`.
#[test]
fn a_runner_leaves_the_policy_alone() {
    with_policies(|_| {
        let set = policy::get_event_loop().unwrap();
        let counting = Arc::new(Counting::default());
        policy::set_event_loop_policy(Some(counting.clone()));
        let make = || EventLoop::builder().name("from the factory").build();
        let mut runner = Runner::builder().loop_factory(make).build();
        let name = runner.run(async { get_running_loop().unwrap().name().map(String::from) }).unwrap();
        assert_eq!(name.as_deref(), Some("from the factory"));
        runner.close();
        assert!(roundelay::block_on(async { running() }).is_some());
        assert_eq!(counting.take(), [""; 0]);
        assert_eq!(policy::get_event_loop().unwrap().id(), set.id());
        assert!(!set.is_closed());
    });
}
