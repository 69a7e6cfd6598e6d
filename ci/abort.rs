//! A program of the public interface that is built with `-C panic=abort`: see abort.sh. Its argument says where it panics.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// A panic leaves no trace of these.
struct Destructor;

impl Drop for Destructor {
    fn drop(&mut self) {
        println!("destructor");
    }
}

fn main() -> io::Result<()> {
    let place = std::env::args().nth(1).unwrap_or_default();
    let el = roundelay::EventLoop::new()?;
    el.set_exception_handler(Some(Rc::new(|_, _| println!("exception handler"))));
    el.run_until_complete(work(place))??;
    el.close();
    println!("closed");
    Ok(())
}

async fn work(place: String) -> io::Result<()> {
    let el = roundelay::get_running_loop()?;

    let called = Rc::new(Cell::new(0));
    let count = called.clone();
    el.call_soon(move || count.set(count.get() + 1));
    let count = called.clone();
    let later = el.call_later(Duration::from_millis(1), move || count.set(count.get() + 1));
    let cancelled = el.call_later(Duration::from_secs(3600), || unreachable!("it was cancelled"));
    cancelled.cancel();
    while later.when() > el.time() || called.get() < 2 {
        roundelay::sleep(Duration::from_millis(1)).await;
    }

    let server = el.create_server(|| Echo, ("127.0.0.1", 0)).await?;
    let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    writer.write(b"round\n");
    assert_eq!(reader.readline().await?, b"round\n");
    server.shutdown(Duration::from_secs(1)).await;

    let task = roundelay::spawn(std::future::pending::<()>());
    task.cancel();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(roundelay::spawn_blocking(|| 6 * 7).await.unwrap(), 42);
    println!("works");

    let _destructor = Destructor;
    match place.as_str() {
        "callback" => {
            let _ = el.call_soon(|| panic!("in a callback"));
        }
        "task" => drop(roundelay::spawn(async { panic!("in a task") })),
        "thread" => drop(roundelay::spawn_blocking(|| panic!("in a thread"))),
        _ => return Ok(()),
    }
    roundelay::sleep(Duration::from_secs(10)).await;
    println!("still there");
    Ok(())
}
