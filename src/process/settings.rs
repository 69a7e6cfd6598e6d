//! What can be set about a child, at either level.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::panic::Location;
use std::process::Command;

use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::{EventLoop, running};
use crate::os::channel::Channel;
use crate::os::child::Child;
use crate::os::fd::{AsRawFd, OwnedFd};
use crate::os::spawn::{CommandExt, Extras, PreExec, SHELL, is_stream, spawn};
use crate::process::stdio::{self, Opened, Stdio};

/// A program with all that is to hold for its process.
pub(crate) struct Settings {
    /// What was called, for messages.
    pub(crate) method: &'static str,
    pub(crate) command: Command,
    /// Standard input, output, errors.
    pub(crate) streams: [Stdio; 3],
    pub(crate) pass_fds: Vec<OwnedFd>,
    pub(crate) new_session: bool,
    pub(crate) process_group: Option<i32>,
    pub(crate) hooks: Vec<PreExec>,
    pub(crate) kill_on_drop: bool,
    /// Where the application starts it.
    pub(crate) created_at: &'static Location<'static>,
}

impl Settings {
    #[track_caller]
    pub(crate) fn exec<A, S>(method: &'static str, program: impl AsRef<OsStr>, args: A, streams: [Stdio; 3]) -> Self
    where
        A: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(program);
        command.args(args);
        Self {
            method,
            command,
            streams,
            pass_fds: Vec::new(),
            new_session: false,
            process_group: None,
            hooks: Vec::new(),
            kill_on_drop: false,
            created_at: Location::caller(),
        }
    }

    #[track_caller]
    pub(crate) fn shell(method: &'static str, command: impl AsRef<OsStr>, streams: [Stdio; 3]) -> Self {
        Self::exec(method, SHELL, [OsStr::new("-c"), command.as_ref()], streams)
    }

    /// Whether it may be started on this loop, now.
    pub(crate) fn check(&self, el: &EventLoop) -> io::Result<()> {
        let method = self.method;
        running::refuse_elsewhere(el, method)?;
        if el.is_closed() {
            return Err(LoopClosed.into());
        }
        if self.new_session && self.process_group.is_some() {
            let text = format!("{method}: start_new_session() and process_group() exclude each other");
            return Err(invalid_input(text));
        }
        match self.pass_fds.iter().find(|fd| is_stream(fd)) {
            None => Ok(()),
            Some(fd) => Err(invalid_input(format!(
                "{method}: descriptor {} of pass_fds() has the number of a standard stream: see stdin(), stdout() and \
                 stderr()",
                fd.as_raw_fd()
            ))),
        }
    }

    /// Starts it: the child, and our ends of its pipes.
    pub(super) fn spawn(self) -> io::Result<(Child, [Option<Channel>; 3])> {
        let Self { method, mut command, streams, pass_fds, new_session, process_group, hooks, kill_on_drop, .. } = self;
        if let Some(group) = process_group {
            command.process_group(group);
        }
        let Opened { theirs, ours } = stdio::open(method, streams)?;
        let extras = Extras { pass_fds, new_session, hooks, kill_on_drop };
        Ok((spawn(command, theirs, extras)?, ours))
    }
}

impl fmt::Display for Settings {
    /// For a log: the program and its streams. The arguments may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([stdin, stdout, stderr], program) = (&self.streams, self.command.get_program());
        write!(f, "{} {program:?} stdin={stdin:?} stdout={stdout:?} stderr={stderr:?}", self.method)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stdin, stdout, stderr] = &self.streams;
        f.debug_struct("Settings")
            .field("command", &self.command)
            .field("stdin", stdin)
            .field("stdout", stdout)
            .field("stderr", stderr)
            .field("pass_fds", &self.pass_fds)
            .field("new_session", &self.new_session)
            .field("process_group", &self.process_group)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}

