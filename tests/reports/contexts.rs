//! In which context a handler is called, what it may do, and what the default one adds.

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context as Cx;

use roundelay::{ContextVar, EventLoop, ExceptionContext, Runner, cancel_requested, spawn, yield_now};
use tracing::Level;

use crate::collector::{collect, collect_level};
use crate::common::{self, Log, complete, on_loop, run_until, settle};
use crate::support::{BadWaker, Bomb, fits, full, watch};
use crate::transports::{Fails, connection, endpoint, process};

static NAME: ContextVar<&str> = ContextVar::new("name");

fn name() -> &'static str {
    NAME.get().unwrap_or("none")
}

/// Calls `f` where the variable is set so.
fn named<R>(value: &'static str, f: impl FnOnce() -> R) -> R {
    let context = roundelay::Context::current().copy();
    context.run(|| {
        NAME.set(value);
        f()
    })
}

/// EH-02, EH-07, EH-12: the handler is called in the context of what has failed: of a callback, a task, also one that
/// ended long ago, a protocol, a server.
#[test]
fn the_context_of_a_report() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let what: String = context.message.chars().take(24).collect();
            told.push(format!("{what}: {}", name()));
        })));
        let expect = |what: &str, context: &str| {
            run_until(el, || log.len() > 0);
            let what: String = what.chars().take(24).collect();
            assert_eq!(log.take(), [format!("{what}: {context}")]);
        };

        named("callback", || el.call_soon(|| panic!("boom")));
        expect("Exception in callback reports", "callback");
        named("set within", || {
            el.call_soon(|| {
                NAME.set("by itself");
                panic!("boom")
            })
        });
        expect("Exception in callback reports", "by itself");
        let task = el.create_task(async {});
        named("done callback", || task.add_done_callback(|_| panic!("boom")));
        expect("Exception in callback reports", "done callback");
        drop(task);

        named("task", || drop(el.create_task(async { panic!("boom") })));
        expect("Exception in a task that nobody awaits", "task");
        let held = named("task before", || {
            el.create_task(async {
                NAME.set("task");
                panic!("boom")
            })
        });
        settle(el);
        named("whoever drops it", || drop::<roundelay::Task<()>>(held));
        expect("Task exception was never retrieved", "task");
        named("fails", || el.create_task(async { Err::<(), _>("no luck") }).report_errors());
        expect("Error in a task that nobody awaits", "fails");
        named("whoever has it", || {
            let task = el.create_task(async { Err::<(), _>("no luck") });
            settle(el);
            task.report_errors();
        });
        expect("Error in a task that nobody awaits", "whoever has it");

        // A server's protocols have its context; so have its own errors.
        for (at, what) in
            [("data", "Fatal error: protocol.data_received()"), ("lost", "Exception in callback connection_lost")]
        {
            named("server", || connection(el, at));
            expect(what, "server");
        }
        let serving = named("server", || {
            let factory = || -> Fails { panic!("boom") };
            complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap()
        });
        let client = TcpStream::connect(serving.local_addrs()[0]).unwrap();
        expect("Error on transport creation for incoming connection", "server");
        drop((client, serving.close()));
        named("endpoint", || endpoint(el, "data"));
        expect("Exception in callback datagram_received", "endpoint");
        named("process", || process(el, "exited"));
        expect("Exception in callback process_exited", "process");

        // Misuse is reported in the context of the protocol, whoever misuses.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = named("client", || complete(el, el.create_connection(|| Fails(""), address)));
        let (transport, _) = connected.unwrap();
        named("somebody else", || {
            transport.write_eof();
            transport.write(b"x");
        });
        expect("Transport::write(): cannot write after write_eof()", "client");
        transport.abort();
        settle(el);
        common::watch_reports(el);
    });
}

/// A waker of the application's that panics is reported, and the others are woken.
#[test]
fn a_waker_that_panics() {
    on_loop(|el| {
        let seen = watch(el);
        let future = el.create_future();
        let mut waits = Box::pin(future.clone().into_future());
        assert!(waits.as_mut().poll(&mut Cx::from_waker(&Arc::new(BadWaker).into())).is_pending());
        let task = el.create_task(future.clone().into_future());
        settle(el);
        future.set_result(5).unwrap();
        assert_eq!(complete(el, task).unwrap().unwrap(), 5);
        assert_eq!(seen.take(), [(String::new(), "Exception in a waker: boom".to_owned())]);
        common::watch_reports(el);
    });
}

