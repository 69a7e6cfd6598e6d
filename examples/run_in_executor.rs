//! Work that would block a loop, off the loop: in the default pool of threads, in a pool of one's own, and in a pool of
//! processes.
//!
//!     cargo run --example run_in_executor --features process-pool

use std::fs::File;
use std::io::{self, Read};

use roundelay::{ProcessPoolExecutor, ThreadPoolExecutor};

/// File operations (such as reading a device) can block the event loop: run them in a pool of threads.
fn blocking_io() -> io::Result<usize> {
    let mut random = [0; 100];
    File::open("/dev/urandom")?.read(&mut random)
}

/// What keeps the processor busy blocks the event loop as well. Threads do here what they cannot in Python; a process has
/// its own memory besides, and may crash.
fn cpu_bound(limit: u64) -> u64 {
    (0..limit).map(|number| number * number).fold(0, u64::wrapping_add)
}

fn main() -> io::Result<()> {
    // First of all: worker processes get no further.
    ProcessPoolExecutor::functions().add("cpu_bound", cpu_bound).init();

    roundelay::block_on(async {
        let el = roundelay::get_running_loop()?;

        let read = el.run_in_executor(None, blocking_io).await??;
        println!("default thread pool: {read} bytes");

        let threads = ThreadPoolExecutor::builder().max_threads(2).name_prefix("example").build();
        let read = el.run_in_executor(Some(&threads), blocking_io).await??;
        println!("custom thread pool: {read} bytes");

        let processes = ProcessPoolExecutor::new(2)?;
        let jobs = [1_000_u64, 1_000_000].map(|limit| processes.run::<u64>("cpu_bound", limit));
        for job in jobs {
            println!("process pool: {}", job.await?);
        }
        processes.shutdown(None).await;
        Ok(())
    })
}
