//! The loop inside of GLib's main loop, which is that of GTK and GNOME: without a thread, and without `unsafe`.
//!
//! GLib watches our descriptor by `unix_fd_add_local` and our next deadline by a timeout; when either of them calls, our loop
//! makes one turn, and the timeout is set anew. What GLib's own callbacks schedule on our loop makes the descriptor readable.
//!
//! Try it: `cargo run --features glib --example embed_glib` in examples/ecosystem

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use glib::{ControlFlow, IOCondition, SourceId};
use roundelay::EventLoop;

/// One of our loops as two sources of the default main context. Dropping it takes them away.
pub struct Hosted(Rc<Inner>);

struct Inner {
    el: EventLoop,
    watch: RefCell<Option<SourceId>>,
    timeout: RefCell<Option<SourceId>>,
}

impl Hosted {
    /// On the thread of the default main context.
    pub fn new(el: &EventLoop) -> Self {
        // The handle keeps the descriptor open for as long as GLib watches it.
        let inner = Rc::new(Inner { el: el.clone(), watch: RefCell::default(), timeout: RefCell::default() });
        let this = Rc::downgrade(&inner);
        let watch = glib::source::unix_fd_add_local(el.as_raw_fd(), IOCondition::IN, move |_, _| {
            if this.upgrade().is_some_and(|this| this.turn()) {
                return ControlFlow::Continue;
            }
            // It is gone by this answer.
            this.upgrade().and_then(|this| this.watch.take());
            ControlFlow::Break
        });
        inner.watch.replace(Some(watch));
        inner.set_timeout();
        Self(inner)
    }
}

impl Inner {
    /// False once the loop is closed, in this turn or before.
    fn turn(self: &Rc<Self>) -> bool {
        if self.el.is_closed() {
            return false;
        }
        if let Err(error) = self.el.run_once(Some(Duration::ZERO)) {
            eprintln!("the event loop's selector failed: {error}");
        }
        self.set_timeout();
        !self.el.is_closed()
    }

    fn set_timeout(self: &Rc<Self>) {
        if let Some(before) = self.timeout.take() {
            before.remove();
        }
        let Some(time) = self.el.next_timeout() else { return };
        // GLib counts in milliseconds, and rounds down.
        let time = Duration::from_millis(u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
        let this = Rc::downgrade(self);
        let timeout = glib::source::timeout_add_local_once(time, move || {
            if let Some(this) = this.upgrade() {
                // It is gone by being called.
                this.timeout.replace(None);
                this.turn();
            }
        });
        self.timeout.replace(Some(timeout));
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        for source in self.0.watch.take().into_iter().chain(self.0.timeout.take()) {
            source.remove();
        }
    }
}

pub fn main() -> io::Result<()> {
    let el = EventLoop::new()?;
    let host = glib::MainLoop::new(None, false);
    let hosted = Hosted::new(&el);

    // A task of ours, and a timeout of GLib's that schedules on our loop.
    let quit = host.clone();
    el.create_task(async move {
        let (mut reader, mut writer) = echo().await?;
        writer.write(b"round trip\n");
        let line = reader.readline().await?;
        println!("ours: {}", String::from_utf8_lossy(&line).trim_end());
        roundelay::sleep(Duration::from_millis(30)).await;
        println!("ours: good-bye");
        quit.quit();
        io::Result::Ok(())
    })
    .report_errors();
    let handle = el.clone();
    glib::source::timeout_add_local_once(Duration::from_millis(10), move || {
        handle.call_soon(|| println!("ours: called by GLib's timeout"));
    });
    host.run();
    drop(hosted);
    el.close();
    Ok(())
}

/// A connection to a server that echoes.
async fn echo() -> io::Result<(roundelay::StreamReader, roundelay::StreamWriter)> {
    let serve = async |mut reader: roundelay::StreamReader, mut writer: roundelay::StreamWriter| {
        let line = reader.readline().await.unwrap_or_default();
        writer.write(&line);
    };
    let server = roundelay::start_server(serve, ("127.0.0.1", 0)).await?;
    roundelay::open_connection(server.local_addrs()[0]).await
}
