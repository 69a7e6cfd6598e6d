//! The timeline: what is in the file, and that it is there whatever happens.

#[path = "common/collector.rs"]
mod collector;
mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use common::{on_loop, on_manual_clock, settle, take_reports};
use roundelay::{EventLoop, LoopClosed, Trace, TraceEnd, yield_now};
use serde_json::Value;

const MS: Duration = Duration::from_millis(1);

/// A folder for the files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The events of a file that is complete, each of which is as the format says.
#[track_caller]
fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let Value::Array(events) = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")) else {
        panic!("no array: {text}")
    };
    events.iter().for_each(check);
    events
}

/// Checks an event against the format.
#[track_caller]
fn check(event: &Value) {
    let fields: HashSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("no {name}: {event}"));
    let phase = text("ph");
    let expected: &[&str] = match phase {
        "M" if text("name") == "process_name" => &["ph", "pid", "name", "args"],
        "M" => &["ph", "pid", "tid", "name", "args"],
        "X" => &["ph", "pid", "tid", "ts", "name", "cat", "dur", "args"],
        "i" => &["ph", "pid", "tid", "ts", "name", "cat", "s", "args"],
        "C" => &["ph", "pid", "tid", "ts", "name", "args"],
        "s" => &["ph", "pid", "tid", "ts", "name", "cat", "id"],
        "f" => &["ph", "pid", "tid", "ts", "name", "cat", "id", "bp"],
        _ => panic!("unknown phase: {event}"),
    };
    assert_eq!(fields, expected.iter().copied().collect(), "{event}");
    assert_eq!(event["pid"], std::process::id());
    assert!(!text("name").is_empty());
    for number in ["tid", "ts", "dur", "id"].into_iter().filter(|name| fields.contains(name)) {
        assert!(event[number].as_f64().unwrap() >= 0.0, "{number}: {event}");
    }
    let fields_of_args = || event["args"].as_object().unwrap();
    match phase {
        "M" => assert!(fields_of_args()["name"].is_string()),
        "C" => assert!(fields_of_args().values().all(Value::is_u64)),
        "i" => assert_eq!(text("s"), "t"),
        "f" => assert_eq!(text("bp"), "e"),
        _ => {}
    }
}

/// An event in a few words: phase, category, name, and its time in milliseconds.
fn brief(event: &Value) -> String {
    let millis = |name: &str| event[name].as_f64().unwrap() / 1000.0;
    let name = event["name"].as_str().unwrap();
    match event["ph"].as_str().unwrap() {
        "M" => format!("{name} {}", event["args"]["name"].as_str().unwrap()),
        "X" => format!("{} {name} {}+{}", event["cat"].as_str().unwrap(), millis("ts"), millis("dur")),
        "C" => format!("{name}={} {}", event["args"]["value"], millis("ts")),
        phase => format!("{phase} {name} {}", millis("ts")),
    }
}

fn briefs(events: &[Value]) -> Vec<String> {
    events.iter().map(brief).collect()
}

/// The events of a category.
fn of<'a>(events: &'a [Value], category: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["cat"] == category).collect()
}

#[track_caller]
fn named<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {:#?}", briefs(events)))
}

