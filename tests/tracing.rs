//! What the loop tells `tracing`: spans of tasks, and events.

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Log, on_loop, settle, take_reports};
use roundelay::{EventLoop, JoinError, TaskGroup, yield_now};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The fields of a span or an event as text, by name.
#[derive(Clone, Default)]
struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// Writes down what happens to the spans of tasks, by the tasks' names, and what is said inside of them.
#[derive(Clone, Default)]
struct Recorder {
    lines: Arc<Mutex<Vec<String>>>,
    fields: Arc<Mutex<Vec<Fields>>>,
}

impl Recorder {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// Calls `f` with this as the subscriber of the thread, with everything let through.
    fn hears<R>(&self, f: impl FnOnce() -> R) -> R {
        self.hears_of(Targets::new().with_default(LevelFilter::TRACE), f)
    }

    fn hears_of<R, L>(&self, filter: L, f: impl FnOnce() -> R) -> R
    where
        L: Layer<tracing_subscriber::Registry> + Send + Sync,
    {
        // The one below asks the filter first.
        let subscriber = tracing_subscriber::registry().with(filter).with(self.clone());
        tracing::subscriber::with_default(subscriber, f)
    }
}

/// The name of a task, kept with its span.
struct Name(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let span = ctx.span(id).unwrap();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = fields.0.get("name").cloned().unwrap_or_else(|| span.name().to_owned());
        let parent = span.parent().map(|parent| parent.extensions().get::<Name>().unwrap().0.clone());
        let of = parent.map(|parent| format!(" of {parent}")).unwrap_or_default();
        if span.metadata().target() == "roundelay::task" {
            assert_eq!((span.name(), *span.metadata().level()), ("task", Level::DEBUG));
            self.push(format!("new {name}{of}"));
            self.fields.lock().unwrap().push(fields);
        }
        span.extensions_mut().insert(Name(name));
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        self.push(format!("enter {}", name_of(id, &ctx)));
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.push(format!("exit {}", name_of(id, &ctx)));
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        self.push(format!("close {}", name_of(&id, &ctx)));
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if event.metadata().target().starts_with("roundelay") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope: Vec<String> =
            ctx.event_scope(event).into_iter().flatten().map(|span| name_of(&span.id(), &ctx)).collect();
        self.push(format!("{:?} says {}", scope.first(), fields.0["message"]));
    }
}

fn name_of<S: Subscriber + for<'a> LookupSpan<'a>>(id: &Id, ctx: &Context<'_, S>) -> String {
    ctx.span(id).unwrap().extensions().get::<Name>().unwrap().0.clone()
}

/// A value that says so when it is dropped.
struct SaysGoodBye;

impl Drop for SaysGoodBye {
    fn drop(&mut self) {
        tracing::info!("good bye");
    }
}

/// A task's span is made when it is spawned, entered at each poll, and closed at its end; what the body says is in it.
#[test]
fn a_span_is_entered_at_every_poll() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears(|| {
            let task = el.task_builder().name("greeter").spawn(async {
                tracing::info!("hello");
                yield_now().await;
                tracing::info!("again");
            });
            assert_eq!(recorder.take(), ["new greeter"]);
            settle(el);
            assert!(task.is_done());
        });
        let expected = [
            "enter greeter",
            "Some(\"greeter\") says hello",
            "exit greeter",
            "enter greeter",
            "Some(\"greeter\") says again",
            "exit greeter",
            "close greeter",
        ];
        assert_eq!(recorder.take(), expected);
    });
}

/// The fields tell the task's number, its name and where it was spawned.
#[test]
fn the_fields_of_a_span() {
    on_loop(|el| {
        let recorder = Recorder::default();
        let (named, plain, line) = recorder.hears(|| {
            let named = el.task_builder().name("a \"name\"").spawn(async {});
            let (plain, line) = (el.create_task(async {}), line!());
            settle(el);
            (named.id(), plain.id(), line)
        });
        let fields = recorder.fields.lock().unwrap().clone();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0].0["name"], "a \"name\"");
        assert_eq!(fields[0].0["id"], named.to_string());
        assert_eq!(fields[1].0["name"], format!("Task-{plain}"));
        let place = format!("tests/tracing.rs:{line}:");
        assert!(fields[1].0["spawned_at"].starts_with(&place), "{:?}", fields[1].0);
    });
}

