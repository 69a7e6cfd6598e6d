//! What a turn has to look at between two items.

use std::cell::Cell;

use crate::error::PanicPayload;

/// What makes a turn do more than to run one item after the other, so that it looks at one flag for all of it.
#[derive(Default)]
pub(crate) struct Alerts {
    any: Cell<bool>,
    observed: Cell<bool>,
    /// A panic that ends the run.
    fatal: Cell<Option<PanicPayload>>,
}

impl Alerts {
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.any.get()
    }

    /// Whether somebody looks at the loop at work.
    #[inline(always)]
    pub(crate) fn is_observed(&self) -> bool {
        self.observed.get()
    }

    pub(crate) fn set_observed(&self, observed: bool) {
        self.observed.set(observed);
        self.sum_up();
    }

    /// Keeps a payload. Gives it back if there is another one.
    pub(super) fn set_fatal(&self, payload: PanicPayload) -> Option<PanicPayload> {
        let first = self.fatal.take();
        let (kept, back) = match first {
            None => (payload, None),
            Some(first) => (first, Some(payload)),
        };
        self.fatal.set(Some(kept));
        self.any.set(true);
        back
    }

    /// Whether a panic is to end the run.
    #[cfg(feature = "async-io")]
    pub(crate) fn has_fatal(&self) -> bool {
        if !self.any() {
            return false;
        }
        let fatal = self.fatal.take();
        let has_fatal = fatal.is_some();
        self.fatal.set(fatal);
        has_fatal
    }

    #[cold]
    pub(crate) fn take_fatal(&self) -> Option<PanicPayload> {
        let fatal = self.fatal.take();
        self.sum_up();
        fatal
    }

    fn sum_up(&self) {
        let fatal = self.fatal.take();
        self.any.set(self.observed.get() || fatal.is_some());
        self.fatal.set(fatal);
    }
}