/// Every kind of event in a program of which every moment is known.
#[test]
fn a_program_event_by_event() {
    on_manual_clock(|el, clock| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        assert!(trace.is_writing());
        assert_eq!(trace.path(), path);
        let moves = |by: Duration| {
            let clock = clock.clone();
            move || clock.advance(by)
        };
        let wakes = moves(2 * MS);
        let task = el.task_builder().name("worker \"é\"\n").spawn(async move {
            wakes();
            yield_now().await;
        });
        let id = task.id();
        el.call_soon(moves(3 * MS));
        el.call_later(MS, moves(MS / 2));
        settle(el);
        assert!(task.is_done());
        let summary = trace.finish().unwrap();
        let events = read(&path);
        assert_eq!(summary.events, events.len() as u64);
        assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!((summary.end, summary.dropped), (TraceEnd::Finished, 0));

        let callback = events.iter().find(|event| event["cat"] == "callback").unwrap();
        let timer = events.iter().find(|event| event["cat"] == "timer").unwrap();
        for function in [callback, timer] {
            assert!(function["name"].as_str().unwrap().starts_with("timeline::a_program_event_by_event"), "{function}");
            assert!(function["args"]["at"].as_str().unwrap().starts_with("tests/timeline.rs:"));
        }
        assert_eq!(timer["args"]["late_us"], 4000);
        let task: Vec<&Value> = of(&events, "task");
        assert_eq!(task.len(), 2);
        assert_eq!(task[0]["args"]["id"], id.as_u64());
        assert_eq!(task[0]["args"]["polls"], 1);
        assert_eq!(task[1]["args"]["done"], true);
        assert!(events.iter().all(|event| event["args"]["slow"].is_null()));
        let late = events.iter().find(|event| event["cat"] == "late").unwrap();
        assert_eq!((&late["name"], &late["args"]["late_us"]), (&"late by 4.0 ms".into(), &4000.into()));
        assert_eq!(late["args"]["timer"], timer["name"]);
        let turns = of(&events, "turn");
        assert_eq!(turns[1]["args"]["timers"], 1);
        assert_eq!(turns[1]["args"]["latest_us"], 4000);
        assert_eq!(turns[0]["args"]["items"], 2);

        let (callback, timer) = (callback["name"].as_str().unwrap(), timer["name"].as_str().unwrap());
        let seen: Vec<String> = briefs(&events).into_iter().skip(2).filter(|event| !event.starts_with("io")).collect();
        let expected = [
            "turn turn 0+5".to_owned(),
            "task worker \"é\"\n 0+2".to_owned(),
            "ready=2 0".to_owned(),
            format!("callback {callback} 2+3"),
            "ready=1 5".to_owned(),
            "tasks=1 5".to_owned(),
            "turn turn 5+0.5".to_owned(),
            format!("timer {timer} 5+0.5"),
            "i late by 4.0 ms 5".to_owned(),
            "task worker \"é\"\n 5+0".to_owned(),
        ];
        assert_eq!(seen[..expected.len()], expected, "{seen:#?}");
        assert_eq!(seen.last().unwrap(), "i the timeline ends 5.5");
    });
}

/// Waits and looks at the selector stand between the turns, with their limit and what they found.
#[test]
fn waits_stand_between_turns() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let handle = el.clone();
        el.add_reader(&ours, move || handle.stop()).unwrap();
        el.call_later(300 * MS, move || std::io::Write::write_all(&mut &theirs, b"!").unwrap());
        el.run_forever();
        el.remove_reader(&ours);
        trace.finish().unwrap();
        let events = read(&path);
        let found: Vec<&Value> = of(&events, "io").into_iter().filter(|wait| wait["args"]["events"] == 1).collect();
        assert_eq!(found.len(), 1, "{events:#?}");
        let slept = of(&events, "io").into_iter().find(|wait| wait["name"] == "wait").unwrap();
        let limit = slept["args"]["timeout_us"].as_f64().unwrap();
        assert!(limit > 0.0 && limit <= 300_000.0, "{slept}");
        assert!(slept["dur"].as_f64().unwrap() >= limit - 1000.0, "{slept}");
        // Nothing on the loop's track overlaps: what begins inside of something ends there.
        let mut slices: Vec<(f64, f64)> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                let begin = event["ts"].as_f64().unwrap();
                (begin, begin + event["dur"].as_f64().unwrap())
            })
            .collect();
        slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = Vec::new();
        for (begin, end) in slices {
            open.retain(|outer| *outer > begin);
            assert!(open.iter().all(|outer| end <= outer + 0.0005), "{begin}..{end} in {open:?}");
            open.push(end);
        }
    });
}