/// The span that is current where a task is spawned is the parent of the task's own; one that spawns is the parent of
/// what it spawns.
#[test]
fn parents_are_the_spans_that_spawn() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears(|| {
            let request = tracing::info_span!("request");
            let task = request.in_scope(|| {
                el.task_builder().name("outer").spawn(async {
                    let el = roundelay::get_running_loop().unwrap();
                    el.task_builder().name("inner").spawn(async {}).await.unwrap();
                })
            });
            drop(request);
            settle(el);
            assert!(task.is_done());
        });
        let new: Vec<String> = recorder.take().into_iter().filter(|line| line.starts_with("new")).collect();
        assert_eq!(new, ["new outer of request", "new inner of outer"]);
    });
}

/// A task that begins where it is made is inside of the one that makes it, and that one's span is current again after.
#[test]
fn eager_tasks_are_nested() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears(|| {
            let task = el.task_builder().name("outer").spawn(async {
                let el = roundelay::get_running_loop().unwrap();
                let inner = el.task_builder().name("inner").eager(true).spawn(async {
                    tracing::info!("inside");
                });
                tracing::info!("outside");
                inner.await.unwrap();
            });
            settle(el);
            assert!(task.is_done());
        });
        let expected = [
            "new outer",
            "enter outer",
            "new inner of outer",
            "enter inner",
            "Some(\"inner\") says inside",
            "exit inner",
            "close inner",
            "Some(\"outer\") says outside",
            "exit outer",
            "close outer",
        ];
        assert_eq!(recorder.take(), expected);
    });
}

/// What the future holds is dropped in its span, whichever way the task ends.
#[test]
fn futures_are_dropped_in_their_span() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears(|| {
            let held = SaysGoodBye;
            let waits = el.task_builder().name("waits").spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            let held = SaysGoodBye;
            let unpolled = el.task_builder().name("unpolled").spawn(async move { drop(held) });
            unpolled.cancel();
            let held = SaysGoodBye;
            let panics = el.task_builder().name("panics").spawn(async move {
                let _held = held;
                panic!("oh no");
            });
            settle(el);
            assert!(panics.is_done() && unpolled.is_cancelled());
            drop(panics);
            waits.cancel();
            settle(el);
            let held = SaysGoodBye;
            drop(el.task_builder().name("closed").spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            }));
            settle(el);
            el.close();
        });
        let lines = recorder.take();
        let said: Vec<&str> = lines.iter().filter(|line| line.contains("says")).map(String::as_str).collect();
        let expected = ["unpolled", "panics", "waits", "closed"].map(|name| format!("Some(\"{name}\") says good bye"));
        assert_eq!(said, expected);
        for name in ["unpolled", "panics", "waits", "closed"] {
            assert_eq!(lines.iter().filter(|line| **line == format!("close {name}")).count(), 1, "{lines:#?}");
        }
        assert_eq!(take_reports().len(), 1);
    });
}

/// The future that a loop is run for has a span, too, which is that of its children.
#[test]
fn the_root_has_a_span() {
    on_loop(|el| {
        let recorder = Recorder::default();
        let id = recorder.hears(|| {
            el.run_until_complete(async {
                let el = roundelay::get_running_loop().unwrap();
                let id = el.current_task().unwrap().id;
                el.task_builder().name("child").spawn(async {}).await.unwrap();
                id
            })
            .unwrap()
        });
        let root = format!("Task-{id}");
        let expected = [
            format!("new {root}"),
            format!("enter {root}"),
            format!("new child of {root}"),
            format!("exit {root}"),
            "enter child".to_owned(),
            "exit child".to_owned(),
            "close child".to_owned(),
            format!("enter {root}"),
            format!("exit {root}"),
            format!("close {root}"),
        ];
        assert_eq!(recorder.take(), expected);
    });
}

