//! A look into a running program by a signal: `dump_on_signal`.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::exception::emit;
use crate::event_loop::inspection::Inspected;
use crate::signal::SignalKind;

impl EventLoop {
    /// Writes a [dump of all tasks](Self::dump_tasks) to stderr whenever this signal comes: `kill -USR1` tells what a
    /// program is waiting for.
    ///
    /// It is the loop's [handler](Self::add_signal_handler) for the signal: it replaces another one,
    /// [`remove_signal_handler`](Self::remove_signal_handler) ends it, and closing the loop does. Unless the loop is
    /// [inspected](Self::set_inspection) already, it is for the moment of the dump, for which all tasks are polled once
    /// more: a task that waits could not say otherwise what it waits for. What has woken it before is then not known, nor
    /// how busy it was.
    ///
    /// The loop itself writes it, and waits until it is written. One that is stuck inside of a callback or a task that does
    /// not give way cannot answer before it comes out of it: that is what a debugger is for, and debug mode's report on
    /// slow callbacks.
    ///
    /// # Errors
    ///
    /// As [`add_signal_handler`](Self::add_signal_handler).
    ///
    /// ```
    /// use roundelay::{EventLoop, SignalKind};
    ///
    /// let el = EventLoop::new()?;
    /// el.dump_on_signal(SignalKind::user_defined1())?;
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn dump_on_signal(&self, signal: impl Into<SignalKind>) -> io::Result<()> {
        self.dump_on_signal_to(signal, io::stderr())
    }

    /// As [`dump_on_signal`](Self::dump_on_signal), to a writer of your own, which is flushed after each dump. An error
    /// that it gives is logged, a panic is reported, and the next signal tries again.
    ///
    /// # Errors
    ///
    /// As [`dump_on_signal`](Self::dump_on_signal).
    #[track_caller]
    pub fn dump_on_signal_to(&self, signal: impl Into<SignalKind>, writer: impl Write + 'static) -> io::Result<()> {
        let signal = signal.into();
        let weak = Rc::downgrade(&self.core);
        let writer = Rc::new(Cell::new(Some(writer)));
        self.add_signal_handler(signal, move || {
            let Some(core) = weak.upgrade() else { return };
            let el = EventLoop::handle(core);
            if el.inspection() {
                return write(&el, signal, &writer);
            }
            // What the tasks have to say they say when they are polled, before this comes to its turn again.
            let inspected = Inspected::new(&el.core);
            let writer = writer.clone();
            let handle = el.clone();
            drop(el.call_soon(move || {
                write(&handle, signal, &writer);
                drop(inspected);
            }));
        })
    }
}

/// Writes a dump at once, so that nothing else comes in between.
fn write<W: Write>(el: &EventLoop, signal: SignalKind, writer: &Cell<Option<W>>) {
    let text = format!("{}\n", el.dump_tasks());
    // Another one has it where a writer runs the loop, which cannot be.
    let Some(mut taken) = writer.take() else { return };
    let written = catch_unwind(AssertUnwindSafe(|| taken.write_all(text.as_bytes()).and_then(|()| taken.flush())));
    writer.set(Some(taken));
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            emit(tracing::Level::WARN, &format!("the dump of tasks for {signal:?} was not written: {error}"));
        }
        // It is the loop's to report.
        Err(payload) => resume_unwind(payload),
    }
}
