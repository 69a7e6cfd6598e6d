//! Where the standard streams of a child lead to.

use std::fmt;
use std::io;

use crate::error::invalid_input;
use crate::os::channel::{Channel, Sort};
use crate::os::fd::{AsRawFd, OwnedFd};
use crate::os::pipe::pipe;
use crate::os::spawn::{End, own_stdout};

/// Where a standard stream of a child process leads to.
///
/// Whatever has a descriptor can be used in its place: a `File`, a socket, the end of a pipe.
///
/// ```no_run
/// # async fn f() -> std::io::Result<()> {
/// use roundelay::{Stdio, create_subprocess_exec};
///
/// let log = std::fs::File::create("build.log")?;
/// let mut make = create_subprocess_exec("make", ["all"])
///     .stdin(Stdio::null())
///     .stdout(log)
///     .stderr(Stdio::to_stdout())
///     .await?;
/// make.wait().await?;
/// # Ok(())
/// # }
/// ```
pub struct Stdio(Kind);

enum Kind {
    Piped,
    Null,
    Inherit,
    Fd(OwnedFd),
    ToStdout,
}

impl Stdio {
    /// A pipe, of which the loop has the other end. A real pipe also for the standard input, so that the child may open it
    /// as `/dev/stdin`.
    #[doc(alias = "PIPE")]
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// `/dev/null`.
    #[doc(alias = "DEVNULL")]
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// The same as the stream of this process.
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// A descriptor, which is closed here when the child has it.
    pub fn fd(fd: impl Into<OwnedFd>) -> Self {
        Self(Kind::Fd(fd.into()))
    }

    /// Of the errors alone: wherever the output goes.
    #[doc(alias = "STDOUT")]
    pub fn to_stdout() -> Self {
        Self(Kind::ToStdout)
    }
}

impl<F: Into<OwnedFd>> From<F> for Stdio {
    fn from(fd: F) -> Self {
        Self::fd(fd)
    }
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Piped => f.write_str("piped"),
            Kind::Null => f.write_str("null"),
            Kind::Inherit => f.write_str("inherit"),
            Kind::Fd(fd) => write!(f, "fd {}", fd.as_raw_fd()),
            Kind::ToStdout => f.write_str("to_stdout"),
        }
    }
}

/// The child's side of its three streams, and ours of those that are pipes.
pub(super) struct Opened {
    pub(super) theirs: [End; 3],
    pub(super) ours: [Option<Channel>; 3],
}

/// Opens what the child gets.
pub(super) fn open(method: &str, streams: [Stdio; 3]) -> io::Result<Opened> {
    let [stdin, stdout, stderr] = streams;
    let mut ours = [None, None, None];
    let stdin = match stdin.0 {
        Kind::Piped => {
            let (reader, writer) = pipe()?;
            ours[0] = Some(Channel::end(writer, Sort::Pipe)?);
            End::Fd(reader)
        }
        other => plain(method, "stdin", other)?,
    };
    let mut output = |kind, name, place: usize| match kind {
        Kind::Piped => {
            let (reader, writer) = pipe()?;
            ours[place] = Some(Channel::end(reader, Sort::Pipe)?);
            Ok(End::Fd(writer))
        }
        other => plain(method, name, other),
    };
    let stdout = output(stdout.0, "stdout", 1)?;
    let stderr = match stderr.0 {
        Kind::ToStdout => match &stdout {
            End::Null => End::Null,
            End::Inherit => End::Fd(own_stdout()?),
            End::Fd(fd) => End::Fd(fd.try_clone()?),
        },
        other => output(other, "stderr", 2)?,
    };
    Ok(Opened { theirs: [stdin, stdout, stderr], ours })
}

fn plain(method: &str, name: &str, kind: Kind) -> io::Result<End> {
    match kind {
        Kind::Null => Ok(End::Null),
        Kind::Inherit => Ok(End::Inherit),
        Kind::Fd(fd) => Ok(End::Fd(fd)),
        Kind::ToStdout => {
            Err(invalid_input(format!("{method}: Stdio::to_stdout() is for stderr() alone, and was given to {name}()")))
        }
        Kind::Piped => unreachable!("dealt with by the caller"),
    }
}