/// A root that is stopped, and one that panics, leave their spans.
#[test]
fn roots_that_are_not_done_leave_their_spans() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears(|| {
            let handle = el.clone();
            let held = SaysGoodBye;
            let stopped = el.run_until_complete(async move {
                handle.stop();
                let _held = held;
                std::future::pending::<()>().await;
            });
            stopped.unwrap_err();
            let run = || el.run_until_complete(async { std::panic::panic_any(roundelay::Fatal::new("enough")) });
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
            assert!(tracing::Span::current().is_none());
        });
        let lines = recorder.take();
        let begins = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!((begins("enter"), begins("exit"), begins("close")), (3, 3, 2), "{lines:#?}");
        let farewell = lines.iter().position(|line| line.ends_with("says good bye")).unwrap();
        assert!(lines[farewell].starts_with("Some(\"Task-"), "{lines:#?}");
    });
}

/// Tasks of other threads, of groups and of a task factory have spans; that of a thread's task has the thread's as its parent.
#[test]
fn tasks_of_every_maker_have_spans() {
    on_loop(|el| {
        let recorder = Recorder::default();
        el.set_task_factory(Some(Rc::new(|_, future, _| Box::pin(future))));
        recorder.hears(|| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let remote = el.remote();
            let spawn = move || remote.spawn(|| async { tracing::info!("made by a thread") }).unwrap();
            let task = std::thread::spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("thread").in_scope(spawn))
            });
            let task = task.join().unwrap();
            settle(el);
            assert!(task.is_done());
            el.set_task_factory(None);
            let group = async |group: TaskGroup| {
                group.task_builder().name("child").spawn_infallible(async {});
            };
            common::complete(el, TaskGroup::scope(group)).unwrap();
        });
        let lines = recorder.take();
        let of_thread = lines.iter().find(|line| line.starts_with("new") && line.ends_with(" of thread")).unwrap();
        let name = of_thread.strip_prefix("new ").unwrap().strip_suffix(" of thread").unwrap();
        assert!(lines.contains(&format!("Some({name:?}) says made by a thread")), "{lines:#?}");
        assert!(lines.contains(&"enter child".to_owned()), "{lines:#?}");
    });
}

/// Where no subscriber wants them, tasks have no spans: events inside of them have none either.
#[test]
fn filtered_out_there_are_none() {
    on_loop(|el| {
        for filter in ["info", "roundelay=debug,roundelay::task=off", "tracing=trace"] {
            let recorder = Recorder::default();
            recorder.hears_of(EnvFilter::new(filter), || {
                let task = el.create_task(async { tracing::info!("alone") });
                settle(el);
                assert!(task.is_done());
            });
            let expected: &[&str] = if filter.starts_with("roundelay") { &[] } else { &["None says alone"] };
            assert_eq!(recorder.take(), expected, "{filter}");
        }
    });
}

/// `RUST_LOG=roundelay::task=debug` is how one asks for them.
#[test]
fn a_filter_names_their_target() {
    on_loop(|el| {
        let recorder = Recorder::default();
        recorder.hears_of(EnvFilter::new("off,roundelay::task=debug"), || {
            drop(el.task_builder().name("seen").spawn(async {}));
            settle(el);
        });
        assert_eq!(recorder.take(), ["new seen", "enter seen", "exit seen", "close seen"]);
    });
}

/// The subscriber of a task's spans is the one that it was spawned under, and no other.
#[test]
fn the_subscriber_is_that_of_the_spawn() {
    on_loop(|el| {
        let (first, second) = (Recorder::default(), Recorder::default());
        drop(first.hears(|| el.task_builder().name("first").spawn(async {})));
        drop(el.task_builder().name("nobody's").spawn(async {}));
        second.hears(|| settle(el));
        assert_eq!(first.take(), ["new first", "enter first", "exit first", "close first"]);
        assert_eq!(second.take(), [] as [&str; 0]);
    });
}

