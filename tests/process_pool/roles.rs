//! Other programs that this one plays, when it is told so by an environment variable.

use std::process::Command;

use futures::executor::block_on;
use roundelay::{ProcessPoolError, ProcessPoolExecutor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::own_process::forked;

pub const VARIABLE: &str = "ROUNDELAY_TEST_ROLE";

/// This program in another role.
pub fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VARIABLE, role);
    command
}

fn role() -> String {
    std::env::var(VARIABLE).unwrap_or_default()
}

/// What is done before any function is registered.
pub fn before_init() {
    match role().as_str() {
        // A program that does not know of workers.
        "without init" => {
            let error = ProcessPoolExecutor::new(1).unwrap_err();
            println!("{:?}: {error}", error.kind());
            std::process::exit(0);
        }
        // One that does not always come to its call.
        "sometimes" if std::env::args().any(|argument| argument == "--roundelay-worker") => std::process::exit(9),
        _ => {}
    }
}

/// What is done afterwards; false in the role of the tests.
pub fn play() -> bool {
    match role().as_str() {
        "" => return false,
        "hello" => println!("hello"),
        "sometimes" => println!("{}", pool(async |pool| pool.run::<i64>("add", (1, 2)).await.unwrap_err().to_string())),
        "print" => pool(async |pool| pool.run::<()>("print", "from a worker").await.unwrap()),
        "without file" => {
            std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
            println!("{}", pool(async |pool| pool.run::<i64>("add", (40, 2)).await.unwrap()));
        }
        "without descriptors" => without_descriptors(),
        "keeps workers" => keep_workers(),
        "leaves a job" => leave_a_job(),
        "log" => forget_an_error(),
        "forks" => fork(),
        other => panic!("there is no role {other:?}"),
    }
    true
}

fn pool<T>(body: impl AsyncFnOnce(&ProcessPoolExecutor) -> T) -> T {
    let pool = ProcessPoolExecutor::new(2).unwrap();
    roundelay::block_on(body(&pool))
}

/// No worker can be started; then one can.
fn without_descriptors() {
    pool(async |pool| {
        let before = getrlimit(Resource::Nofile);
        // None is free below this one.
        let open = std::fs::File::open("/dev/null").unwrap();
        let limit = std::os::fd::AsRawFd::as_raw_fd(&open) as u64;
        drop(open);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..before }).unwrap();
        let error = pool.run::<i64>("add", (1, 2)).await.unwrap_err();
        // Sockets for the keeper, none for its worker.
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit + 2), ..before }).unwrap();
        let later = pool.run::<i64>("add", (1, 2)).await.unwrap_err();
        setrlimit(Resource::Nofile, before).unwrap();
        for error in [error, later] {
            assert!(matches!(&error, ProcessPoolError::Start(error) if error.raw_os_error().is_some()), "{error}");
            println!("{error}");
        }
        println!("{}", pool.run::<i64>("add", (1, 2)).await.unwrap());
    });
}

/// An idle worker, and one at the gate that the test names.
fn keep_workers() {
    pool(async |pool| {
        let gate = std::env::args().next_back().unwrap();
        let waits = pool.run::<u32>("gate", (gate, 1));
        println!("{}", pool.run::<u32>("pid", ()).await.unwrap());
        waits.await.unwrap();
    });
}

/// Ends while a worker is busy.
fn leave_a_job() {
    let gate = std::env::args().next_back().unwrap();
    pool(async |pool| {
        let job = pool.run::<u32>("gate", (gate, 1));
        println!("{}", pool.run::<u32>("pid", ()).await.unwrap());
        drop(job);
    });
}

/// An error that nobody awaits, outside of any loop.
fn forget_an_error() {
    let pool = ProcessPoolExecutor::new(1).unwrap();
    drop(pool.run::<()>("die", "exit"));
    roundelay::block_on(pool.shutdown(None));
}

/// A child of `fork` with a pool of its parent's, of which it has neither the threads nor the workers.
fn fork() {
    pool(async |pool| {
        let worker = pool.run::<u32>("pid", ()).await.unwrap();
        let shared = pool.clone();
        let status = forked(move || {
            let job = shared.run::<u32>("pid", ());
            assert!(block_on(job).unwrap_err().is_closed());
            assert!(block_on(shared.shutdown(None)));
            drop(shared);
        });
        assert!(status.success(), "{status}");
        assert_eq!(pool.run::<u32>("pid", ()).await.unwrap(), worker);
        assert!(pool.shutdown(None).await);
    });
}
