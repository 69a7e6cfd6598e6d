//! What is reported, and what it should say.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use roundelay::{EventLoop, ExceptionContext};

use crate::common::{self, on_loop, run_until, settle};

pub type Seen = Rc<RefCell<Vec<(String, String)>>>;

/// Has each report's text kept, with the names of the accessors that find something.
pub fn watch(el: &EventLoop) -> Seen {
    let seen = Seen::default();
    let log = seen.clone();
    el.set_exception_handler(Some(Rc::new(move |_, context| {
        log.borrow_mut().push((about(context), context.to_string()));
    })));
    seen
}

pub fn about(context: &ExceptionContext<'_>) -> String {
    let found = [
        ("handle", context.handle().is_some()),
        ("task", context.task().is_some()),
        ("future", context.future().is_some()),
        ("protocol", context.protocol().is_some()),
        ("transport", context.transport().is_some()),
        ("datagram_protocol", context.datagram_protocol().is_some()),
        ("datagram_transport", context.datagram_transport().is_some()),
        ("subprocess_protocol", context.subprocess_protocol().is_some()),
        ("process", context.process().is_some()),
        ("server", context.server().is_some()),
        ("socket", context.socket().is_some()),
        ("asyncgen", context.asyncgen().is_some()),
    ];
    let names: Vec<&str> = found.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect();
    names.join(" ")
}

/// Whether a text is the pattern, where `*` stands for anything within a line.
pub fn fits(text: &str, pattern: &str) -> bool {
    fn line_fits(line: &str, pattern: &str) -> bool {
        match pattern.split_once('*') {
            None => line == pattern,
            Some((start, rest)) => line
                .strip_prefix(start)
                .is_some_and(|line| (0..=line.len()).any(|n| line.is_char_boundary(n) && line_fits(&line[n..], rest))),
        }
    }
    let (lines, patterns): (Vec<&str>, Vec<&str>) = (text.lines().collect(), pattern.lines().collect());
    lines.len() == patterns.len() && lines.iter().zip(patterns).all(|(line, pattern)| line_fits(line, pattern))
}

/// Something that is reported: what the report is about, its text (`*` is anything, `@` the place that `run` names), and
/// what gives rise to it.
pub struct Case {
    pub about: &'static str,
    pub text: &'static str,
    /// Gives the line of the place.
    pub run: fn(&EventLoop) -> u32,
}

/// Each case alone, on a loop of its own, gives the one report that it says.
pub fn check(file: &str, cases: &[Case]) {
    for Case { about, text, run } in cases {
        on_loop(|el| {
            let seen = watch(el);
            let line = run(el);
            if !el.is_closed() {
                run_until(el, || !seen.borrow().is_empty());
                settle(el);
            }
            let expected = text.replace('@', &format!("{file}:{line}:*"));
            let reports = seen.take();
            assert_eq!(reports.len(), 1, "{expected}: {reports:#?}");
            assert!(fits(&reports[0].1, &expected), "expected\n{expected}\nand not\n{}", reports[0].1);
            assert_eq!(reports[0].0, *about, "{expected}");
            common::watch_reports(el);
        });
    }
}

/// An error with a cause.
#[derive(Debug)]
pub struct Outer(pub io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot save")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

pub fn full() -> Outer {
    Outer(io::Error::other("the disk is full"))
}

/// Panics when it is dropped.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom")
    }
}

/// A waker that panics.
pub struct BadWaker;

impl std::task::Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        panic!("boom")
    }
}
