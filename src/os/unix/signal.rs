//! Signals: from the system's handler, which runs on any thread at any moment, to the loops that listen.
//!
//! # The problem
//!
//! A handler interrupts a thread wherever it stands: it may hold any lock, the allocator's included. So a handler takes no
//! lock and allocates nothing; what it looks at must be whole at every moment, and must not go away under it, while loops
//! begin and end to listen on other threads, and on the very thread that is interrupted. What it has to say must reach
//! the right loops at once, and nothing of what the kernel has delivered may be lost.
//!
//! # How it works
//!
//! Each loop that listens has a *line*: which signals it wants, and the writing end of a pipe, whose reading end is
//! registered with the loop's selector. The handler goes along all lines and writes the number of the signal, one byte,
//! into the pipes of those that want it. So the kernel keeps the order, and wakes the loop. When a pipe is full (64 KiB on
//! Linux) the signal is counted instead, by its number; the loop looks at these counts when it has emptied its pipe. That
//! it looks again after the count was raised is made sure of by another byte: either there is room for it now, or the pipe
//! was full once more, and is still to be emptied.
//!
//! *Lines are never freed.* They stand in a list that only grows, at its end, and are used again: there are as many as
//! there were loops that listened at the same time. So the handler goes along the list with no lock, in whatever state it
//! is. *The pipe is freed*, and its number soon stands for another file; so the line counts the handlers that are using it.
//! Whoever closes the pipe first takes its number off the line, and then waits until no handler is at work there. A handler
//! counts itself before it looks at the line: whoever waits either sees the count, or the handler sees no number. Both are
//! sequentially consistent. It does not wait long: a handler blocks all signals and never sleeps.
//!
//! What was there before our handler is kept under a lock, which no handler takes, and comes back when the last loop that
//! listens for the signal has ended to; unless somebody has put another one in the place of ours meanwhile, which then
//! stays. As long as ours is there the one before is not called: it is replaced, as in asyncio.
//!
//! *In a child of `fork`* there are the handler, the lines and the pipes of the parent. The handler compares the process
//! with the one that the lines belong to. What comes to the child is not told to the parent's loops: the disposition before
//! ours comes back, and the signal is raised again, so that the child does with it what it would have done without a loop
//! (but where that was somebody's own handler: then the signal is dropped). The first loop of the child's own that listens
//! takes the lines over.
//!
//! # What else was thought of
//!
//! One pipe for the process, as tokio has it, wakes every loop for every signal, and stays open for ever. `signalfd` wants
//! the signals blocked, on every thread, and children inherit that. A flag for each signal and an `eventfd` have no order,
//! and merge what came separately. Chaining to the handler before ours calls what knows nothing of the others.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use libc::{SIG_DFL, SIG_IGN, c_int};
pub(crate) use libc::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGKILL, SIGPIPE, SIGPROF,
    SIGQUIT, SIGSEGV, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

use crate::constants::{SIGNAL_LOOKS, SIGNAL_PAUSE, SIGNALS_PER_TURN};
use crate::os::channel::set_nonblocking;
use crate::os::fault::{Call, retry};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use crate::os::pipe::pipe;

/// The highest number of a signal. Elsewhere real-time signals are left out.
pub(crate) const LAST: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 64 } else { 31 };

/// Places in a table with one for each signal.
const PLACES: usize = LAST as usize + 1;

/// The byte that says: look at what was missed.
const LOOK: u8 = 0;

/// No descriptor.
const NONE: i32 = -1;

/// Its bit in a set of signals.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The signals of a set, in ascending order.
fn members(set: u64) -> impl Iterator<Item = i32> {
    (1..=LAST).filter(move |signal| set & bit(*signal) != 0)
}

/// From the handler to one loop.
struct Line {
    next: OnceLock<&'static Line>,
    /// The set of signals that are told.
    wanted: AtomicU64,
    /// The writing end of the loop's pipe, or `NONE`.
    pipe: AtomicI32,
    /// How many handlers are at work here.
    writers: AtomicU32,
    /// Signals that the full pipe did not take, by number.
    missed: [AtomicU32; PLACES],
    /// What becomes of SIGINT: see the constants.
    interrupt: AtomicU8,
}

/// SIGINT is told, and nothing else.
const PLAIN: u8 = 0;
/// The first SIGINT is told; from then on the line is `INTERRUPTED`.
const ARMED: u8 = 1;
/// The next SIGINT ends the process.
const INTERRUPTED: u8 = 2;

/// All lines.
static FIRST: OnceLock<&'static Line> = OnceLock::new();

/// The process that the lines belong to; zero before there are any.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// For a child of `fork`: the disposition before ours by signal, where it is no function.
static PLAIN_BEFORE: [AtomicUsize; PLACES] = [const { AtomicUsize::new(SIG_DFL) }; PLACES];