/// Where it panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    New,
    Enter,
    Exit,
    Close,
}

struct Breaks(Where);

impl Breaks {
    fn at(&self, here: Where) {
        assert!(self.0 != here, "the subscriber breaks at {here:?}");
    }
}

impl Subscriber for Breaks {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "roundelay::task"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.at(Where::New);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {
        self.at(Where::Enter);
    }
    fn exit(&self, _: &Id) {
        self.at(Where::Exit);
    }
    fn try_close(&self, _: Id) -> bool {
        self.at(Where::Close);
        true
    }
}

/// A subscriber that panics is reported, once for each task, and the task goes on.
#[test]
fn a_subscriber_that_panics_hurts_nobody() {
    for place in [Where::New, Where::Enter, Where::Exit, Where::Close] {
        on_loop(|el| {
            tracing::subscriber::with_default(Breaks(place), || {
                let log = Log::new();
                let said = log.clone();
                let task = el.create_task(async move {
                    said.push("one");
                    yield_now().await;
                    said.push("two");
                    3
                });
                settle(el);
                assert_eq!(log.take(), ["one", "two"]);
                assert!(task.is_done());
                let text = format!(
                    "Exception in the tracing subscriber, at the span of a task: the subscriber breaks at {place:?}"
                );
                let reports = take_reports();
                // The span of a task that could not be entered is closed by a subscriber that could.
                assert_eq!(reports, std::slice::from_ref(&text), "{place:?}");
                assert_eq!(common::finish(el, task).unwrap(), 3);
                // The root of `finish` was made by the same subscriber.
                assert_eq!(take_reports(), [text]);
            });
        });
    }
}

/// A subscriber may spawn, cancel, and stop the loop.
#[test]
fn a_subscriber_may_call_the_loop() {
    struct Meddles;

    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }

    fn meddle() {
        let el = LOOP.take().unwrap();
        for info in el.all_tasks() {
            let _ = (info.name, info.polls);
        }
        let _ = el.current_task();
        el.call_soon(|| {});
        LOOP.set(Some(el));
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Meddles {
        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            meddle();
        }
        fn on_enter(&self, _: &Id, _: Context<'_, S>) {
            meddle();
        }
        fn on_exit(&self, _: &Id, _: Context<'_, S>) {
            meddle();
        }
        fn on_close(&self, _: Id, _: Context<'_, S>) {
            meddle();
        }
    }

    on_loop(|el| {
        LOOP.set(Some(el.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Meddles), || {
            let waits = el.create_task(std::future::pending::<()>());
            let slept = common::complete(el, async {
                roundelay::sleep(Duration::from_millis(1)).await;
                7
            });
            assert_eq!(slept, 7);
            waits.cancel();
            settle(el);
            assert!(matches!(common::finish(el, waits), Err(error) if JoinError::is_cancelled(&error)));
        });
        LOOP.set(None);
    });
}

/// What is said under one of the crate's targets, with it and the level.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (target, level) = (event.metadata().target(), event.metadata().level());
        self.0.lock().unwrap().push(format!("{target} {level} {}", fields.0["message"]));
    }
}

/// Calls `f`, and gives what was said that the filter lets through. Numbers of loops, tasks and descriptors are left out.
fn said<R>(filter: &str, f: impl FnOnce() -> R) -> (R, Vec<String>) {
    let said = Said::default();
    let subscriber = tracing_subscriber::registry().with(EnvFilter::new(filter)).with(said.clone());
    let result = tracing::subscriber::with_default(subscriber, f);
    let lines = std::mem::take(&mut *said.0.lock().unwrap());
    let plain = |line: &String| line.chars().filter(|char| !char.is_ascii_digit()).collect();
    (result, lines.iter().map(plain).collect())
}

