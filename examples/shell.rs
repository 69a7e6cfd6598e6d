//! A tiny job runner: reads commands from its standard input, one a line, and runs so many of them at once as it is told,
//! or as there are processors.
//!
//! What a job writes is shown line by line with the job's number; at the end of a job it is said how it has ended. Empty
//! lines and those that begin with `#` are no jobs. The first Ctrl-C kills what runs and starts nothing more; the exit status
//! is 1 if a job has failed, and 130 after a Ctrl-C.
//!
//! Try it: `printf 'sleep 1; echo slow\necho quick\nfalse\n' | cargo run --quiet --example shell -- 2`

use std::io;
use std::process::exit;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use roundelay::{RunError, Runner, Stdio, create_subprocess_shell, spawn, stdin};

/// Runs one command to its end. True if it has succeeded.
async fn run(number: usize, command: String) -> io::Result<bool> {
    let shell =
        create_subprocess_shell(&command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::to_stdout());
    // With the future the process is gone.
    let mut process = shell.limit(1024 * 1024).kill_on_drop(true).await?;
    if let Some(mut output) = process.stdout.take() {
        let mut lines = output.lines();
        while let Some(line) = lines.next().await {
            println!("[{number}] {}", String::from_utf8_lossy(&line?).trim_end_matches('\n'));
        }
    }
    let status = process.wait().await?;
    println!("[{number}] {status}: {command}");
    Ok(status.success())
}

/// Runs what comes, at most `at_once` at a time. True if all have succeeded.
async fn run_all(at_once: usize) -> io::Result<bool> {
    let mut input = stdin()?;
    let mut lines = input.lines();
    // Tasks, so that they go on while the next line is waited for; with this future they are gone.
    let mut jobs = FuturesUnordered::new();
    let (mut number, mut all_good) = (0, true);
    while let Some(line) = lines.next().await {
        let command = String::from_utf8_lossy(&line?).trim().to_owned();
        if command.is_empty() || command.starts_with('#') {
            continue;
        }
        if jobs.len() == at_once {
            all_good &= jobs.select_next_some().await??;
        }
        number += 1;
        jobs.push(spawn(run(number, command)).cancel_on_drop());
    }
    while let Some(done) = jobs.next().await {
        all_good &= done??;
    }
    Ok(all_good)
}

fn main() -> io::Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let Ok(at_once) = std::env::args().nth(1).map_or(Ok(processors), |arg| arg.parse()) else {
        eprintln!("usage: shell [HOW MANY AT ONCE]");
        exit(2);
    };
    let mut runner = Runner::builder().cancel_on_interrupt(Duration::ZERO).build();
    let result = runner.run(run_all(at_once.max(1)));
    runner.close();
    match result {
        Ok(all_good) => exit(if all_good? { 0 } else { 1 }),
        Err(RunError::Interrupted) => exit(130),
        Err(error) => Err(io::Error::other(error)),
    }
}
