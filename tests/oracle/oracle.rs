//! Runs a scenario on both sides and compares.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};

use roundelay::{EventLoop, ManualClock};

#[cfg(feature = "__tls")]
use crate::certificates::{Files, authority, localhost};
use crate::common::{Kind, Log, PATIENCE, alone, run_on};
use crate::support::close_kept;

const INTERPRETER: &str = "ROUNDELAY_ORACLE_PYTHON";
const REPEAT: &str = "ROUNDELAY_ORACLE_REPEAT";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/scenarios.py");
const DIFFERENCES: &str = include_str!("differences.md");

/// What the traces are compared with.
enum Reference {
    /// Traces, or reasons for skipping, by the names of scenarios.
    Traces(HashMap<String, Result<Vec<String>, String>>),
    /// There is no interpreter.
    Missing,
}

/// Tells of a skip also where the test harness captures what a test writes.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "oracle: {text}");
}

/// Whether the tests are run by nextest.
fn a_process_for_each_test() -> bool {
    std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test")
}

fn repeat() -> String {
    std::env::var(REPEAT).unwrap_or_else(|_| "1".into())
}

/// The scenarios on asyncio: all of them at once, as starting the interpreter takes longer than running them; but one
/// alone where each test has a process of its own.
fn reference(name: &str) -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let _alone = alone();
        let chosen = std::env::var(INTERPRETER);
        let interpreter = chosen.clone().unwrap_or_else(|_| "python3".into());
        let check = "import sys; sys.exit(sys.version_info < (3, 11))";
        let checked = Command::new(&interpreter).args(["-c", check]).stderr(Stdio::null()).status();
        if !checked.is_ok_and(|status| status.success()) {
            assert!(chosen.is_err(), "{INTERPRETER}: {interpreter} is no Python of 3.11 or newer");
            tell("skipped: there is no python3 of 3.11 or newer");
            return Reference::Missing;
        }
        let one = a_process_for_each_test().then_some(name);
        let mut command = Command::new(&interpreter);
        command.args(["-B", "-E", SCRIPT, "--repeat", &repeat()]);
        #[cfg(feature = "__tls")]
        let files = Files::new(authority(), localhost());
        #[cfg(feature = "__tls")]
        command.arg("--certificates").arg(files.folder.path());
        command.args(one);
        let output = command.output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?} has failed ({}):\n{stderr}\n{stdout}", output.status);
        Reference::Traces(parse(&stdout))
    })
}

fn parse(output: &str) -> HashMap<String, Result<Vec<String>, String>> {
    let mut traces = HashMap::new();
    for part in output.split("== ").skip(1) {
        let mut lines = part.lines().map(str::to_owned);
        let name = lines.next().unwrap();
        let trace: Vec<String> = lines.collect();
        let skipped = trace.first().and_then(|line| line.strip_prefix("!! skipped: ")).map(str::to_owned);
        traces.insert(name, skipped.map_or(Ok(trace), Err));
    }
    traces
}

/// asyncio's trace; `None` where there is no asyncio, or none that is new enough.
fn expected(name: &str) -> Option<&'static [String]> {
    let Reference::Traces(traces) = reference(name) else { return None };
    match traces.get(name) {
        Some(Ok(trace)) => Some(trace),
        Some(Err(reason)) => {
            tell(&format!("{name} is skipped: {reason}"));
            None
        }
        None => panic!("scenarios.py has no scenario {name}"),
    }
}

/// A scenario's traces here: on each selector, as often as asked for.
fn traces(scenario: &dyn Fn(&EventLoop, &Log, &ManualClock)) -> Vec<(String, Vec<String>)> {
    let mut traces = Vec::new();
    for round in 0..repeat().parse().unwrap() {
        for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
            let clock = ManualClock::new();
            let given = clock.clone();
            let log = Log::new();
            run_on(
                || kind.builder().event_interval(1).clock(given),
                |el| {
                    watched(el, || scenario(el, &log, &clock));
                    if !el.is_closed() {
                        el.close();
                    }
                    close_kept();
                },
            );
            traces.push((format!("{kind:?}, round {round}"), log.take()));
        }
    }
    traces
}

/// Stops the loop where a scenario hangs, so that the test fails.
fn watched(el: &EventLoop, scenario: impl FnOnce()) {
    let remote = el.remote();
    let (done, wait) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tell("a scenario hangs: its loop is stopped");
            let _ = remote.stop();
        }
    });
    scenario();
    drop(done);
    watchdog.join().unwrap();
}

/// Two traces beside each other, differing lines marked.
fn side_by_side(left: &[String], right: &[String]) -> String {
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0).max(12);
    let mut text = format!("   {:width$} | here\n", "asyncio");
    for number in 0..left.len().max(right.len()) {
        let line = |side: &[String]| side.get(number).cloned();
        let mark = if line(left) == line(right) { ' ' } else { '>' };
        let (left, right) = (line(left).unwrap_or_default(), line(right).unwrap_or_default());
        text.push_str(&format!(" {mark} {left:width$} | {right}\n"));
    }
    text
}

/// The scenario must leave the same trace here as on asyncio.
#[track_caller]
pub fn same(name: &str, scenario: impl Fn(&EventLoop, &Log)) {
    timed(name, |el, log, _| scenario(el, log));
}

