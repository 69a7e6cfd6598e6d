//! What destructors may do to a loop that drops what they belong to, and what they cannot (behaviours LR).

mod common;

use std::cell::RefCell;
use std::future::pending;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{DropCounter, Kind, Log, on_loop, run_on, settle, take_reports};
use futures::FutureExt;
use roundelay::{ContextVar, EventLoop, JoinError, get_running_loop};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Runs a closure when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn new(f: F) -> Self {
        Self(Some(f))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// A callback that keeps something until it is dropped.
fn holding<T: 'static>(value: T) -> impl FnOnce() + 'static {
    move || drop(value)
}

/// A post that keeps something until it is dropped.
fn holding_send<T: Send + 'static>(value: T) -> impl FnOnce() + Send + 'static {
    move || drop(value)
}

fn is_closed<T>(result: Option<Result<T, JoinError>>) -> bool {
    result.is_some_and(|result| result.is_err_and(|error| error.is_closed()))
}

/// A loop can be closed while another one runs on its thread.
#[test]
fn a_loop_is_closed_inside_of_another() {
    on_loop(|el| {
        let outer = el.id();
        let mut ended = None;
        let end = el.run_until_complete(async {
            let inner = EventLoop::new().unwrap();
            let log = Log::new();
            let dropped = log.clone();
            // Its destructors see the loop that runs.
            let seen = OnDrop::new(move || dropped.push(get_running_loop().unwrap().id().to_string()));
            let task = inner.create_task(async move {
                let _seen = seen;
                pending::<()>().await;
            });
            drop(inner);
            assert_eq!(log.take(), [outer.to_string()]);
            ended = Some(task);
        });
        end.unwrap();
        assert!(is_closed(ended.and_then(FutureExt::now_or_never)));
    });
}

/// What a loop was given is dropped with it, though it holds handles to the loop: the handler, the factory, tasks.
#[test]
fn a_loop_does_not_keep_itself() {
    static KEPT: ContextVar<Rc<()>> = ContextVar::new("kept");
    on_loop(|_| {
        let held = Rc::new(());
        let el = EventLoop::new().unwrap();
        let (handle, kept) = (el.clone(), held.clone());
        el.set_exception_handler(Some(Rc::new(move |_, _| drop((handle.clone(), kept.clone())))));
        let (handle, kept) = (el.clone(), held.clone());
        el.set_task_factory(Some(Rc::new(move |_, future, _| {
            let _ = (&handle, &kept);
            future
        })));
        let (handle, kept) = (el.clone(), held.clone());
        let task = el.create_task(async move {
            KEPT.set(kept);
            pending::<()>().await;
            drop(handle);
        });
        let (handle, kept) = (el.clone(), held.clone());
        let timer = el.call_later(Duration::from_secs(1), move || drop((handle, kept)));
        el.run_once(ZERO).unwrap();
        assert!(Rc::strong_count(&held) > 4);
        drop(el);
        // The handles that are left hold none of it.
        assert_eq!(Rc::strong_count(&held), 1);
        drop((task, timer));
    });
}

/// A value that is dropped by `close` may use the loop: what it schedules is dropped and reported, and nothing breaks.
#[test]
fn destructors_may_use_a_closing_loop() {
    on_loop(|el| {
        let log = Log::new();
        let using = |name: &str| {
            let (el, log, name) = (el.clone(), log.clone(), name.to_owned());
            let (socket, _) = UnixStream::pair().unwrap();
            OnDrop::new(move || {
                assert!(is_closed(el.call_soon(|| ()).now_or_never()));
                assert!(is_closed(el.call_later(Duration::ZERO, || ()).now_or_never()));
                assert!(is_closed(el.create_task(async {}).now_or_never()));
                assert!(el.call_soon_threadsafe(|| ()).is_err());
                assert!(el.add_reader(&socket, || ()).is_err() && !el.remove_reader(&socket));
                assert!(el.is_closed() && el.all_tasks().len() < 10);
                el.stop();
                el.close();
                log.push(name);
            })
        };
        el.call_soon(holding(using("callback")));
        el.call_later(Duration::from_secs(1), holding(using("timer")));
        let captured = using("task");
        drop(el.create_task(async move {
            let _captured = captured;
            pending::<()>().await;
        }));
        let (socket, _peer) = UnixStream::pair().unwrap();
        let captured = using("reader");
        el.add_reader(&socket, move || _ = &captured).unwrap();
        el.close();
        let mut seen = log.take();
        seen.sort();
        assert_eq!(seen, ["callback", "reader", "task", "timer"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 4 * 3);
        assert!(reports.iter().all(|report| report.contains("event loop is closed")), "{reports:?}");
    });
}

/// A value that is dropped by `close` may cancel what `close` has not come to yet.
#[test]
fn destructors_may_cancel_what_is_left() {
    on_loop(|el| {
        // One task drops first and cancels the other, which was told to end by then.
        let canceller: Rc<RefCell<Option<roundelay::Canceller>>> = Rc::default();
        let cancels = canceller.clone();
        let first = el.create_task(async move {
            let _captured = OnDrop::new(move || assert!(cancels.take().unwrap().cancel()));
            pending::<()>().await;
        });
        let second = el.create_task(pending::<()>());
        *canceller.borrow_mut() = Some(second.canceller());
        el.run_once(None).unwrap();

        let dropped = DropCounter::new();
        let timers: Vec<_> =
            (0..5).map(|_| Rc::new(el.call_later(Duration::from_secs(1), holding(dropped.guard())))).collect();
        let cancels = timers.clone();
        el.call_soon(holding(OnDrop::new(move || assert!(cancels.iter().all(|timer| timer.cancel())))));
        el.close();
        assert!(timers.iter().all(|timer| timer.is_cancelled()));
        assert_eq!(dropped.count(), 5);
        assert!(is_closed(first.now_or_never()) && is_closed(second.now_or_never()));
    });
}

/// A destructor that panics does not keep `close` from its work: it is reported, and everything else ends.
#[test]
fn a_panicking_destructor_does_not_stop_close() {
    for kind in [Kind::Epoll, Kind::Polling] {
        run_on(
            || kind.builder(),
            |el| {
                let dropped = DropCounter::new();
                let bomb = |name: &'static str| {
                    let guard = dropped.guard();
                    OnDrop::new(move || {
                        let _guard = guard;
                        panic!("bomb in a {name}")
                    })
                };
                el.call_soon(holding(bomb("callback")));
                el.call_soon(holding(dropped.guard()));
                el.call_later(Duration::from_secs(1), holding(bomb("timer")));
                el.call_later(Duration::from_secs(2), holding(dropped.guard()));
                let captured = bomb("task");
                drop(el.create_task(async move {
                    let _captured = captured;
                    pending::<()>().await;
                }));
                let (socket, _peer) = UnixStream::pair().unwrap();
                let (reader, writer) = (bomb("reader"), dropped.guard());
                el.add_reader(&socket, move || _ = &reader).unwrap();
                el.add_writer(&socket, move || _ = &writer).unwrap();
                let (other, _peer) = UnixStream::pair().unwrap();
                let guard = dropped.guard();
                el.add_reader(&other, move || _ = &guard).unwrap();
                drop(el.call_soon_threadsafe(holding_send(OnDrop::new(|| panic!("bomb in a post")))).unwrap());
                let factory = bomb("factory");
                el.set_task_factory(Some(Rc::new(move |_, future, _| {
                    let _ = &factory;
                    future
                })));
                el.close();
                assert_eq!(dropped.count(), 9);
                let mut reports = take_reports();
                reports.sort();
                let told = |name: &str| reports.iter().filter(|report| report.contains(name)).count();
                for name in ["callback", "timer", "task", "reader", "post", "factory"] {
                    assert_eq!(told(&format!("bomb in a {name}")), 1, "{name}: {reports:?}");
                }
                assert_eq!(reports.len(), 6);
            },
        );
    }
}

/// The exception handler hears of what `close` drops, and may use the loop.
#[test]
fn the_handler_is_there_until_the_end() {
    on_loop(|el| {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let log = heard.clone();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            log.borrow_mut().push(context.message.to_string());
            el.close();
            // Its own call is refused and reported in its turn, once.
            if log.borrow().len() == 1 {
                drop(el.call_soon(|| ()));
            }
        })));
        el.call_soon(holding(OnDrop::new(|| panic!("bomb"))));
        el.close();
        assert_eq!(heard.borrow().len(), 2);
        assert!(heard.borrow()[1].starts_with("EventLoop::call_soon()"), "{heard:?}");
    });
}