/// A handler may do with its loop whatever a callback may: stop it, schedule, spawn. To close a running loop is refused,
/// to it as to anybody, and the default handler hears of that.
#[test]
fn a_handler_that_uses_its_loop() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            told.push(context.exception.unwrap().to_string());
            let (of_callback, of_task) = (told.entry("callback"), told.entry("task"));
            el.call_soon(of_callback);
            drop(el.create_task(async move { of_task() }));
            el.stop();
        })));
        el.call_soon(|| panic!("first"));
        el.call_soon(log.entry("the same turn"));
        el.run_forever();
        assert_eq!(log.take(), ["first", "the same turn"]);
        settle(el);
        assert_eq!(log.take(), ["callback", "task"]);

        el.set_exception_handler(Some(Rc::new(|el, _| el.close())));
        let ((), written) = collect(|| {
            el.call_soon(|| panic!("second"));
            settle(el);
        });
        assert!(!el.is_closed());
        let [(Level::ERROR, text)] = &written[..] else { panic!("{written:?}") };
        let head = "Unhandled error in exception handler: EventLoop::close(): cannot close a running event loop\n";
        assert!(text.starts_with(head) && text.contains("context: Exception in callback reports::"), "{text}");
        assert!(text.contains(": second\n"), "{text}");
        common::watch_reports(el);
    });
}

/// EH-08: in debug mode the default handler says what was running when something fails of which it is not known where it
/// was made.
#[test]
fn what_was_running() {
    for debug in [true, false] {
        common::run_on(
            || EventLoop::builder().debug(debug),
            |el| {
                el.set_exception_handler(None);
                let ((), written) = collect_level(Level::ERROR, || {
                    let future = el.create_future();
                    let mut waits = Box::pin(future.clone().into_future());
                    let bad = Arc::new(BadWaker).into();
                    assert!(waits.as_mut().poll(&mut Cx::from_waker(&bad)).is_pending());
                    drop(el.create_task(async move { future.set_result(5).unwrap() }));
                    settle(el);
                });
                let [(Level::ERROR, text)] = &written[..] else { panic!("{written:?}") };
                let place = if debug { "\n  while running <Task *spawned at tests/reports/contexts.rs:*>" } else { "" };
                assert!(fits(text, &format!("Exception in a waker: boom{place}")), "{text}");
                common::watch_reports(el);
            },
        );
    }
}

/// EH-16: what is left when a runner ends, and fails then, is reported as ever: a task that panics or gives an error where
/// it was asked to end, and one whose destructor panics. The end goes on, and what ends in good order is not mentioned.
#[test]
fn leftovers_of_a_runner() {
    let _alone = common::alone();
    let mut runner = Runner::builder().build();
    let el = runner.get_loop().unwrap();
    let seen = watch(&el);
    let main = async {
        let el = roundelay::get_running_loop().unwrap();
        drop(el.task_builder().name("panics").spawn(async {
            cancel_requested().await;
            panic!("boom")
        }));
        el.task_builder()
            .name("fails")
            .spawn(async {
                cancel_requested().await;
                Err::<(), _>(full())
            })
            .report_errors();
        drop(el.task_builder().name("dropped").spawn(async {
            let _bomb = Bomb;
            pending::<()>().await
        }));
        drop(el.task_builder().name("tidy").spawn(async {
            cancel_requested().await;
            yield_now().await;
        }));
        drop(spawn(pending::<()>()));
        yield_now().await;
    };
    runner.run(main).unwrap();
    assert!(seen.borrow().is_empty());
    runner.close();
    let reports = seen.take();
    let expected = [
        "Exception in the destructor of a task's future: boom\n  <Task running name=\"dropped\" *>",
        "Exception in a task that nobody awaits: boom\n  <Task ended name=\"panics\" *>",
        "Error in a task that nobody awaits: cannot save\n  caused by: the disk is full\n  <Task ended name=\"fails\" *>",
    ];
    assert_eq!(reports.len(), expected.len(), "{reports:#?}");
    for expected in expected {
        assert!(
            reports.iter().any(|(about, text)| about == "task" && fits(text, expected)),
            "{expected}: {reports:#?}"
        );
    }
    assert!(el.is_closed() && el.stats().is_balanced());
}

/// EH-01: causes are named, but for those that the text before has already, and not without end.
#[test]
fn causes() {
    #[derive(Debug)]
    struct Chain(u32);
    impl fmt::Display for Chain {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "link {}.", self.0)
        }
    }
    impl Error for Chain {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            // As an error may be that was made by mistake.
            static NEXT: [Chain; 2] = [Chain(1), Chain(2)];
            Some(&NEXT[(self.0 % 2) as usize])
        }
    }
    #[derive(Debug)]
    struct Says(io::Error);
    impl fmt::Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "cannot save: {}", self.0)
        }
    }
    impl Error for Says {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let text = |error: &(dyn Error + 'static)| {
        ExceptionContext::new("failed").with_exception(roundelay::Exception::Error(error)).to_string()
    };
    assert_eq!(text(&full()), "failed: cannot save\n  caused by: the disk is full");
    assert_eq!(
        text(&Says(io::Error::other(full()))),
        "failed: cannot save: cannot save\n  caused by: the disk is full"
    );
    let endless = text(&Chain(0));
    assert!(endless.starts_with("failed: link 0.\n  caused by: link 1.\n  caused by: link 2.\n"), "{endless}");
    assert!(endless.lines().count() < 20, "{endless}");
}
