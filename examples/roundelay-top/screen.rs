//! The terminal, which is put right again however the program ends.

use std::io;

use ratatui::{DefaultTerminal, Frame};

use crate::view;

/// The terminal while it is ours. A panic puts it right before it is reported.
pub(crate) struct Screen(DefaultTerminal);

impl Screen {
    pub(crate) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self).map_err(|error| {
            io::Error::new(error.kind(), format!("this is no terminal ({error}): --once and --json need none"))
        })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }

    /// How many tasks are shown at a time.
    pub(crate) fn page(&self) -> usize {
        let height = self.0.size().map_or(0, |size| size.height);
        height.saturating_sub(view::HEADER + 2).max(1).into()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
