//! What the loop tells `tracing` by the way: nobody need act on it, and nothing depends on who takes it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::give_up_payload;

/// Writes an event of this level to `tracing`, under this target: `note!(DEBUG, "roundelay::io", "{self:?} is lost: {error}")`.
///
/// The targets are those of the table in the crate's documentation. Where no subscriber takes the level it costs a look at a
/// number. What is printed, and the subscriber, may be the application's, and panic: then the event is lost, and nothing else.
macro_rules! note {
    ($level:ident, $target:literal, $($text:tt)+) => {
        if $crate::note::is_taken(&tracing::Level::$level) {
            $crate::note::quietly(|| tracing::event!(target: $target, tracing::Level::$level, $($text)+));
        }
    };
}

/// Whether any subscriber takes anything of that level.
#[inline]
pub(crate) fn is_taken(level: &tracing::Level) -> bool {
    use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
    *level <= STATIC_MAX_LEVEL && *level <= LevelFilter::current()
}

/// Calls a subscriber. The panic hook has told of its panic.
#[cold]
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        give_up_payload(payload);
    }
}
