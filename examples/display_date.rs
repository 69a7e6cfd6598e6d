//! Shows the time once a second, for five seconds: with callbacks, and again with `async`.
//!
//! A callback that wants to run again schedules itself again: `call_later` takes a delay and a closure, and gives a
//! handle by which the timer could be cancelled. Whether to go on is decided by the loop's own clock, `time()`, which
//! never jumps as the clock on the wall may. The `async` half says the same with a loop and an `interval`, whose
//! ticks keep to their schedule even if one of them comes late.
//!
//! Try it: `cargo run --example display_date` (or with the number of seconds: `cargo run --example display_date -- 2`)

use roundelay::{EventLoop, interval};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECOND: Duration = Duration::from_secs(1);

/// The time of day in UTC.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn display_date(el: EventLoop, end: Instant) {
    println!("{} (from a callback)", now());
    if el.time() + SECOND < end {
        let next = el.clone();
        el.call_later(SECOND, move || display_date(next, end));
    } else {
        el.stop();
    }
}

fn with_callbacks(seconds: u32) -> std::io::Result<()> {
    let el = EventLoop::new()?;
    let (handle, end) = (el.clone(), el.time() + SECOND * seconds);
    el.call_soon(move || display_date(handle, end));
    el.run_forever();
    el.close();
    Ok(())
}

async fn with_async(seconds: u32) {
    let mut seconds_tick = interval(SECOND);
    for _ in 0..seconds {
        seconds_tick.tick().await;
        println!("{} (from a future)", now());
    }
}

fn main() -> std::io::Result<()> {
    let seconds = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 5,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            eprintln!("usage: display_date [seconds]");
            std::process::exit(2);
        }
    };
    with_callbacks(seconds)?;
    roundelay::block_on(with_async(seconds));
    Ok(())
}
