//! Callbacks for signals: `add_signal_handler` and its counterpart.

use std::io;
use std::panic::Location;

use crate::event_loop::{EventLoop, watch};
use crate::signal::SignalKind;
use crate::signal::service::Desk;

impl EventLoop {
    /// Calls `callback` in the loop, as any other callback, for each signal of this kind that the process gets: once for
    /// each time that the system delivers it, in the current [`Context`](crate::Context), in the order in which signals of
    /// all kinds came.
    ///
    /// The system merges signals of one kind that it has not delivered yet. What it has delivered is not merged any
    /// further; only where tens of thousands come before the loop gets to look, those that are too many come last, by
    /// number.
    ///
    /// A handler that the loop has for the signal already is replaced: it is not called any more, and what has come and is
    /// still queued is the new one's. Several loops, on whatever threads, may have one each; [`signal`](Self::signal)
    /// streams hear of it, too. A handler that was there before, and is none of roundelay's, is not called as long as any
    /// loop listens; it comes back after that, as the default disposition does. If another library has set a handler of
    /// its own meanwhile, that one stays.
    ///
    /// System calls that the signal interrupts are restarted. Child processes do not inherit the handler. The loop waits
    /// for signals as it waits for descriptors, but no run of it waits for them to come; closing the loop removes them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no signal, for SIGKILL and SIGSTOP, which cannot be caught, and for SIGSEGV, SIGBUS, SIGFPE
    /// and SIGILL, which tell of a failure that a callback would come too late for; [`LoopClosed`](crate::LoopClosed), as an
    /// `io::Error`; else the operating system's, most often for want of descriptors. The handler before stays.
    ///
    /// ```
    /// use roundelay::{EventLoop, SignalKind};
    ///
    /// let el = EventLoop::new()?;
    /// let handle = el.clone();
    /// el.add_signal_handler(SignalKind::terminate(), move || handle.stop())?;
    /// // .. el.run_forever() until SIGTERM comes ..
    /// assert!(el.remove_signal_handler(SignalKind::terminate()));
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn add_signal_handler(
        &self,
        signal: impl Into<SignalKind>,
        callback: impl FnMut() + 'static,
    ) -> io::Result<()> {
        let desk = Desk::of(self)?;
        let callback = watch::repeated(&self.core, Location::caller(), callback);
        desk.set_handler(self, "EventLoop::add_signal_handler", signal.into(), callback)
    }

    /// Removes the handler for a signal: true if there was one. It is not called any more, not even if it is queued. What
    /// was there before the first handler of any loop comes back when the last one is gone.
    ///
    /// On a closed loop there is none.
    pub fn remove_signal_handler(&self, signal: impl Into<SignalKind>) -> bool {
        Desk::of(self).is_ok_and(|desk| desk.remove_handler(signal.into()))
    }
}