/// A task that begins at once is a poll inside of what spawns it.
#[test]
fn eager_tasks_are_nested() {
    on_manual_clock(|el, clock| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        let (handle, clock) = (el.clone(), clock.clone());
        drop(el.task_builder().name("outer").spawn(async move {
            clock.advance(MS);
            let inside = clock.clone();
            drop(handle.task_builder().name("inner").eager(true).spawn(async move { inside.advance(2 * MS) }));
            clock.advance(MS);
        }));
        settle(el);
        trace.finish().unwrap();
        let tasks: Vec<String> = of(&read(&path), "task").into_iter().map(brief).collect();
        assert_eq!(tasks, ["task outer 0+4", "task inner 1+2"]);
    });
}

/// What other threads post and wake is shown with an arrow from the thread's own track.
#[test]
fn posts_have_arrows() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        let remote = el.remote();
        let poster = std::thread::Builder::new().name("a poster".into());
        let thread = poster.spawn(move || {
            remote.post(|| ()).unwrap();
            remote.call_soon_threadsafe(|| ()).unwrap();
            remote.stop().unwrap();
        });
        el.run_forever();
        thread.unwrap().join().unwrap();
        let (go, awaited) = std::sync::mpsc::channel();
        let woken = el.task_builder().name("woken").spawn(async {
            roundelay::spawn_blocking(move || awaited.recv().unwrap()).await.unwrap();
        });
        // A job that ended while the task is polled would be no wake-up of one that waits.
        settle(el);
        go.send(()).unwrap();
        common::finish(el, woken).unwrap();
        trace.finish().unwrap();

        let events = read(&path);
        let thread = events.iter().find(|event| event["args"]["name"] == "thread a poster").unwrap();
        assert_eq!((&thread["ph"], &thread["name"]), (&"M".into(), &"thread_name".into()));
        let posts: Vec<&Value> =
            of(&events, "post").into_iter().filter(|event| event["tid"] == thread["tid"]).collect();
        let phases = |phase: &str| posts.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!((phases("X"), phases("s")), (3, 3), "{posts:#?}");
        let arrows: Vec<&Value> = events.iter().filter(|event| event["ph"] == "s").collect();
        let ids: HashSet<u64> = arrows.iter().map(|arrow| arrow["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), arrows.len());
        for arrow in &arrows {
            let end = events.iter().find(|event| event["ph"] == "f" && event["id"] == arrow["id"]).unwrap();
            assert!(end["ts"].as_f64() >= arrow["ts"].as_f64(), "{arrow} {end}");
            assert_ne!(end["tid"], arrow["tid"]);
            let slice = events.iter().find(|event| {
                event["ph"] == "X" && event["tid"] == end["tid"] && event["ts"] == end["ts"] && event["cat"] != "turn"
            });
            assert!(slice.is_some(), "the arrow ends at no item: {end}");
        }
        assert!(arrows.iter().any(|arrow| arrow["name"] == "wake"), "{arrows:#?}");
        let posted: Vec<&Value> =
            of(&events, "post").into_iter().filter(|post| !post["args"]["at"].is_null()).collect();
        assert!(posted.len() >= 2, "{posted:#?}");
    });
}

/// A loop with a clock of its own has no arrows: what other threads did when is not in its time.
#[test]
fn own_clocks_have_no_arrows() {
    on_manual_clock(|el, _| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        let remote = el.remote();
        std::thread::spawn(move || remote.post(|| ()).unwrap()).join().unwrap();
        settle(el);
        trace.finish().unwrap();
        let events = read(&path);
        assert_eq!(of(&events, "post").len(), 1, "{events:#?}");
    });
}

/// What is reported to the exception handler is marked where it happens.
#[test]
fn reports_are_marked() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        el.call_soon(|| panic!("oh no"));
        settle(el);
        trace.finish().unwrap();
        assert_eq!(take_reports().len(), 1);
        let events = read(&path);
        let mark = of(&events, "report")[0];
        assert!(mark["name"].as_str().unwrap().starts_with("Exception in callback"), "{mark}");
    });
}