/// DB-10: what is said of the loop itself has the target `roundelay::loop`: runs and its end at debug level.
#[test]
fn the_loop_tells_of_its_runs_and_its_end() {
    let (_, lines) = said("roundelay::loop=debug", || {
        on_loop(|el| {
            el.run_until_complete(async {}).unwrap();
            el.run_once(Some(Duration::ZERO)).unwrap();
            el.stop();
            el.run_forever();
        })
    });
    let [running, idle] =
        [true, false].map(|running| format!("<EventLoop  running={running} closed=false debug=false>"));
    let expected = [
        format!("roundelay::loop DEBUG EventLoop::run_until_complete() begins: {running}"),
        format!("roundelay::loop DEBUG EventLoop::run_until_complete() ends: {running}"),
        format!("roundelay::loop DEBUG EventLoop::run_forever() begins: {running}"),
        format!("roundelay::loop DEBUG EventLoop::run_forever() ends: {running}"),
        format!("roundelay::loop DEBUG close {idle}"),
    ];
    assert_eq!(
        lines.iter().filter(|line| !line.contains("selector")).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

/// Each turn is told at trace level, and only there.
#[test]
fn turns_are_told_at_trace_level() {
    on_loop(|el| {
        let turn = || {
            el.call_soon(|| ());
            el.run_once(Some(Duration::ZERO)).unwrap();
        };
        let (_, lines) = said("roundelay::loop=trace", turn);
        assert_eq!(lines, ["roundelay::loop TRACE turn  of loop :  items"]);
        let (_, lines) = said("roundelay=debug", turn);
        assert_eq!(lines, [] as [&str; 0]);
    });
}

/// DB-10: what happens to connections has the target `roundelay::io`.
#[test]
fn connections_are_told_of() {
    on_loop(|el| {
        let (_, lines) = said("roundelay::io=trace", || {
            common::complete(el, async {
                let serve =
                    |mut reader: roundelay::StreamReader, _writer| async move { reader.read_to_end().await.map(drop) };
                let server = roundelay::start_server(serve, ("127.0.0.1", 0)).await.unwrap();
                let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await.unwrap();
                writer.write(b"x");
                writer.write_eof();
                assert_eq!(reader.read_to_end().await.unwrap(), b"");
                drop((reader, writer));
                assert!(server.shutdown(common::PATIENCE).await);
            })
        });
        let count = |what: &str| lines.iter().filter(|line| line.ends_with(what)).count();
        assert_eq!((count(": connection made"), count(": connection lost")), (2, 2), "{lines:#?}");
        assert!(count(": received EOF") >= 1, "{lines:#?}");
        let of_server = lines.iter().filter_map(|line| line.strip_prefix("roundelay::io DEBUG server on ...: "));
        let of_server: Vec<&str> = of_server.map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(of_server, ["is serving", "got a new connection", "closes"], "{lines:#?}");
        let (debug, trace) = ("roundelay::io DEBUG <", "roundelay::io TRACE <");
        let fits = |line: &&String| line.starts_with(debug) || line.starts_with(trace) || line.contains("server on");
        assert_eq!(lines.iter().filter(fits).count(), lines.len(), "{lines:#?}");
    });
}

/// A subscriber that panics at an event of the loop harms nobody: the connection goes on.
#[test]
fn events_that_panic_harm_nobody() {
    struct PanicsAtEvents;

    impl<S: Subscriber> Layer<S> for PanicsAtEvents {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            panic!("the subscriber is broken");
        }
    }

    on_loop(|el| {
        let filter = EnvFilter::new("roundelay=trace");
        let subscriber = tracing_subscriber::registry().with(PanicsAtEvents.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            common::complete(el, async {
                let serve = |mut reader: roundelay::StreamReader, mut writer: roundelay::StreamWriter| async move {
                    let line = reader.readline().await?;
                    writer.write(&line);
                    writer.drain().await
                };
                let server = roundelay::start_server(serve, ("127.0.0.1", 0)).await.unwrap();
                let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await.unwrap();
                writer.write(b"still here\n");
                assert_eq!(reader.readline().await.unwrap(), b"still here\n");
                drop((reader, writer));
                assert!(server.shutdown(common::PATIENCE).await);
            })
        });
    });
}
