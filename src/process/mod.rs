//! Child processes: starting them, hearing of their ends, and their pipes.

mod children;
mod pipe;
mod settings;
mod start;
mod stdio;
mod transport;

pub(crate) use settings::{Settings, process_settings};
pub(crate) use start::start;
pub use start::{StartSubprocess, StartingSubprocess};
pub use stdio::Stdio;