/// A file with many events is within its bound, complete, and says that its limit was reached; the loop goes on.
#[test]
fn the_limit_ends_it() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_builder().limit_bytes(20_000).begin(&path).unwrap();
        let (_, written) = collector::collect(|| {
            let task = el.create_task(async {
                for _ in 0..1000 {
                    yield_now().await;
                }
            });
            common::finish(el, task).unwrap();
        });
        assert!(!trace.is_writing());
        let text = format!("the timeline {} ends: it has reached its limit of 20000 bytes", path.display());
        assert_eq!(written, [(tracing::Level::WARN, text)]);
        let summary = trace.finish().unwrap();
        assert_eq!(summary.end, TraceEnd::LimitReached);
        let size = fs::metadata(&path).unwrap().len();
        assert_eq!(summary.bytes, size);
        assert!((19_000..=20_000).contains(&size), "{size}");
        let events = read(&path);
        assert_eq!(summary.events, events.len() as u64);
        let end = events.last().unwrap();
        assert_eq!(end["name"], "the timeline ends");
        assert_eq!(end["args"]["reason"], "the limit of bytes was reached");
    });
}

/// The latest events, where they were asked for, and how many were dropped before.
#[test]
fn the_latest_are_kept() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_builder().limit_bytes(20_000).keep_latest(true).begin(&path).unwrap();
        let task = el.create_task(async {
            for _ in 0..1000 {
                yield_now().await;
            }
        });
        common::run_until(el, || task.is_done());
        drop(el.task_builder().name("the last one").spawn(async {}));
        settle(el);
        assert!(trace.is_writing());
        // Names, which stand before everything else, may be there.
        assert!(fs::metadata(&path).unwrap().len() < 1000);
        let summary = trace.finish().unwrap();
        assert_eq!(summary.end, TraceEnd::Finished);
        let events = read(&path);
        assert_eq!((summary.events, summary.bytes), (events.len() as u64, fs::metadata(&path).unwrap().len()));
        assert!((19_000..=20_000).contains(&summary.bytes), "{summary:?}");
        named(&events, "process_name");
        named(&events, "thread_name");
        named(&events, "the last one");
        assert!(summary.dropped > 1000, "{summary:?}");
        assert_eq!(named(&events, "the timeline ends")["args"]["earlier_events_dropped"], summary.dropped);
    });
}

/// A file that was cut behind any of its events opens: an array whose end may be missing.
#[test]
fn a_file_that_is_cut_opens() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        el.call_soon(|| ());
        settle(el);
        trace.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("[\n{") && text.ends_with("}\n]\n"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        for count in 2..lines.len() - 1 {
            let cut = lines[..count].join("\n");
            let events: Value = serde_json::from_str(&format!("{}]", cut.trim_end_matches(','))).unwrap();
            assert_eq!(events.as_array().unwrap().len(), count - 1);
        }
    });
}

/// What is there is written within a second of the loop's time: a process that dies loses no more.
#[test]
fn events_do_not_wait_for_long() {
    on_manual_clock(|el, clock| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        drop(el.task_builder().name("early").spawn(async {}));
        settle(el);
        clock.advance(Duration::from_secs(1));
        settle(el);
        // Another thread writes: it is waited for, by looking.
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while !fs::read_to_string(&path).unwrap().contains("early") {
            assert!(std::time::Instant::now() < deadline, "nothing was written");
            std::thread::yield_now();
        }
        assert!(trace.is_writing());
        drop(trace);
        named(&read(&path), "the timeline ends");
    });
}

/// The end of the loop is the end of its timelines.
#[test]
fn closing_the_loop_ends_it() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        el.call_soon(|| ());
        settle(el);
        el.close();
        assert!(!trace.is_writing());
        assert_eq!(read(&path).last().unwrap()["args"]["reason"], "the loop was closed");
        assert_eq!(trace.finish().unwrap().end, TraceEnd::LoopClosed);
        let error = el.trace_to(&path).unwrap_err();
        assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error:?}");
    });
}

