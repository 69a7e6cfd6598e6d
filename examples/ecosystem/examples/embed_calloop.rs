//! The loop inside of calloop, the loop of Wayland's world: as one of its event sources.
//!
//! An event source is what calloop knows: something with a descriptor, which is registered, and a method that is called when
//! that is ready. Ours has a timer beside it, for our next deadline, and makes one turn whenever either of them says so. What
//! calloop's other callbacks schedule on our loop makes the descriptor readable, so nothing else is to be thought of.
//!
//! Try it: `cargo run --example embed_calloop` in examples/ecosystem

use std::io;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventSource, Interest, Mode, Poll, PostAction, Readiness, Token, TokenFactory};
use roundelay::EventLoop;

/// One of our loops as an event source. Its events are told to nobody: what there is to hear is heard by what runs on it.
pub struct Hosted {
    el: Generic<EventLoop>,
    timer: Timer,
    /// Whether calloop has called the timer since it was registered: it does so once.
    is_spent: bool,
}

/// Longer than calloop counts: a timer of it is registered for nothing.
const NEVER: Duration = Duration::MAX;

impl Hosted {
    pub fn new(el: &EventLoop) -> Self {
        let el = Generic::new(el.clone(), Interest::READ, Mode::Level);
        Self { el, timer: Timer::from_duration(NEVER), is_spent: false }
    }

    /// Sets the timer to our next deadline. It is the same timer each time, so that registering it anew takes away what was
    /// registered before.
    fn set_timer(&mut self, el: &EventLoop) -> PostAction {
        let next = el.next_deadline();
        let is_spent = std::mem::take(&mut self.is_spent);
        if next == self.timer.current_deadline() && !is_spent {
            return PostAction::Continue;
        }
        match next {
            Some(deadline) => self.timer.set_deadline(deadline),
            None => self.timer.set_duration(NEVER),
        }
        PostAction::Reregister
    }
}

impl EventSource for Hosted {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(&mut self, readiness: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut((), &mut ()),
    {
        let mut is_ours = false;
        self.el.process_events(readiness, token, |_, _| {
            is_ours = true;
            Ok(PostAction::Continue)
        })?;
        self.timer.process_events(readiness, token, |_, _| {
            is_ours = true;
            self.is_spent = true;
            // It is set anew below.
            TimeoutAction::Drop
        })?;
        if !is_ours {
            return Ok(PostAction::Continue);
        }
        let el = self.el.get_ref().clone();
        if !el.is_closed() {
            el.run_once(Some(Duration::ZERO))?;
        }
        if el.is_closed() {
            // Before its deadline came, or in this turn, in which its owner was dropped.
            return Ok(PostAction::Remove);
        }
        Ok(self.set_timer(&el))
    }

    fn register(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.el.register(poll, tokens)?;
        // What was armed before.
        let el = self.el.get_ref().clone();
        self.set_timer(&el);
        self.timer.register(poll, tokens)
    }

    fn reregister(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.el.reregister(poll, tokens)?;
        self.timer.reregister(poll, tokens)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.el.unregister(poll)?;
        self.timer.unregister(poll)
    }
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut host = calloop::EventLoop::<()>::try_new()?;
    let el = EventLoop::new()?;
    host.handle().insert_source(Hosted::new(&el), |(), &mut (), _| ()).map_err(|error| error.error)?;

    // Two tasks of ours, and a timer of calloop's that schedules on our loop.
    let signal = host.get_signal();
    el.create_task(async move {
        let (mut reader, mut writer) = echo().await?;
        writer.write(b"round trip\n");
        let line = reader.readline().await?;
        println!("ours: {}", String::from_utf8_lossy(&line).trim_end());
        roundelay::sleep(Duration::from_millis(30)).await;
        println!("ours: good-bye");
        signal.stop();
        io::Result::Ok(())
    })
    .report_errors();
    let handle = el.clone();
    let timer = Timer::from_duration(Duration::from_millis(10));
    host.handle().insert_source(timer, move |_, _, _| {
        handle.call_soon(|| println!("ours: called by calloop's timer"));
        TimeoutAction::Drop
    })?;
    host.run(None, &mut (), |_| ())?;
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
