//! A server that stalls, and the timeline in which one sees why.
//!
//! Four guests ask a server for pages, a task counts the ticks of a clock, and a thread posts what a sensor measures. All
//! would be well, were it not for one page: `report` is made by code that blocks, for a seventh of a second, in which
//! nobody else is served, the clock does not tick, and what the sensor has posted waits.
//!
//! The timeline shows it: one long slice on the loop's track, with the name of the task and the place where it was
//! spawned; behind it a burst of everything that had to wait; marks at the timers that were late; arrows from the sensor's
//! thread that are long. The guide's chapter on stalls goes through it.
//!
//! Try it: `cargo run --example timeline`, and open the file that it names at <https://ui.perfetto.dev>
//! (usage: `timeline [PATH]`).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use roundelay::{
    EventLoop, MissedTicks, Remote, StreamReader, StreamWriter, TaskGroup, block_on, get_running_loop, interval,
    open_connection, sleep, spawn_blocking, start_server,
};

/// How often the sensor measures.
const MEASURED: u32 = 40;

/// What most of the guests ask for.
const PAGES: &[&str] = &["home", "news", "home", "news", "home", "news", "home", "news", "home", "news"];

/// Who asks for what.
const GUESTS: [(&str, &[&str]); 4] = [
    ("ann", PAGES),
    ("bob", PAGES),
    ("cid", PAGES),
    ("eve", &["home", "news", "home", "news", "report", "home", "news"]),
];

/// Makes a page. One of them is made in the wrong way.
async fn page(name: &str) -> String {
    match name {
        // This is the stall: it blocks the loop's thread. `spawn_blocking(render).await` would not.
        "report" => render(),
        _ => {
            // A database that takes its time, during which others are served.
            sleep(Duration::from_millis(2)).await;
            format!("the page {name}")
        }
    }
}

/// Stands for work that takes long, such as to compress something, or to read a slow disk.
fn render() -> String {
    thread::sleep(Duration::from_millis(140));
    "the report".to_owned()
}

/// Serves one connection: a line with the name of who asks, and then one for each page.
async fn serve(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let guest = reader.readline().await?;
    if let Some(task) = get_running_loop()?.current_task() {
        task.set_name(format!("serve {}", String::from_utf8_lossy(&guest).trim()));
    }
    loop {
        let line = reader.readline().await?;
        if line.is_empty() {
            writer.close();
            return Ok(());
        }
        let name = String::from_utf8_lossy(&line);
        writer.write(format!("{}\n", page(name.trim()).await).as_bytes());
        writer.drain().await?;
    }
}

/// Asks for pages, one after the other.
async fn visit(server: SocketAddr, name: &'static str, pages: &'static [&'static str]) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(server).await?;
    writer.write(format!("{name}\n").as_bytes());
    for page in pages {
        writer.write(format!("{page}\n").as_bytes());
        reader.readline().await?;
        sleep(Duration::from_millis(15)).await;
    }
    writer.close();
    Ok(())
}

/// Counts ticks, for ever.
async fn tick(ticks: Rc<Cell<u32>>) {
    let mut clock = interval(Duration::from_millis(20)).missed_ticks(MissedTicks::Skip);
    loop {
        clock.tick().await;
        ticks.set(ticks.get() + 1);
    }
}

/// A callback that comes too late.
fn remind() {}

/// A thread that tells the loop what it has measured.
fn measure(remote: &Remote) {
    for _ in 0..MEASURED {
        thread::sleep(Duration::from_millis(10));
        if remote.post(|| ()).is_err() {
            return;
        }
    }
}

async fn run(el: &EventLoop) -> io::Result<u32> {
    let server = start_server(serve, ("127.0.0.1", 0)).await?;
    let address = server.local_addrs()[0];
    let remote = el.remote();
    let sensor = thread::Builder::new().name("sensor".into()).spawn(move || measure(&remote))?;
    let ticks = Rc::new(Cell::new(0));
    let ticker = el.task_builder().name("ticker").spawn(tick(ticks.clone())).cancel_on_drop();
    el.call_later(Duration::from_millis(150), remind);

    TaskGroup::scope(async |group| {
        for (name, pages) in GUESTS {
            group.task_builder().name(name).spawn(visit(address, name, pages));
        }
    })
    .await?;
    drop(ticker);
    server.shutdown(Duration::from_secs(1)).await;
    // To join it here would be a stall as well.
    spawn_blocking(move || sensor.join()).await?.expect("the sensor does not panic");
    Ok(ticks.get())
}

fn main() -> io::Result<()> {
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => {
            std::fs::create_dir_all("target")?;
            PathBuf::from("target/timeline.json")
        }
    };
    block_on(async {
        let el = get_running_loop()?;
        let trace = el.trace_to(&path)?;
        let ticks = run(&el).await?;
        let summary = trace.finish()?;
        println!("{ticks} ticks; {} events in {}: open it at https://ui.perfetto.dev", summary.events, path.display());
        Ok(())
    })
}
