//! Child processes: protocols, and the transports that call them.

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/processes.rs"]
mod processes;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use collector::collect;
use common::{DropCounter, Kind, complete, poll_times, run_until, settle, take_reports};
use processes::{NONE, Recorder, Told, await_zombie, children, gate, is_reaped};
use roundelay::{ContextVar, EventLoop, ProcessHandle, Protocol, ProtocolRef, Stdio, SubprocessProtocol, Transport};
use rustix::process::Signal;

/// Starts a command whose output is told.
fn shell(el: &EventLoop, told: &Told, command: &str) -> (ProcessHandle, ProtocolRef<Recorder>) {
    complete(el, el.subprocess_shell(told.protocol(), command)).unwrap()
}

/// Starts a program that runs until it is ended.
fn endless(el: &EventLoop, told: &Told) -> ProcessHandle {
    complete(el, el.subprocess_exec(told.protocol(), "cat", NONE)).unwrap().0
}

/// A process that has ended, of which the loop has not heard.
fn unheard(el: &EventLoop, told: &Told, returncode: i32) -> ProcessHandle {
    let (gate, theirs) = gate();
    let command = format!("cat {}; exit {returncode}", gate.path);
    let (process, _) = complete(el, el.subprocess_shell(told.protocol(), command).pass_fds([theirs])).unwrap();
    drop(gate);
    await_zombie(process.pid());
    process
}

fn sorted(mut entries: Vec<String>) -> Vec<String> {
    entries.sort();
    entries
}

const ALL_PIPES_LOST: [&str; 3] = ["pipe lost 0 None", "pipe lost 1 None", "pipe lost 2 None"];

