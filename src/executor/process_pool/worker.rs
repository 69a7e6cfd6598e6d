//! A worker process, as its keeper sees it.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::constants::{WORKER_END_LONGEST_LOOK, WORKER_END_LOOK, WORKER_READ, WORKER_SILENCE, WORKER_START};
use crate::executor::process_pool::wire::{ANSWER_HEAD, Answer, GREETING, Request};
use crate::os::fd::AsFd;
use crate::os::socket::{recv_now, send_now, would_block};
use crate::os::worker::{self, Bell, Direction};

/// What a keeper listens to beside its worker.
pub(super) struct Alarm {
    bell: Bell,
    /// Whether the worker is to end at once, whatever it does.
    killed: AtomicBool,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { bell: Bell::new()?, killed: AtomicBool::new(false) })
    }

    /// Lets the keeper look at the pool.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Lets it kill its worker.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }
}

/// Why there is no answer.
pub(super) enum Trouble {
    /// The worker is gone, or makes no sense.
    Lost,
    /// It is to be killed.
    Killed,
}

pub(super) struct Worker {
    /// Waited for by nobody else.
    child: Child,
    /// The connection with it, which does not block.
    socket: Socket,
    /// How many jobs it has done.
    pub(super) done: usize,
}

impl Worker {
    /// Starts a process and waits until it has greeted.
    pub(super) fn start(alarm: &Alarm) -> io::Result<Self> {
        let (child, socket) = worker::start()?;
        let mut worker = Self { child, socket, done: 0 };
        let until = Instant::now() + WORKER_START;
        let mut greeting = [0; GREETING.len()];
        let greeted = worker.receive(&mut greeting, Some(until), alarm);
        if greeted.is_ok() && greeting == GREETING {
            return Ok(worker);
        }
        let is_late = Instant::now() >= until;
        let status = worker.end(Duration::ZERO, alarm);
        let reason = match (greeted, status) {
            (Err(Trouble::Killed), _) => "the pool was shut down".to_owned(),
            (_, _) if is_late => format!(
                "it did not come to ProcessFunctions::init() within {WORKER_START:?}, which belongs at the top of main"
            ),
            (_, Some(status)) => format!("it ended before it came to ProcessFunctions::init(): {status}"),
            (_, None) => "it ended before it came to ProcessFunctions::init()".to_owned(),
        };
        Err(io::Error::other(reason))
    }

    /// Whether it is there and silent, as one is that has nothing to do.
    pub(super) fn is_idle(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
            && recv_now(&self.socket, &mut [0]).is_err_and(|error| would_block(&error))
    }

    /// Waits until the bell is rung: false if the worker has stirred, which it should not.
    pub(super) fn idle(&self, alarm: &Alarm) -> bool {
        let connection = (self.socket.as_fd(), Direction::Receive);
        let woken = worker::wait(Some(connection), &alarm.bell, None);
        alarm.bell.hush();
        woken.is_ok_and(|woken| !woken.connection)
    }

    /// Gives it a request and waits for the answer.
    pub(super) fn ask(&mut self, request: &Request, alarm: &Alarm) -> Result<Answer, Trouble> {
        for part in [&request.head()[..], request.name.as_bytes(), &request.arguments] {
            self.send(part, alarm)?;
        }
        let mut head = [0; ANSWER_HEAD];
        self.receive(&mut head, None, alarm)?;
        let (outcome, length) = Answer::head(head).map_err(|_| Trouble::Lost)?;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let begun = bytes.len();
            bytes.resize(length.min(begun + begun.max(WORKER_READ)), 0);
            self.receive(&mut bytes[begun..], None, alarm)?;
        }
        self.done += 1;
        Ok(Answer { outcome, bytes })
    }

    fn send(&mut self, mut data: &[u8], alarm: &Alarm) -> Result<(), Trouble> {
        while !data.is_empty() {
            match send_now(&self.socket, data) {
                Ok(sent) => data = &data[sent..],
                Err(error) if would_block(&error) => self.wait(Direction::Send, None, alarm)?,
                Err(_) => return Err(Trouble::Lost),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut buffer: &mut [u8], until: Option<Instant>, alarm: &Alarm) -> Result<(), Trouble> {
        while !buffer.is_empty() {
            match recv_now(&self.socket, buffer) {
                Ok(0) => return Err(Trouble::Lost),
                Ok(received) => buffer = &mut buffer[received..],
                Err(error) if would_block(&error) => self.wait(Direction::Receive, until, alarm)?,
                Err(_) => return Err(Trouble::Lost),
            }
        }
        Ok(())
    }

    /// Waits until the connection can be used; not longer than the worker is there.
    fn wait(&mut self, direction: Direction, until: Option<Instant>, alarm: &Alarm) -> Result<(), Trouble> {
        if alarm.is_killed() {
            return Err(Trouble::Killed);
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(Trouble::Lost);
        }
        let time = left.unwrap_or(WORKER_SILENCE).min(WORKER_SILENCE);
        let woken = worker::wait(Some((self.socket.as_fd(), direction)), &alarm.bell, Some(time));
        let woken = woken.map_err(|_| Trouble::Lost)?;
        if woken.bell {
            alarm.bell.hush();
        } else if !woken.connection && !matches!(self.child.try_wait(), Ok(None)) {
            return Err(Trouble::Lost);
        }
        Ok(())
    }

    /// Tells it to end, by the end of its connection, and waits for it so long; then it is killed. How it has ended, where
    /// the system tells.
    pub(super) fn end(self, patience: Duration, alarm: &Alarm) -> Option<ExitStatus> {
        let Self { mut child, socket, .. } = self;
        drop(socket);
        let until = Instant::now() + patience;
        let mut look = WORKER_END_LOOK;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                // Somebody else has waited for it.
                Err(_) => return None,
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || alarm.is_killed() {
                break;
            }
            if worker::wait(None, &alarm.bell, Some(look.min(left))).is_ok_and(|woken| woken.bell) {
                alarm.bell.hush();
            }
            look = WORKER_END_LONGEST_LOOK.min(look * 2);
        }
        // It has gone in the meantime, or is not ours any more.
        let _ = child.kill();
        child.wait().ok()
    }
}
