//! Ends in an orderly way when it is told to: by Ctrl-C, or by SIGTERM.
//!
//! A signal interrupts a program wherever it stands, where next to nothing may be done. The loop catches it, and calls the
//! handler in one of its next turns, as any other callback: there everything may be done. Here it stops the loop, which ends
//! the run before its future is done; `close` then ends in an orderly way what there is. SIGHUP comes as a stream, to a task
//! that goes on: "read the configuration anew" is its usual meaning. When the loop is closed all three mean again what they
//! did before.
//!
//! A program that wants nothing else than to clean up after Ctrl-C has it easier: `Runner::builder().cancel_on_interrupt(..)`
//! cancels its future.
//!
//! Try it: `cargo run --example signals`, and press Ctrl-C, or `kill` it from another terminal.

use roundelay::{RunError, Runner, SignalKind};
use std::time::Duration;

async fn main_task() -> std::io::Result<()> {
    let el = roundelay::get_running_loop()?;
    for signal in [SignalKind::interrupt(), SignalKind::terminate()] {
        let handle = el.clone();
        el.add_signal_handler(signal, move || {
            println!("got signal {signal}: exit");
            handle.stop();
        })?;
    }

    let mut hangups = roundelay::signal(SignalKind::hangup())?;
    let _reloads = roundelay::spawn(async move {
        while let Some(signal) = hangups.recv().await {
            println!("got signal {signal}: go on");
        }
    });

    println!("pid {}: send SIGINT or SIGTERM to exit, SIGHUP to go on", std::process::id());
    roundelay::sleep(Duration::from_secs(3600)).await;
    Ok(())
}

fn main() -> std::io::Result<()> {
    println!("the loop runs for an hour, press Ctrl-C to stop it");
    let mut runner = Runner::new();
    let result = runner.run(main_task());
    runner.close();
    match result {
        Ok(result) => result,
        Err(RunError::Stopped) => {
            println!("the loop was stopped");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
