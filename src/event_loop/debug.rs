//! Debug mode, and the warnings it gives about what was left open.

use crate::event_loop::exception::emit;
use crate::event_loop::{Core, EventLoop};

/// Whether the environment asks for debug mode: `ROUNDELAY_DEBUG` with any value but empty and `0`.
pub(crate) fn from_environment() -> bool {
    std::env::var_os("ROUNDELAY_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

impl EventLoop {
    /// Whether debug mode is on.
    pub fn debug(&self) -> bool {
        self.core.debug.get()
    }

    /// Turns debug mode on or off, at any time. It begins as the builder or the environment variable
    /// `ROUNDELAY_DEBUG` (any value but empty and `0`) says.
    ///
    /// In debug mode the loop warns of what is closed by being dropped: loops, transports, servers.
    pub fn set_debug(&self, debug: bool) {
        self.core.debug.set(debug);
    }
}

impl Core {
    /// In debug mode, tells of something that was left open; not while the orderly end closes everything, by which tasks
    /// drop what they would have closed. In a child of `fork` it is the parent's.
    pub(crate) fn resource_warning(&self, text: std::fmt::Arguments<'_>) {
        if self.debug.get() && !self.ending.get() && !self.is_inherited() {
            emit(tracing::Level::WARN, &format!("resource warning: {text}"));
        }
    }
}