/// A loop that is closed in the midst of its work by its owner's end, on a thread that unwinds, ends all the same.
#[test]
fn a_loop_dropped_by_a_panic_is_closed() {
    on_loop(|_| {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = dropped.clone();
        let thread = std::thread::spawn(move || {
            let el = EventLoop::new().unwrap();
            let guard = OnDrop::new(move || flag.store(true, Ordering::SeqCst));
            drop(el.create_task(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
            el.call_later(Duration::from_secs(1), || ());
            settle(&el);
            el.run_until_complete(async { panic!("on purpose") }).unwrap();
        });
        assert!(thread.join().is_err());
        assert!(dropped.load(Ordering::SeqCst));
    });
}

/// Destructors that schedule on a closed loop, and whose destructors do so again without end, end all the same.
#[test]
fn endless_destructors_end() {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    fn again(el: EventLoop, by_task: bool) -> OnDrop<impl FnOnce()> {
        OnDrop::new(move || {
            let next: Box<dyn std::any::Any> = Box::new(again(el.clone(), by_task));
            // The last one is leaked on purpose: a leak checker still finds it here.
            LEAKED.lock().unwrap().push(std::ptr::from_ref(&*next).addr());
            if by_task {
                drop(el.create_task(async move {
                    let _next = next;
                    pending::<()>().await;
                }));
            } else {
                drop(el.call_soon(move || drop(next)));
            }
        })
    }

    for by_task in [false, true] {
        on_loop(|el| {
            let first = again(el.clone(), by_task);
            el.call_soon(holding(first));
            el.close();
            let reports = take_reports();
            let leaked = |report: &&String| report.contains("schedules on the closed event loop without end");
            assert_eq!(reports.iter().filter(leaked).count(), 1, "{reports:#?}");
        });
    }
}
