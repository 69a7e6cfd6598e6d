//! The functions that workers may run, and what a worker does.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{give_up_payload, panic_text};
use crate::executor::process_pool::wire::{self, Answer, GREETING, Outcome, Request};
use crate::os::worker::{self, Role};

/// Those of this process.
static FUNCTIONS: OnceLock<ProcessFunctions> = OnceLock::new();

type Function = Box<dyn Fn(&str, &[u8]) -> Answer + Send + Sync>;

/// Which functions the worker processes of [`ProcessPoolExecutor`](crate::ProcessPoolExecutor)s may run, by name: see
/// [`ProcessPoolExecutor::functions`](crate::ProcessPoolExecutor::functions).
///
/// ```
/// use roundelay::ProcessPoolExecutor;
///
/// fn count_words(text: String) -> usize {
///     text.split_whitespace().count()
/// }
///
/// fn main() {
///     ProcessPoolExecutor::functions()
///         .add("count words", count_words)
///         .add("add", |(a, b): (i64, i64)| a + b)
///         .init();
///     // Only the program itself gets here.
/// }
/// ```
#[derive(Default)]
#[must_use = "functions are registered by init()"]
pub struct ProcessFunctions {
    functions: HashMap<String, Function>,
}

impl ProcessFunctions {
    /// Adds a function: of one argument, which may be a tuple or a struct, or `()`. What it takes and gives goes through
    /// [serde]; where that is a `Result`, so it is what [`run`](crate::ProcessPoolExecutor::run) gives.
    ///
    /// [serde]: https://serde.rs
    ///
    /// # Panics
    ///
    /// If there is one by that name.
    #[track_caller]
    pub fn add<A, R>(mut self, name: impl Into<String>, function: impl Fn(A) -> R + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let name = name.into();
        assert!(!self.functions.contains_key(&name), "ProcessFunctions::add(): {name:?} was added before");
        let call = move |name: &str, arguments: &[u8]| match wire::from_bytes(arguments) {
            Err(error) => Answer::new(Outcome::BadArguments, format!("{name:?}: {error}")),
            Ok(arguments) => match wire::to_bytes(&function(arguments)) {
                Err(error) => Answer::new(Outcome::BadOutput, format!("{name:?}: {error}")),
                Ok(bytes) => Answer::new(Outcome::Done, bytes),
            },
        };
        self.functions.insert(name, Box::new(call));
        self
    }

    /// Registers the functions; in a worker process it serves the pool that has started it and never returns.
    ///
    /// So it belongs at the top of `main`, before anything that a worker should not do, as to look at the program's
    /// arguments or to start threads: a worker process starts as the program itself does.
    ///
    /// # Panics
    ///
    /// If it was called before.
    #[track_caller]
    pub fn init(self) {
        // In a worker, too: its functions may have pools of their own.
        if FUNCTIONS.set(self).is_err() {
            panic!("ProcessFunctions::init(): it was called before");
        }
        match worker::role() {
            Role::Program => {}
            Role::Worker(mut stream) => {
                worker::set_signals();
                // Nobody is left to be told of an error: it is the connection's.
                let served = serve(&mut stream);
                process::exit(i32::from(served.is_err()));
            }
            Role::Stray(reason) => {
                let _ = writeln!(io::stderr(), "roundelay: started as a worker process that is none: {reason}");
                process::exit(1);
            }
        }
    }
}

impl fmt::Debug for ProcessFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.functions.keys().collect();
        names.sort();
        f.debug_tuple("ProcessFunctions").field(&names).finish()
    }
}

/// Whether functions were registered.
pub(super) fn are_registered() -> bool {
    FUNCTIONS.get().is_some()
}

/// Whether there is a function by this name.
pub(super) fn contains(name: &str) -> bool {
    FUNCTIONS.get().is_some_and(|registered| registered.functions.contains_key(name))
}

/// A worker's work, until its parent is gone or has enough of it.
fn serve(stream: &mut (impl io::Read + io::Write)) -> io::Result<()> {
    stream.write_all(&GREETING)?;
    while let Some(request) = Request::read(stream)? {
        call(&request).write(stream)?;
    }
    Ok(())
}

fn call(request: &Request) -> Answer {
    let name = &request.name;
    let Some(function) = FUNCTIONS.get().and_then(|registered| registered.functions.get(name)) else {
        return Answer::new(Outcome::Unknown, name.as_str());
    };
    catch_unwind(AssertUnwindSafe(|| function(name, &request.arguments))).unwrap_or_else(|payload| {
        let answer = Answer::new(Outcome::Panicked, panic_text(&*payload));
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            give_up_payload(second);
        }
        answer
    })
}