/// Stands for one that is a function.
const FUNCTION: usize = usize::MAX;

impl Line {
    const fn new() -> Self {
        Self {
            next: OnceLock::new(),
            wanted: AtomicU64::new(0),
            pipe: AtomicI32::new(NONE),
            writers: AtomicU32::new(0),
            missed: [const { AtomicU32::new(0) }; PLACES],
            interrupt: AtomicU8::new(PLAIN),
        }
    }

    fn all() -> impl Iterator<Item = &'static Line> {
        std::iter::successors(FIRST.get().copied(), |line| line.next.get().copied())
    }

    /// A line more, at the end of the list. Under the table's lock.
    fn add() -> &'static Self {
        // Reachable from `FIRST` for ever.
        let line: &'static Self = Box::leak(Box::new(Self::new()));
        let place = Self::all().last().map_or(&FIRST, |last| &last.next);
        let _ = place.set(line);
        line
    }

    /// Tells the loop, if it wants to hear of this signal. True if the process is to end instead. For the handler.
    fn tell(&self, signal: i32) -> bool {
        // Counted before anything is looked at: whoever frees the line waits for this.
        self.writers.fetch_add(1, SeqCst);
        let ends = self.wanted.load(SeqCst) & bit(signal) != 0 && self.tell_wanted(signal);
        self.writers.fetch_sub(1, SeqCst);
        ends
    }

    fn tell_wanted(&self, signal: i32) -> bool {
        if signal == SIGINT && self.interrupt.compare_exchange(ARMED, INTERRUPTED, SeqCst, SeqCst) == Err(INTERRUPTED) {
            return true;
        }
        let pipe = self.pipe.load(SeqCst);
        if pipe != NONE && !write(pipe, signal as u8) {
            if let Some(missed) = self.missed.get(signal as usize) {
                missed.fetch_add(1, SeqCst);
            }
            write(pipe, LOOK);
        }
        false
    }

    /// Waits until no handler is at work here any more that may have seen what was there before.
    fn wait_for_writers(&self) {
        let mut looks = 0;
        while self.writers.load(SeqCst) > 0 {
            looks += 1;
            // The handler's thread may be one that this one, which has a higher priority, keeps from running.
            if looks < SIGNAL_LOOKS { thread::yield_now() } else { thread::sleep(SIGNAL_PAUSE) }
        }
    }

    /// As new, but for its place in the list, and for the count of handlers that are at work here: there may be some that
    /// find nothing to do.
    fn clear(&self) {
        self.wanted.store(0, SeqCst);
        self.pipe.store(NONE, SeqCst);
        self.missed.iter().for_each(|missed| missed.store(0, SeqCst));
        self.interrupt.store(PLAIN, SeqCst);
    }
}

/// Writes a byte into a pipe: false if it is full. For the handler, and for the loop whose pipe it is.
fn write(pipe: i32, byte: u8) -> bool {
    // SAFETY: `write` may be called by a handler; the byte is there for as long as the call lasts. The number is that of a
    // pipe's end that is open: whoever closes it waits for handlers. It does not block. The other end is open as well, so there
    // is no SIGPIPE.
    unsafe { libc::write(pipe, (&raw const byte).cast(), 1) != -1 }
}

/// Our handler.
extern "C" fn on_signal(signal: c_int) {
    let errno = errno();
    // SAFETY: it is this thread's, and there is one as long as the thread is.
    let before = unsafe { errno.read() };
    if process() == PROCESS.load(SeqCst) {
        let ends = Line::all().any(|line| line.tell(signal));
        if ends {
            raise_with(signal, SIG_DFL);
        }
    } else {
        let before = PLAIN_BEFORE.get(signal as usize).map_or(SIG_DFL, |before| before.load(SeqCst));
        if before != FUNCTION {
            raise_with(signal, before);
        }
    }
    // SAFETY: as above. What was interrupted may be about to look at it.
    unsafe { errno.write(before) };
}

/// Brings the default disposition back, or ignores the signal, and raises it anew: it comes when the handler has returned,
/// for as long as it runs all signals are blocked. For the handler.
fn raise_with(signal: i32, disposition: usize) {
    let action = action(disposition, 0);
    // SAFETY: both may be called by a handler, and `disposition` is one of the two that are no function.
    unsafe {
        libc::sigaction(signal, &raw const action, null_mut());
        libc::raise(signal);
    }
}

/// A disposition. While its handler runs all signals are blocked: none comes in between.
fn action(handler: usize, flags: c_int) -> libc::sigaction {
    // SAFETY: all bytes of it may be zero; the mask is there to be written. `sigfillset` may be called by a handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigfillset(&raw mut action.sa_mask);
        action
    }
}