/// Several timelines at a time, each in its file; the same file is refused until it is complete.
#[test]
fn one_timeline_for_each_file() {
    on_loop(|el| {
        let folder = Folder::new();
        let (first, second) = (folder.file("first.json"), folder.file("second.json"));
        let one = el.trace_to(&first).unwrap();
        let error = el.trace_to(&first).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("a timeline is being written to"), "{error}");
        let two = el.trace_to(&second).unwrap();
        drop(el.task_builder().name("seen by both").spawn(async {}));
        settle(el);
        one.finish().unwrap();
        drop(el.task_builder().name("seen by one").spawn(async {}));
        settle(el);
        two.finish().unwrap();
        named(&read(&first), "seen by both");
        assert!(read(&first).iter().all(|event| event["name"] != "seen by one"));
        named(&read(&second), "seen by both");
        named(&read(&second), "seen by one");
        let again = el.trace_to(&first).unwrap();
        again.finish().unwrap();
        assert!(read(&first).iter().all(|event| event["name"] != "seen by both"));
    });
}

/// Two loops of a thread write different files.
#[test]
fn each_loop_its_own() {
    on_loop(|el| {
        let folder = Folder::new();
        let other = EventLoop::builder().name("other").build().unwrap();
        let traces: Vec<Trace> = [el, &other]
            .into_iter()
            .enumerate()
            .map(|(n, el)| el.trace_to(folder.file(&n.to_string())).unwrap())
            .collect();
        for (n, el) in [el, &other].into_iter().enumerate() {
            drop(el.task_builder().name(format!("task of {n}")).spawn(async {}));
            settle(el);
        }
        for (n, trace) in traces.into_iter().enumerate() {
            trace.finish().unwrap();
            let events = read(&folder.file(&n.to_string()));
            let tasks: Vec<&str> = of(&events, "task").iter().map(|task| task["name"].as_str().unwrap()).collect();
            assert_eq!(tasks, [format!("task of {n}")]);
            let thread = named(&events, "thread_name")["args"]["name"].as_str().unwrap();
            assert_eq!(thread.contains("\"other\""), n == 1, "{thread}");
        }
        other.close();
    });
}

/// It can begin and end inside of what it shows.
#[test]
fn it_begins_and_ends_anywhere() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let (handle, file) = (el.clone(), path.clone());
        common::complete(el, async move {
            let trace = handle.trace_to(&file).unwrap();
            roundelay::spawn(async {}).await.unwrap();
            let summary = handle.call_soon(move || trace.finish().unwrap()).await.unwrap();
            assert_eq!(summary.end, TraceEnd::Finished);
        });
        let events = read(&path);
        assert!(!of(&events, "root").is_empty() && !of(&events, "task").is_empty(), "{events:#?}");
    });
}

/// Limits that hold nothing, paths that cannot be: errors that say so, and nothing left behind.
#[test]
fn what_cannot_be() {
    on_loop(|el| {
        let folder = Folder::new();
        let error = el.trace_builder().limit_bytes(4095).begin(folder.file("small")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "TraceBuilder::begin(): a limit of 4095 bytes is below 4096");
        assert!(!folder.file("small").exists());
        assert_eq!(el.trace_to(folder.file("no/such")).unwrap_err().kind(), ErrorKind::NotFound);
        el.trace_builder().limit_bytes(4096).begin(folder.file("small")).unwrap().finish().unwrap();
        assert_eq!(read(&folder.file("small")).len(), 3);
    });
}

/// What took as long as debug mode reports is marked, whether debug mode is on or not.
#[test]
fn what_is_slow_is_marked() {
    on_manual_clock(|el, clock| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        el.set_slow_callback_duration(2 * MS);
        for (name, millis) in [("quick", 1), ("slow", 2)] {
            let clock = clock.clone();
            drop(el.task_builder().name(name).spawn(async move { clock.advance(MS * millis) }));
        }
        settle(el);
        trace.finish().unwrap();
        let events = read(&path);
        assert!(named(&events, "quick")["args"]["slow"].is_null());
        assert_eq!(named(&events, "slow")["args"]["slow"], true);
    });
}

