//! What is asked, and what is answered.

use socket2::Socket;

use crate::constants::{INSPECTOR_CLIENTS, INSPECTOR_LINE};
use crate::event_loop::dump::TaskDump;
use crate::event_loop::json::{Json, Shown};
use crate::event_loop::{EventLoop, program_name};
use crate::os::socket::send;

/// The number of what answers look like.
const FORMAT: u32 = 1;

/// What a line asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Metrics,
    Tasks,
    All,
}

/// Why there is no other answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The line means nothing.
    Unknown(String),
    TooLong,
    /// There are enough clients.
    Full,
    /// It is another user.
    Stranger,
}

impl Request {
    pub(super) fn of(line: &[u8]) -> Result<Self, Refusal> {
        match line.trim_ascii() {
            b"metrics" => Ok(Self::Metrics),
            b"tasks" => Ok(Self::Tasks),
            b"all" => Ok(Self::All),
            other => Err(Refusal::Unknown(String::from_utf8_lossy(other).into_owned())),
        }
    }

    /// Whether it is about tasks.
    pub(super) fn wants_tasks(self) -> bool {
        self != Self::Metrics
    }
}

impl Refusal {
    pub(super) fn text(&self) -> String {
        let mut json = Json::new();
        json.object(|json| match self {
            Self::Unknown(line) => {
                let text = format!("unknown request {line:?}: there are \"metrics\", \"tasks\" and \"all\"");
                json.field("error", Shown(text));
            }
            Self::TooLong => {
                json.field("error", Shown(format_args!("a request has no more than {INSPECTOR_LINE} bytes")))
            }
            Self::Full => {
                json.field("error", Shown(format_args!("{INSPECTOR_CLIENTS} clients are connected: try again later")))
            }
            Self::Stranger => json.field("error", "only the user of the process may look into it"),
        });
        line(json)
    }

    /// Tells somebody who is not let in.
    pub(super) fn send(&self, socket: &Socket) {
        // A connection that is new has room for it, and whoever is gone does not need it.
        let _ = send(socket, self.text().as_bytes());
    }
}

/// The answer to a request.
pub(super) fn to(el: &EventLoop, request: Request) -> String {
    let mut json = Json::new();
    json.object(|json| {
        json.field("format", FORMAT);
        json.field("roundelay", env!("CARGO_PKG_VERSION"));
        json.field("pid", std::process::id());
        json.field("program", &*program_name());
        json.field("loop", el.id());
        json.field("name", el.name());
        if request != Request::Tasks {
            json.key("metrics");
            el.core.metrics().write(json);
        }
        if request.wants_tasks() {
            json.key("tasks");
            TaskDump::of(el).write_json(json);
        }
    });
    line(json)
}

fn line(json: Json) -> String {
    let mut text = json.into_string();
    text.push('\n');
    text
}
