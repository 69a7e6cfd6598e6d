//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "usage: roundelay-top [--once | --json] [--interval SECONDS] PATH";

pub(crate) const HELP: &str = "\
usage: roundelay-top [--once | --json] [--interval SECONDS] PATH

Shows what a loop of roundelay does whose inspector listens at PATH.

  --once               print one picture of an interval, as plain text, and leave
  --json               print one answer of the inspector, a JSON object, and leave
  --interval SECONDS   the time between two pictures (1; at least 0.05)
  --help               this

Keys: q leaves; arrows, page up and down, home and end move; b, p, a, i, n sort by busy, polls, age, number
and name, r turns that round; t shows a tree or a list; space stops and goes on; + and - change the interval.
";

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Top,
    Once,
    Json,
}

pub(crate) struct Arguments {
    pub(crate) path: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
}

impl Arguments {
    /// `None` where help is asked for.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut path, mut mode, mut interval) = (None, Mode::Top, Duration::from_secs(1));
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--once" => mode = Mode::Once,
                "--json" => mode = Mode::Json,
                "--interval" => {
                    let seconds = arguments.next().and_then(|text| text.parse::<f64>().ok());
                    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    let at_least = Duration::from_millis(50);
                    interval =
                        duration.filter(|duration| *duration >= at_least).ok_or("--interval: not so many seconds")?;
                }
                other if other.starts_with('-') => return Err(format!("unknown option {other}")),
                other if path.is_none() => path = Some(PathBuf::from(other)),
                other => return Err(format!("one path is enough: {other}")),
            }
        }
        let path = path.ok_or("the path of an inspector is missing")?;
        Ok(Some(Self { path, mode, interval }))
    }
}