/// A transport whose `Debug` panics is in the file all the same, and nothing is reported.
#[test]
fn what_cannot_be_printed() {
    struct Unprintable(Rc<Cell<bool>>);

    impl fmt::Debug for Unprintable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no text of mine")
        }
    }

    impl Drop for Unprintable {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_to(&path).unwrap();
        let dropped = Rc::new(Cell::new(false));
        let context =
            roundelay::ExceptionContext::new("a \u{1} \"message\" \u{2028}").with_subject(Unprintable(dropped.clone()));
        el.call_exception_handler(&context);
        drop(context);
        settle(el);
        trace.finish().unwrap();
        assert!(dropped.get());
        let _ = take_reports();
        assert_eq!(of(&read(&path), "report")[0]["name"], "a \u{1} \"message\" \u{2028}");
    });
}

/// A disk that is full ends the timeline, not the loop: one warning, and the error for who finishes it.
#[test]
fn a_disk_that_is_full() {
    on_loop(|el| {
        let trace = el.trace_to("/dev/full").unwrap();
        let (_, written) = collector::collect(|| {
            common::run_until(el, || {
                drop(el.create_task(async {
                    for _ in 0..1000 {
                        yield_now().await;
                    }
                }));
                !trace.is_writing()
            });
            settle(el);
        });
        assert_eq!(written.len(), 1, "{written:?}");
        assert!(written[0].1.starts_with("the timeline /dev/full ends early: No space left on device"), "{written:?}");
        assert_eq!(trace.finish().unwrap_err().kind(), ErrorKind::StorageFull);

        let trace = el.trace_to("/dev/full").unwrap();
        assert_eq!(trace.finish().unwrap_err().kind(), ErrorKind::StorageFull);
        let (_, written) = collector::collect(|| drop(el.trace_to("/dev/full").unwrap()));
        assert_eq!(written.len(), 1, "{written:?}");
        let trace = el.trace_to("/dev/full").unwrap();
        let (_, written) = collector::collect(|| el.close());
        assert_eq!(written.len(), 1, "{written:?}");
        assert_eq!(trace.finish().unwrap_err().kind(), ErrorKind::StorageFull);
    });
}

/// The names of threads take no more than a part of a ring: there is room for what threads that come and go have posted.
#[test]
fn threads_that_come_and_go() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let trace = el.trace_builder().limit_bytes(20_000).keep_latest(true).begin(&path).unwrap();
        for n in 0..400 {
            let remote = el.remote();
            let thread = std::thread::Builder::new().name(format!("a thread with a long name, number {n}"));
            thread.spawn(move || remote.post(|| ()).unwrap()).unwrap().join().unwrap();
            settle(el);
        }
        drop(el.task_builder().name("the last one").spawn(async {}));
        settle(el);
        trace.finish().unwrap();
        let events = read(&path);
        named(&events, "the last one");
        let posts = of(&events, "post").len();
        assert!(posts > 50, "{posts}");
    });
}

/// A subscriber that fails does not make the drop of a timeline panic, which may be part of another panic.
#[test]
fn a_drop_that_cannot_be_told_of() {
    on_loop(|el| {
        let trace = el.trace_to("/dev/full").unwrap();
        tracing::subscriber::with_default(collector::BrokenSubscriber, || drop(trace));
        drop(take_reports());
    });
}

/// A file has one timeline, whatever it is called.
#[test]
fn one_file_by_two_names() {
    on_loop(|el| {
        let folder = Folder::new();
        let path = folder.file("timeline.json");
        let other = folder.file("other.json");
        let trace = el.trace_to(&path).unwrap();
        std::os::unix::fs::symlink(&path, &other).unwrap();
        for name in [other, folder.0.path().join(".").join("..").join(folder.0.path()).join("./timeline.json")] {
            assert_eq!(el.trace_to(name).unwrap_err().kind(), ErrorKind::ResourceBusy);
        }
        trace.finish().unwrap();
        read(&path);
    });
}