/// Where the C library keeps the thread's error.
fn errno() -> *mut c_int {
    // SAFETY: there is nothing to keep to.
    unsafe {
        #[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "hurd", target_os = "redox"))]
        return libc::__errno_location();
        #[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"))]
        return libc::__error();
        #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
        return libc::__errno();
        #[cfg(any(target_os = "solaris", target_os = "illumos"))]
        return libc::___errno();
    }
}

/// This process. Not remembered by anybody: a child of `fork` is told from its parent by it.
fn process() -> i32 {
    // SAFETY: there is nothing to keep to, and a handler may call it.
    unsafe { libc::getpid() }
}

/// A signal that our handler catches.
struct Caught {
    /// How many lines want it.
    lines: usize,
    /// The disposition that ours has replaced.
    before: libc::sigaction,
}

/// Who catches what, and which lines are free.
struct Table {
    /// The process that this is true of.
    process: i32,
    caught: BTreeMap<i32, Caught>,
    free: Vec<&'static Line>,
}

/// Whether the disposition before ours came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Released {
    /// Or need not yet.
    Well,
    /// Somebody has replaced ours, and theirs stays.
    Theirs,
}

impl Table {
    /// The table of this process.
    fn lock() -> MutexGuard<'static, Self> {
        static TABLE: Mutex<Table> = Mutex::new(Table { process: 0, caught: BTreeMap::new(), free: Vec::new() });
        let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
        let process = process();
        if table.process != process {
            table.take_over(process);
        }
        table
    }

    /// The first use, in this process: a child of `fork` lets go of all that was its parent's. The parent's other threads,
    /// which may have been in a handler, are not there any more.
    fn take_over(&mut self, process: i32) {
        for (signal, caught) in std::mem::take(&mut self.caught) {
            let _ = give_back(signal, &caught.before);
        }
        for line in Line::all() {
            line.clear();
            line.writers.store(0, SeqCst);
        }
        self.free = Line::all().collect();
        self.process = process;
        PROCESS.store(process, SeqCst);
    }

    /// A line wants this signal: one more, or one that did before.
    fn catch(&mut self, signal: i32, more: usize) -> io::Result<()> {
        let mut current = disposition(signal)?;
        let is_ours = is_ours(&current);
        if let Some(caught) = self.caught.get_mut(&signal).filter(|_| is_ours) {
            caught.lines += more;
            return Ok(());
        }
        if is_ours {
            // Somebody who had replaced ours has brought it back, after its time: nobody knows what was there before.
            current = action(SIG_DFL, 0);
        }
        if let Some(place) = PLAIN_BEFORE.get(signal as usize) {
            let before = current.sa_sigaction;
            place.store(if before == SIG_DFL || before == SIG_IGN { before } else { FUNCTION }, SeqCst);
        }
        // A thread of another library may have little room on its stack, and another stack for handlers.
        set(signal, &action(on_signal as extern "C" fn(c_int) as usize, libc::SA_RESTART | libc::SA_ONSTACK))?;
        // Where there were lines, somebody has replaced ours meanwhile, and is replaced in turn.
        let lines = self.caught.get(&signal).map_or(0, |caught| caught.lines);
        self.caught.insert(signal, Caught { lines: lines + more, before: current });
        Ok(())
    }

    /// A line less wants it.
    fn release(&mut self, signal: i32) -> Released {
        let Some(caught) = self.caught.get_mut(&signal) else { return Released::Well };
        caught.lines -= 1;
        if caught.lines > 0 {
            return Released::Well;
        }
        let before = caught.before;
        self.caught.remove(&signal);
        give_back(signal, &before)
    }

    fn free_line(&mut self) -> &'static Line {
        self.free.pop().unwrap_or_else(Line::add)
    }
}

/// Puts a disposition in the place of ours, if ours is there.
fn give_back(signal: i32, before: &libc::sigaction) -> Released {
    match disposition(signal) {
        Ok(current) if is_ours(&current) => {
            // It was set before: it can be set again.
            let _ = set(signal, before);
            Released::Well
        }
        _ => Released::Theirs,
    }
}

/// What the process does with a signal now.
fn disposition(signal: i32) -> io::Result<libc::sigaction> {
    let mut current = action(SIG_DFL, 0);
    // SAFETY: with no new disposition the current one is written, to a place that is there.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut current) };
    if result == 0 { Ok(current) } else { Err(io::Error::last_os_error()) }
}