/// As `same`, for a scenario that advances the clock.
#[track_caller]
pub fn timed(name: &str, scenario: impl Fn(&EventLoop, &Log, &ManualClock)) {
    let asyncio = expected(name);
    for (how, trace) in traces(&scenario) {
        let Some(asyncio) = asyncio else { continue };
        assert!(trace == asyncio, "{name} ({how}) differs from asyncio:\n{}", side_by_side(asyncio, &trace));
    }
}

/// The scenario must leave the given trace here, and another one on asyncio; `differences.md` says why. A `*` at the end
/// of a line stands for anything, such as a size that depends on the kernel.
#[track_caller]
pub fn differs(name: &str, difference: &str, here: &[&str], scenario: impl Fn(&EventLoop, &Log, &ManualClock)) {
    assert!(listed().contains(&difference), "differences.md does not list {difference}");
    let fits = |trace: &[String]| {
        let fits_line = |(line, wanted): (&String, &&str)| match wanted.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == wanted,
        };
        trace.len() == here.len() && trace.iter().zip(here).all(fits_line)
    };
    let asyncio = expected(name);
    for (how, trace) in traces(&scenario) {
        // Without edges the selector tells of what was missed, as asyncio's does.
        let as_asyncio = how.starts_with("Level") && asyncio.is_none_or(|asyncio| asyncio == trace);
        let shown = side_by_side(asyncio.unwrap_or_default(), &trace);
        assert!(fits(&trace) || as_asyncio, "{name} ({how}) is not as it should be; expected {here:#?}:\n{shown}");
    }
    let differs = asyncio.is_none_or(|asyncio| !fits(asyncio));
    assert!(differs, "{name} does not differ any more: take {difference} off the list");
}

/// The names of the listed differences.
fn listed() -> Vec<&'static str> {
    DIFFERENCES.lines().filter_map(|line| line.strip_prefix("## ")).collect()
}

/// The first two arguments of each call of a function in the sources of the scenarios, where they are texts.
fn calls(function: &str) -> Vec<(String, String)> {
    let sources = [
        include_str!("combining.rs"),
        include_str!("datagrams.rs"),
        include_str!("debugging.rs"),
        include_str!("descriptors.rs"),
        include_str!("eager.rs"),
        include_str!("endings.rs"),
        include_str!("executors.rs"),
        include_str!("flow.rs"),
        include_str!("futures.rs"),
        include_str!("generators.rs"),
        include_str!("graceful.rs"),
        include_str!("groups.rs"),
        include_str!("order.rs"),
        include_str!("pipes.rs"),
        include_str!("protocols.rs"),
        include_str!("reading.rs"),
        include_str!("runs.rs"),
        include_str!("sendfile.rs"),
        include_str!("servers.rs"),
        include_str!("signal_handlers.rs"),
        include_str!("signals.rs"),
        include_str!("sockets.rs"),
        include_str!("streams.rs"),
        include_str!("subprocesses.rs"),
        include_str!("tasks.rs"),
        include_str!("timers.rs"),
        include_str!("tls.rs"),
        include_str!("tls_ends.rs"),
        include_str!("tls_flow.rs"),
        include_str!("tls_start.rs"),
        include_str!("tls_streams.rs"),
        include_str!("unix.rs"),
    ];
    let mut calls = Vec::new();
    for source in sources {
        let source: String = source.chars().filter(|c| !c.is_whitespace()).collect();
        for call in source.split(&format!("{function}(\"")).skip(1) {
            let mut texts = call.split('"');
            calls.push((texts.next().unwrap().into(), texts.nth(1).unwrap_or_default().into()));
        }
    }
    calls
}

/// Each scenario of `scenarios.py` stands here, too, once.
#[test]
fn every_scenario_is_compared() {
    let Reference::Traces(traces) = reference("call_soon_in_order") else { return };
    let mut here: Vec<String> = ["same", "timed", "connected", "eager", "ending", "differs"]
        .iter()
        .flat_map(|function| calls(function))
        .map(|(name, _)| name)
        .collect();
    here.sort();
    let count = here.len();
    here.dedup();
    assert_eq!(here.len(), count, "a scenario is compared twice");
    assert!(count >= 30);
    if !a_process_for_each_test() {
        let mut there: Vec<&String> = traces.keys().collect();
        there.sort();
        assert_eq!(here.iter().collect::<Vec<_>>(), there);
    }
}

/// A difference that is listed with its scenarios has them, and no other.
#[test]
fn the_list_names_the_scenarios_that_differ() {
    let mut shown: Vec<(String, String)> = calls("differs").into_iter().map(|(name, why)| (why, name)).collect();
    shown.sort();
    let mut named = Vec::new();
    let mut difference = "";
    for line in DIFFERENCES.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            difference = title;
        } else if let Some(names) = line.strip_prefix("Scenarios: ") {
            named.extend(names.split(", ").map(|name| (difference.to_owned(), name.trim_matches('`').to_owned())));
        }
    }
    named.sort();
    assert_eq!(named, shown);
}

/// The README has an entry for each difference, in this order, and no other.
#[test]
fn the_readme_has_the_same_list() {
    let readme = include_str!("../../README.md");
    let linked = readme.split("(tests/oracle/differences.md#").skip(1).map(|rest| rest.split(')').next().unwrap());
    assert_eq!(linked.collect::<Vec<_>>(), listed());
}