on_every_loop! {
    /// P28: of a process that writes to both of its outputs and returns 3 everything is told, the beginning first and the
    /// end last.
    fn a_process_is_told_of_from_beginning_to_end(el) {
        let told = Told::new();
        let (process, _) = shell(el, &told, "echo out; echo err >&2; exit 3");
        assert_eq!(told.first(), "made");
        run_until(el, || told.is_over());
        assert_eq!(process.returncode(), Some(3));
        let events = told.take();
        assert_eq!(events.first().unwrap(), "made");
        assert_eq!(events.last().unwrap(), "lost None");
        let between = sorted(events[1..events.len() - 1].to_vec());
        let mut expected = vec!["data 1 \"out\\n\"", "data 2 \"err\\n\"", "exited 3"];
        expected.extend(ALL_PIPES_LOST);
        assert_eq!(between, expected);
        for fd in [1, 2] {
            let place = |what: &str| events.iter().position(|entry| entry.starts_with(what)).unwrap();
            assert!(place(&format!("data {fd}")) < place(&format!("pipe lost {fd}")), "{events:?}");
        }
    }

    /// SP-02: what is no pipe has no transport, nor has what goes elsewhere; and there are no more than three.
    fn only_pipes_have_transports(el) {
        let told = Told::new();
        let process = el.subprocess_exec(told.protocol(), "true", NONE).stdin(Stdio::null()).stderr(Stdio::to_stdout());
        let (process, _) = complete(el, process).unwrap();
        let has = |process: &ProcessHandle| [-1, 0, 1, 2, 3].map(|fd| process.pipe_transport(fd).is_some());
        assert_eq!(has(&process), [false, false, true, false, false]);
        run_until(el, || told.is_over());
        assert_eq!(has(&process), [false, false, true, false, false]);
        assert!(process.pipe_transport(1).unwrap().is_closing());
        assert_eq!(sorted(told.take()), ["exited 0", "lost None", "made", "pipe lost 1 None"]);
    }

    /// SP-03: a process that a signal has ended has its number as return code, negative.
    fn a_signal_is_a_negative_return_code(el) {
        type End = fn(&ProcessHandle);
        let end: [(i32, End); 3] = [
            (-2, |process| process.send_signal(Signal::INT.as_raw()).unwrap()),
            (-15, |process| process.terminate().unwrap()),
            (-9, |process| process.kill().unwrap()),
        ];
        for (returncode, end) in end {
            let told = Told::new();
            let process = endless(el, &told);
            assert_eq!((process.returncode(), process.status()), (None, None));
            end(&process);
            let status = complete(el, process.wait()).unwrap();
            assert_eq!(process.status(), Some(status));
            assert_eq!((status.code(), process.returncode()), (None, Some(returncode)));
            run_until(el, || told.is_over());
            assert!(told.has(&format!("exited {returncode}")));
        }
    }

    /// SP-05: of a process that has ended before anybody was told that it has begun everything is told in its order.
    fn a_process_that_is_faster_than_the_loop(el) {
        let told = Told::new();
        let start = el.subprocess_shell(told.protocol(), "echo quick; exit 7");
        let task = el.create_task(start.into_future());
        el.run_once(Some(Duration::ZERO)).unwrap();
        await_zombie(children()[0]);
        assert!(told.so_far().is_empty());
        run_until(el, || told.is_over());
        let (process, _) = complete(el, task).unwrap().unwrap();
        assert_eq!(process.returncode(), Some(7));
        let events = told.take();
        assert_eq!((events.first().unwrap().as_str(), events.last().unwrap().as_str()), ("made", "lost None"));
        assert!(events.contains(&"data 1 \"quick\\n\"".into()), "{events:?}");
        assert_eq!(events.len(), 7, "{events:?}");
    }

    /// P29, SP-06: while a child of the process has its pipes, its end is told, and that of the connection is not.
    fn a_grandchild_that_holds_the_pipes(el) {
        let told = Told::new();
        let ((gate, theirs), (childs_gate, childs)) = (gate(), gate());
        let command = format!("cat {} & cat {}; exit 5", childs_gate.path, gate.path);
        let start = el.subprocess_shell(told.protocol(), command).pass_fds([theirs, childs]);
        let process = complete(el, start).unwrap().0;
        let wait = el.create_task(process.wait());
        settle(el);
        drop(gate);
        assert_eq!(complete(el, wait).unwrap().unwrap().code(), Some(5));
        run_until(el, || told.has("exited 5") && told.has("pipe lost 0 None"));
        settle(el);
        assert_eq!(sorted(told.so_far()), ["exited 5", "made", "pipe lost 0 None"]);
        assert!(!process.is_closing());
        drop(childs_gate);
        run_until(el, || told.is_over());
        assert_eq!(sorted(told.take()[3..].to_vec()), ["lost None", "pipe lost 1 None", "pipe lost 2 None"]);
    }

    /// SP-07: a shell that is killed is gone at once, whatever its child does.
    fn a_killed_shell_with_a_child(el) {
        let told = Told::new();
        let (gate, theirs) = gate();
        let command = format!("cat {} & echo there; read line; true", gate.path);
        let (shell, _) = complete(el, el.subprocess_shell(told.protocol(), command).pass_fds([theirs])).unwrap();
        run_until(el, || told.received() == "there\n");
        shell.kill().unwrap();
        complete(el, shell.wait()).unwrap();
        assert_eq!(shell.returncode(), Some(-9));
        assert!(!told.is_over());
        drop(gate);
        run_until(el, || told.is_over());
    }

    /// SP-08: a process that has ended takes signals until the loop has heard of that, in vain, and refuses them afterwards.
    fn signals_after_the_end(el) {
        let told = Told::new();
        let process = unheard(el, &told, 4);
        process.kill().unwrap();
        process.terminate().unwrap();
        run_until(el, || told.is_over());
        assert_eq!(process.returncode(), Some(4));
        for result in [process.kill(), process.terminate(), process.send_signal(Signal::USR1.as_raw())] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let expected = format!("ProcessHandle::send_signal(): process {} has exited", process.pid());
            assert_eq!(error.to_string(), expected);
        }
    }

    /// SP-08: what is no signal is refused by the system, and signal 0 merely asks.
    fn signals_that_are_none(el) {
        let told = Told::new();
        let process = endless(el, &told);
        for signal in [-1, 1000, i32::MAX] {
            assert_eq!(process.send_signal(signal).unwrap_err().kind(), ErrorKind::InvalidInput, "{signal}");
        }
        process.send_signal(0).unwrap();
        process.close();
        run_until(el, || told.is_over());
        assert_eq!(process.returncode(), Some(-9));
    }

    /// SP-09: closing kills what runs, closes the pipes, and everything else is told as usual.
    fn closing_kills(el) {
        let told = Told::new();
        let process = endless(el, &told);
        process.close();
        process.close();
        assert!(process.is_closing());
        run_until(el, || told.is_over());
        assert!(is_reaped(process.pid()));
        assert_eq!(process.returncode(), Some(-9));
        let mut expected = vec!["exited -9", "lost None", "made"];
        expected.extend(ALL_PIPES_LOST);
        assert_eq!(sorted(told.take()), expected);
        process.close();
        process.abort();
        settle(el);
        assert!(told.take().is_empty());
    }

    /// SP-09: closing changes nothing about a process that has ended, heard of or not.
    fn closing_after_the_end(el) {
        for heard in [false, true] {
            let told = Told::new();
            let process = unheard(el, &told, 6);
            if heard {
                run_until(el, || told.has("exited 6"));
            }
            process.close();
            run_until(el, || told.is_over());
            assert_eq!(process.returncode(), Some(6));
            assert!(told.has("exited 6"));
        }
    }

    /// SP-09: `close` writes what is queued for whoever still reads; `abort` drops it.
    fn aborting_drops_what_is_queued(el) {
        let told = Told::new();
        let (gate, theirs) = gate();
        // The child's own child has its input, too, and reads nothing before the gate opens.
        let command = format!("exec 3<&0; (cat {0}; wc -c) <&3 & echo there; cat {0}", gate.path);
        let (process, _) = complete(el, el.subprocess_shell(told.protocol(), command).pass_fds([theirs])).unwrap();
        run_until(el, || told.received() == "there\n");
        let stdin = process.pipe_transport(0).unwrap();
        stdin.write(&[b'x'; 300_000]);
        process.close();
        complete(el, process.wait()).unwrap();
        assert!(stdin.write_buffer_size() > 0 && !told.has("pipe lost 0 None"));
        process.abort();
        run_until(el, || told.has("pipe lost 0 None") && told.is_over());
        drop(gate);
    }

    /// SP-26: the input cannot be read, nor can the outputs be written; whoever tries is told.
    fn pipes_have_one_direction(el) {
        let told = Told::new();
        let process = endless(el, &told);
        let [stdin, stdout] = [0, 1].map(|fd| process.pipe_transport(fd).unwrap());
        stdin.pause_reading();
        stdout.write(b"what is this");
        let reports = take_reports();
        assert!(reports[0].contains("Transport::pause_reading(): the transport has the writing end"), "{reports:?}");
        assert!(reports[1].contains("Transport::write(): the transport has the reading end"), "{reports:?}");
        assert_eq!(reports.len(), 2);
        process.close();
        run_until(el, || told.is_over());
    }

    /// SP-31: as text a process says its number and how it is.
    fn as_text(el) {
        let told = Told::new();
        let process = endless(el, &told);
        let text = format!("{process:?}");
        let begins = format!("<SubprocessTransport {} pid={} running stdin=<Transport ", process.id(), process.pid());
        assert!(text.starts_with(&begins), "{text}");
        assert!(text.contains(" stdout=<Transport ") && text.contains(" stderr=<Transport "), "{text}");
        assert_eq!(process.extra_info().process, Some(process.pid()));
        process.close();
        assert!(format!("{process:?}").contains(" closed pid="));
        run_until(el, || told.is_over());
        let text = format!("{process:?}");
        assert!(text.contains(&format!(" closed pid={} returncode=-9 ", process.pid())), "{text}");
    }

    /// FC-14: the process's own protocol is told when its input is full, and when there is room again.
    fn flow_control_of_the_input(el) {
        let told = Told::new();
        let (gate, theirs) = gate();
        let command = format!("cat {}; exec wc -c", gate.path);
        let (process, _) = complete(el, el.subprocess_shell(told.protocol(), command).pass_fds([theirs])).unwrap();
        let stdin = process.pipe_transport(0).unwrap();
        stdin.write(&[b'x'; 300_000]);
        assert!(!told.has("pause"), "told in a turn of its own");
        settle(el);
        assert_eq!(told.so_far(), ["made", "pause"]);
        drop(gate);
        run_until(el, || told.has("resume"));
        stdin.close();
        run_until(el, || told.is_over());
        assert_eq!(told.take()[2], "resume");
        assert_eq!(process.returncode(), Some(0));
    }

    /// A process that does not read what is queued for it ends with a broken pipe, which is told.
    fn a_pipe_that_breaks(el) {
        let told = Told::new();
        let (process, _) = shell(el, &told, "read line");
        process.pipe_transport(0).unwrap().write(&[b'\n'; 300_000]);
        run_until(el, || told.is_over());
        assert!(told.has("pipe lost 0 Some(BrokenPipe)"), "{:?}", told.take());
    }

    /// CX-12: all callbacks run in one context, a copy of that of whoever has started the process; what they set is for each
    /// other.
    fn callbacks_have_the_context_of_the_creation(el) {
        thread_local! {
            static NAME: ContextVar<&'static str> = const { ContextVar::new("name") };
        }
        fn name() -> Option<&'static str> {
            NAME.with(ContextVar::get)
        }
        #[derive(Default)]
        struct Look(Vec<Option<&'static str>>);
        impl SubprocessProtocol for Look {
            fn connection_made(&mut self, _: &ProcessHandle) {
                self.0.push(name());
                NAME.with(|var| drop(var.set("made")));
            }
            fn pipe_data_received(&mut self, _: &ProcessHandle, _: i32, _: &[u8]) {
                self.0.push(name());
            }
            fn pipe_connection_lost(&mut self, _: &ProcessHandle, _: i32, _: Option<std::io::Error>) {
                self.0.push(name());
            }
            fn process_exited(&mut self, _: &ProcessHandle) {
                self.0.push(name());
            }
            fn connection_lost(&mut self, _: &ProcessHandle, _: Option<std::io::Error>) {
                self.0.push(name());
            }
        }
        let handle = el.clone();
        let started = complete(el, async move {
            NAME.with(|var| drop(var.set("creator")));
            let started = handle.subprocess_exec(Look::default, "cat", NONE).await;
            NAME.with(|var| drop(var.set("later")));
            started.map(|(process, look)| {
                process.pipe_transport(0).unwrap().write(b"x");
                process.pipe_transport(0).unwrap().close();
                (process, look)
            })
        });
        let (process, look) = started.unwrap();
        run_until(el, || process.protocol().is_none());
        let mut expected = vec![Some("made"); 7];
        expected[0] = Some("creator");
        look.with(|look| assert_eq!(look.0, expected));
    }

    /// A callback that panics is reported with the process and the protocol, and everything goes on.
    fn panics_are_reported(el) {
        struct Bad(Rc<Cell<u32>>);
        impl Bad {
            fn fail(&self, what: &str) {
                self.0.set(self.0.get() + 1);
                panic!("{what} failed");
            }
        }
        impl SubprocessProtocol for Bad {
            fn connection_made(&mut self, _: &ProcessHandle) {
                self.fail("made");
            }
            fn pipe_data_received(&mut self, _: &ProcessHandle, _: i32, _: &[u8]) {
                self.fail("data");
            }
            fn pipe_connection_lost(&mut self, _: &ProcessHandle, fd: i32, _: Option<std::io::Error>) {
                if fd == 1 {
                    self.fail("pipe");
                }
            }
            fn process_exited(&mut self, _: &ProcessHandle) {
                self.fail("exit");
            }
            fn connection_lost(&mut self, _: &ProcessHandle, _: Option<std::io::Error>) {
                self.fail("lost");
            }
        }
        let count = Rc::new(Cell::new(0));
        let bad = Bad(count.clone());
        let (process, _) = complete(el, el.subprocess_exec(move || bad, "echo", ["x"])).unwrap();
        run_until(el, || process.protocol().is_none());
        assert_eq!((count.get(), process.returncode()), (5, Some(0)));
        let reports = take_reports();
        assert_eq!(reports.len(), 5);
        for (callback, what) in [
            ("connection_made", "made"),
            ("pipe_data_received", "data"),
            ("pipe_connection_lost", "pipe"),
            ("process_exited", "exit"),
            ("connection_lost", "lost"),
        ] {
            let text = format!("Exception in callback {callback}: {what} failed");
            let report = reports.iter().find(|report| report.starts_with(&text)).expect(callback);
            assert!(report.contains("<SubprocessTransport ") && report.contains("Bad>"), "{report}");
        }
    }

    /// Another protocol hears of what comes from then on, and the first one is let go of.
    fn another_protocol(el) {
        let (first, second, drops) = (Told::new(), Told::new(), DropCounter::new());
        struct Held(Recorder, #[allow(dead_code)] common::DropGuard);
        impl SubprocessProtocol for Held {
            fn connection_made(&mut self, process: &ProcessHandle) {
                self.0.connection_made(process);
            }
        }
        let (recorder, guard) = (first.protocol()(), drops.guard());
        let start = el.subprocess_exec(move || Held(recorder, guard), "cat", NONE);
        let process = complete(el, start).unwrap().0;
        assert_eq!(drops.count(), 0);
        process.set_protocol(second.protocol()());
        assert_eq!(drops.count(), 1);
        assert!(process.protocol().unwrap().downcast::<Recorder>().is_some());
        process.pipe_transport(0).unwrap().close();
        run_until(el, || second.is_over());
        assert_eq!(first.take(), ["made"]);
        assert_eq!(second.take().len(), 5);
        process.set_protocol(first.protocol()());
        assert!(process.protocol().is_none());
    }

    /// Whoever takes a pipe over hears of it, and the end of the process does not wait for it.
    fn a_pipe_that_is_taken_over(el) {
        struct Keep(Rc<RefCell<Vec<u8>>>);
        impl Protocol for Keep {
            fn data_received(&mut self, _: &Transport, data: &[u8]) {
                self.0.borrow_mut().extend_from_slice(data);
            }
        }
        let told = Told::new();
        let process = endless(el, &told);
        let kept = Rc::new(RefCell::new(Vec::new()));
        let [stdin, stdout] = [0, 1].map(|fd| process.pipe_transport(fd).unwrap());
        stdout.set_protocol(Keep(kept.clone()));
        stdin.write(b"for another one");
        stdin.close();
        run_until(el, || told.is_over());
        assert_eq!(sorted(told.take()), ["exited 0", "lost None", "made", "pipe lost 0 None", "pipe lost 2 None"]);
        run_until(el, || stdout.protocol().is_none());
        assert_eq!(*kept.borrow(), b"for another one");
    }

    /// SP-10: a start that is given up, at whichever point, leaves neither a process nor a descriptor.
    fn a_start_that_is_given_up(el) {
        for polls in 0.. {
            let told = Told::new();
            let start = poll_times(el.subprocess_exec(told.protocol(), "cat", NONE).into_future(), polls);
            if let Some(started) = complete(el, start) {
                assert!(polls > 1, "there is nothing to give up");
                started.unwrap().0.close();
                run_until(el, || told.is_over());
                break;
            }
            run_until(el, || el.stats().transports.live() == 0);
            let events = told.take();
            assert!(events.is_empty() || (events[0] == "made" && events.last().unwrap() == "lost None"), "{events:?}");
        }
    }

    /// A loop that is closed tells nobody anything any more; who waits hears that it is closed.
    fn a_loop_that_is_closed_under_it(el) {
        let (told, drops) = (Told::new(), DropCounter::new());
        struct Held(#[allow(dead_code)] Recorder, #[allow(dead_code)] common::DropGuard);
        impl SubprocessProtocol for Held {}
        let (recorder, guard) = (told.protocol()(), drops.guard());
        let start = el.subprocess_exec(move || Held(recorder, guard), "sleep", ["1000"]).kill_on_drop(true);
        let (process, protocol) = complete(el, start).unwrap();
        drop(protocol);
        let mut wait = process.wait();
        el.close();
        assert_eq!(drops.count(), 1);
        let waited = futures::FutureExt::now_or_never(&mut wait).unwrap().unwrap_err();
        assert!(waited.get_ref().unwrap().is::<roundelay::LoopClosed>(), "{waited:?}");
        assert_eq!((process.returncode(), process.is_closing()), (None, true));
        assert_eq!(process.kill().unwrap_err().kind(), ErrorKind::NotFound);
        process.close();
        process.abort();
        assert!(told.take().is_empty());
        run_until(&EventLoop::new().unwrap(), || is_reaped(process.pid()));
    }
}

/// RW-01: a process that is there when its loop is closed gives one warning, and its pipes none; one that was closed gives
/// none of that kind, nor does one whose start was given up. DB-12: that it was closed while it ran is said.
#[test]
fn an_unclosed_process() {
    for (kind, debug) in [(Kind::Epoll, true), (Kind::Polling, true), (Kind::Level, true), (Kind::Epoll, false)] {
        let ((), written) = collect(|| {
            common::run(kind, debug, |el| {
                let told = Told::new();
                complete(el, el.subprocess_exec(told.protocol(), "cat", NONE).kill_on_drop(false))
                    .unwrap()
                    .0
                    .kill()
                    .unwrap();
            });
        });
        let texts: Vec<_> = written.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts.len(), usize::from(debug), "{texts:?}");
        assert!(
            !debug || texts[0].starts_with("resource warning: unclosed transport <SubprocessTransport "),
            "{texts:?}"
        );
    }
    let ((), written) = collect(|| {
        common::run(Kind::Epoll, true, |el| {
            let (closed, given_up) = (Told::new(), Told::new());
            endless(el, &closed).close();
            let start = el.subprocess_exec(given_up.protocol(), "cat", NONE).into_future();
            assert!(complete(el, poll_times(start, 1)).is_none());
        });
    });
    let texts: Vec<_> = written.iter().map(|(_, text)| text.as_str()).collect();
    assert!(texts.len() == 1 && texts[0].starts_with("Close running child process: kill <"), "{texts:?}");
}