fn set(signal: i32, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the disposition is a whole one: ours, whose handler keeps to what a handler may do, or one that was there
    // before, which its owner answers for.
    let result = unsafe { libc::sigaction(signal, std::ptr::from_ref(action), null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as extern "C" fn(c_int) as usize
}

/// Whether nobody but us has anything to do with a signal: its disposition is the default one, or was before ours.
pub(crate) fn is_default(signal: i32) -> bool {
    let table = Table::lock();
    let before = table.caught.get(&signal).map(|caught| caught.before.sa_sigaction);
    match disposition(signal) {
        Ok(current) if is_ours(&current) => before.is_none_or(|before| before == SIG_DFL),
        Ok(current) => current.sa_sigaction == SIG_DFL,
        Err(_) => false,
    }
}

/// A loop's share of the process's signals. Dropped, it listens no more.
pub(crate) struct SignalPipe {
    line: &'static Line,
    /// The process that it is of.
    process: i32,
    reader: OwnedFd,
    /// The number of which stands on the line.
    writer: OwnedFd,
}

impl SignalPipe {
    /// One that does not listen for anything yet.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        for end in [&reader, &writer] {
            set_nonblocking(end.as_fd(), true)?;
        }
        let mut table = Table::lock();
        let line = table.free_line();
        line.pipe.store(writer.as_raw_fd(), SeqCst);
        Ok(Self { line, process: table.process, reader, writer })
    }

    /// Begins to listen for a signal, and catches it if nobody does, or somebody has put another handler in the place of
    /// ours.
    pub(crate) fn listen(&self, signal: i32) -> io::Result<()> {
        let mut table = Table::lock();
        if table.process != self.process {
            let text = "the loop's signals are those of the process that was forked";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        // Wanted before it is caught: what comes in between is told.
        let is_new = self.line.wanted.fetch_or(bit(signal), SeqCst) & bit(signal) == 0;
        let result = table.catch(signal, usize::from(is_new));
        if result.is_err() && is_new {
            self.line.wanted.fetch_and(!bit(signal), SeqCst);
        }
        result
    }

    /// Ends that. What was told before may still be read.
    pub(crate) fn ignore(&self, signal: i32) {
        self.end(bit(signal));
    }

    fn end(&self, set: u64) {
        let mut table = Table::lock();
        if table.process != self.process {
            return;
        }
        let set = set & self.line.wanted.fetch_and(!set, SeqCst);
        let theirs: Vec<i32> = members(set).filter(|signal| table.release(*signal) == Released::Theirs).collect();
        drop(table);
        for signal in theirs {
            note!(
                DEBUG,
                "roundelay::loop",
                "signal {signal}: somebody has replaced the loop's handler meanwhile: what was there before does not come back"
            );
        }
    }

    /// From now on the first SIGINT is told, and the next one ends the process, as it does by default: there and then, also
    /// while the loop is busy.
    pub(crate) fn arm(&self) {
        self.line.interrupt.store(ARMED, SeqCst);
    }

    /// From now on SIGINT is told, and nothing else.
    pub(crate) fn disarm(&self) {
        self.line.interrupt.store(PLAIN, SeqCst);
    }

    /// Takes the numbers of signals that were told, in the order in which they came, and at the end those that the full
    /// pipe did not take. As many at most as a turn may take; where there may be more the pipe stays readable.
    pub(crate) fn take(&self, signals: &mut Vec<i32>) {
        let mut bytes = [0; SIGNALS_PER_TURN];
        // It fails where there is nothing.
        let n = retry(Call::Receive, |_| rustix::io::read(&self.reader, &mut bytes)).unwrap_or(0);
        signals.extend(bytes[..n].iter().filter(|byte| **byte != LOOK).map(|byte| i32::from(*byte)));
        let mut room = bytes.len() - n;
        if room > 0 {
            for (signal, missed) in (0..).zip(&self.line.missed) {
                // Only handlers change it besides, and they add.
                let some = room.min(missed.load(SeqCst) as usize);
                missed.fetch_sub(some as u32, SeqCst);
                signals.extend(std::iter::repeat_n(signal, some));
                room -= some;
            }
        }
        if room == 0 {
            // Where it is full this is not needed.
            write(self.writer.as_raw_fd(), LOOK);
        }
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        self.end(u64::MAX);
        if self.process != process() {
            return;
        }
        self.line.pipe.store(NONE, SeqCst);
        // The descriptors are closed after that.
        self.line.wait_for_writers();
        self.line.clear();
        Table::lock().free.push(self.line);
    }
}

/// The name of a signal, as in C.
pub(crate) fn name(signal: i32) -> Option<&'static str> {
    macro_rules! names {
        ($($name:ident)*) => {
            match signal {
                $($name => Some(stringify!($name)),)*
                _ => None,
            }
        };
    }
    names! {
        SIGABRT SIGALRM SIGBUS SIGCHLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSEGV
        SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ
    }
}
