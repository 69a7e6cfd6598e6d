//! Worker processes: `ProcessPoolExecutor` (feature `process-pool`).
//!
//! The workers are this program. So it has a `main` of its own, which registers the functions that they run before it runs
//! the tests; with an environment variable it plays another program instead (`roles.rs`).

#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod ending;
mod errors;
mod functions;
mod jobs;
#[path = "../common/own_process.rs"]
mod own_process;
mod processes;
#[path = "../common/program.rs"]
mod program;
mod roles;
#[path = "../common/signals.rs"]
mod signals;
mod support;
#[path = "../common/threads.rs"]
mod threads;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test by its name.
pub type Test = (&'static str, fn());

/// Names the tests of a module, as `tests!(one, other)`.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

/// What `cargo test` says after the `--`, as far as it matters here.
#[derive(Default)]
struct Arguments {
    filters: Vec<String>,
    skipped: Vec<String>,
    is_exact: bool,
    lists: bool,
}

impl Arguments {
    fn new(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => parsed.is_exact = true,
                "--list" => parsed.lists = true,
                "--skip" => parsed.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => {
                    arguments.next();
                }
                _ => match argument.strip_prefix("--skip=") {
                    Some(skipped) => parsed.skipped.push(skipped.to_owned()),
                    None if argument.starts_with('-') => {}
                    None => parsed.filters.push(argument),
                },
            }
        }
        parsed
    }

    fn wants(&self, name: &str) -> bool {
        let is = |filter: &String| if self.is_exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(is)) && !self.skipped.iter().any(is)
    }
}

fn main() -> ExitCode {
    roles::before_init();
    functions::register();
    if roles::play() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::new(std::env::args().skip(1));
    let tests = [jobs::TESTS, errors::TESTS, processes::TESTS, ending::TESTS].concat();
    let shown = |name: &'static str| name.trim_start_matches("process_pool::");
    let (chosen, left): (Vec<_>, Vec<_>) = tests.into_iter().partition(|(name, _)| arguments.wants(shown(name)));
    if arguments.lists {
        chosen.iter().for_each(|(name, _)| println!("{}: test", shown(name)));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let passed = catch_unwind(test).is_ok();
        println!("test {} ... {}", shown(name), if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(shown(name));
        }
    }
    let (passed, out) = (chosen.len() - failed.len(), left.len());
    failed.iter().for_each(|name| println!("failed: {name}"));
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {} failed; 0 ignored; 0 measured; {out} filtered out\n",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