/// The settings of both builders. `$settings` is the field that has them.
macro_rules! process_settings {
    ($settings:ident) => {
        /// Adds an argument.
        pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
            self.$settings.command.arg(arg);
            self
        }

        /// Adds arguments.
        pub fn args(mut self, args: impl IntoIterator<Item: AsRef<std::ffi::OsStr>>) -> Self {
            self.$settings.command.args(args);
            self
        }

        /// What the program is told that its name is, in place of the one by which it was found: the other half of asyncio's
        /// `executable`.
        #[doc(alias = "executable")]
        pub fn arg0(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
            crate::os::spawn::CommandExt::arg0(&mut self.$settings.command, arg);
            self
        }

        /// Sets a variable of the environment, which is otherwise that of this process.
        pub fn env(mut self, key: impl AsRef<std::ffi::OsStr>, value: impl AsRef<std::ffi::OsStr>) -> Self {
            self.$settings.command.env(key, value);
            self
        }

        /// Sets several. With [`env_clear`](Self::env_clear) before they are the whole environment, as with asyncio's `env`.
        #[doc(alias = "env")]
        pub fn envs<K, V>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self
        where
            K: AsRef<std::ffi::OsStr>,
            V: AsRef<std::ffi::OsStr>,
        {
            self.$settings.command.envs(vars);
            self
        }

        /// Leaves a variable out.
        pub fn env_remove(mut self, key: impl AsRef<std::ffi::OsStr>) -> Self {
            self.$settings.command.env_remove(key);
            self
        }

        /// Leaves all variables out, but for those that are set afterwards.
        pub fn env_clear(mut self) -> Self {
            self.$settings.command.env_clear();
            self
        }

        /// The directory that the program begins in.
        #[doc(alias = "cwd")]
        pub fn current_dir(mut self, dir: impl AsRef<std::path::Path>) -> Self {
            self.$settings.command.current_dir(dir);
            self
        }

        /// The user that the program runs as, by number.
        #[doc(alias = "user")]
        pub fn uid(mut self, id: u32) -> Self {
            crate::os::spawn::CommandExt::uid(&mut self.$settings.command, id);
            self
        }

        /// The group that the program runs as, by number.
        #[doc(alias = "group")]
        pub fn gid(mut self, id: u32) -> Self {
            crate::os::spawn::CommandExt::gid(&mut self.$settings.command, id);
            self
        }

        /// The process group that it belongs to; 0 makes one of its own, which has its number. A signal to all of the group,
        /// such as that of Ctrl-C, then does not reach it, or reaches its own children with it.
        pub fn process_group(mut self, group: i32) -> Self {
            self.$settings.process_group = Some(group);
            self
        }

        /// Begins a session of its own, without a terminal. Not together with [`process_group`](Self::process_group): the
        /// session has a group of its own.
        pub fn start_new_session(mut self, start: bool) -> Self {
            self.$settings.new_session = start;
            self
        }

        /// Runs something in the child before the program is loaded: see [`PreExec`](crate::PreExec). Several are run in
        /// their order.
        #[doc(alias = "preexec_fn")]
        pub fn pre_exec(mut self, hook: crate::os::spawn::PreExec) -> Self {
            self.$settings.hooks.push(hook);
            self
        }

        /// Sets whatever else the standard library's command can set. Its three streams are set here all the same.
        pub fn command(mut self, set: impl FnOnce(&mut std::process::Command)) -> Self {
            set(&mut self.$settings.command);
            self
        }

        /// Where the program's standard input comes from.
        pub fn stdin(mut self, stdin: impl Into<crate::process::Stdio>) -> Self {
            self.$settings.streams[0] = stdin.into();
            self
        }

        /// Where the program's output goes to.
        pub fn stdout(mut self, stdout: impl Into<crate::process::Stdio>) -> Self {
            self.$settings.streams[1] = stdout.into();
            self
        }

        /// Where the program's errors go to.
        pub fn stderr(mut self, stderr: impl Into<crate::process::Stdio>) -> Self {
            self.$settings.streams[2] = stderr.into();
            self
        }

        /// Gives the program more descriptors, each under the number that it has now; they are closed here when it has them.
        /// All other descriptors of this process that are marked close-on-exec, as all that Rust opens are, stay unknown to
        /// it.
        ///
        /// ```no_run
        /// # async fn f() -> std::io::Result<()> {
        /// use std::os::fd::AsRawFd;
        ///
        /// let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
        /// let for_worker = listener.try_clone()?;
        /// let worker = roundelay::create_subprocess_exec("./worker", ["--listen-on-fd"])
        ///     .arg(for_worker.as_raw_fd().to_string())
        ///     .pass_fds([for_worker])
        ///     .await?;
        /// # drop(worker);
        /// # Ok(())
        /// # }
        /// ```
        pub fn pass_fds(mut self, fds: impl IntoIterator<Item: Into<crate::os::fd::OwnedFd>>) -> Self {
            self.$settings.pass_fds.extend(fds.into_iter().map(Into::into));
            self
        }

        /// Kills the process when nobody has a handle to it any more, and when the loop is closed under it.
        pub fn kill_on_drop(mut self, kill: bool) -> Self {
            self.$settings.kill_on_drop = kill;
            self
        }
    };
}
pub(crate) use process_settings;
