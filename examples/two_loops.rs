//! Two threads, each with a loop of its own, that play ping-pong.
//!
//! A loop belongs to the thread that made it. What crosses threads is its `Remote`, which is `Send`: `spawn` takes a
//! closure that is called on the other loop and gives a future there, which need not be `Send` itself. The answer
//! is a future, too, so a task of the one loop can await a task of the other. `wait` would block the thread instead, and
//! is for threads that have no loop.
//!
//! Try it: `cargo run --example two_loops`

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use roundelay::{EventLoop, Remote};

/// A thread with a loop that runs until it is told to stop.
fn loop_thread(name: &'static str) -> (Remote, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let el = EventLoop::builder().name(name).build().expect("a loop can be made");
        sender.send(el.remote()).expect("the other side waits for it");
        el.run_forever();
        el.close();
    });
    (receiver.recv().expect("the thread sends its remote first"), thread)
}

/// Hits the ball over to the other side until it has gone to and fro often enough.
async fn hit(ball: u32, other: Remote, own: Remote) -> Result<u32, roundelay::JoinError> {
    // An `Rc` on this loop: the future is not `Send`, and does not have to be.
    let hits = Rc::new(Cell::new(ball));
    roundelay::yield_now().await;
    hits.set(hits.get() + 1);
    if hits.get() == 10 {
        return Ok(hits.get());
    }
    let name = roundelay::get_running_loop().ok().and_then(|el| el.name().map(str::to_owned));
    println!("hit {} by {}", hits.get(), name.unwrap_or_default());
    let ball = hits.get();
    let (there, back) = (other.clone(), own);
    match other.spawn(move || Box::pin(hit(ball, back, there))) {
        Ok(task) => task.await?,
        Err(closed) => {
            println!("nobody is there any more: {closed}");
            Ok(ball)
        }
    }
}

fn main() {
    let (ping, ping_thread) = loop_thread("ping");
    let (pong, pong_thread) = loop_thread("pong");

    let (here, there) = (ping.clone(), pong.clone());
    let game = ping.spawn(move || hit(0, there, here)).expect("the loop is open");
    let hits = game.wait().expect("the task is not cancelled").expect("nobody panics");
    println!("{hits} hits");

    for remote in [ping, pong] {
        remote.stop().expect("the loop is open");
    }
    ping_thread.join().expect("the loop ends in order");
    pong_thread.join().expect("the loop ends in order");
}
