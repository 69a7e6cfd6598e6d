//! Every number of the crate, with its unit, its reason and where it comes from.
//!
//! "asyncio" stands for CPython 3.13's `asyncio` package.

use std::time::Duration;

/// Tasks that may begin inside of each other, on one stack; one more waits for its turn. With a few kilobytes for each, as
/// unoptimised code needs, it is a small part of a thread's two megabytes.
pub(crate) const EAGER_DEPTH: usize = 64;

/// Turns after which the selector is asked even though there is ready work. tokio's `event_interval` is 61, too.
pub(crate) const EVENT_INTERVAL: u32 = 61;

/// Time after which the selector is asked even though there is ready work: short beside a network round trip.
pub(crate) const EVENT_PERIOD: Duration = Duration::from_micros(250);

/// The shortest and the longest time for which async-io's own thread sleeps while somebody drives (`main_loop` of async-io
/// 2's `driver.rs`: 50 microseconds and 10 milliseconds), each a little less, for what else is done meanwhile.
#[cfg(feature = "async-io")]
pub(crate) const ASYNC_IO_SHORTEST_NAP: Duration = Duration::from_micros(40);
#[cfg(feature = "async-io")]
pub(crate) const ASYNC_IO_LONGEST_NAP: Duration = Duration::from_millis(9);

/// How many times somebody else may be found with async-io's reactor before it is left to them: its own thread is found once
/// or twice.
#[cfg(feature = "async-io")]
pub(crate) const ASYNC_IO_TRIALS: u32 = 4;

/// For how long the loop looks, without a sleep, whether the reactor is given up: a thread takes some 20 microseconds to
/// wake up.
#[cfg(feature = "async-io")]
pub(crate) const ASYNC_IO_HURRY: Duration = Duration::from_micros(50);

/// For how long it is left to them, at first and at most: to try costs each side a wake-up.
#[cfg(feature = "async-io")]
pub(crate) const ASYNC_IO_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long something runs that debug mode calls slow, unless the application says otherwise (asyncio
/// `slow_callback_duration`).
pub(crate) const SLOW_CALLBACK: Duration = Duration::from_millis(100);

/// A wait of the selector that is so long is logged at the level of information in debug mode, not of debugging (asyncio
/// `_run_once`).
pub(crate) const LONG_WAIT: Duration = Duration::from_secs(1);

/// A timer that is so late is marked in a timeline: the operating system alone is late by some tenths of it.
pub(crate) const LATE_TIMER: Duration = Duration::from_millis(1);

/// How long events of a timeline may wait before they are handed on to be written.
pub(crate) const TRACE_FLUSH: Duration = Duration::from_secs(1);

/// The most bytes of a timeline's file, unless it is told otherwise: what Perfetto opens within seconds.
pub(crate) const TRACE_LIMIT: usize = 64 * 1024 * 1024;

/// The least that can be told: the names at the beginning, some events and the end need a part of it.
pub(crate) const TRACE_LIMIT_LEAST: usize = 4096;

/// Clients that an inspector serves at a time: some people who look, and not a file descriptor too many.
#[cfg(feature = "inspector")]
pub(crate) const INSPECTOR_CLIENTS: usize = 8;

/// The longest line that an inspector reads, in bytes: requests are single words.
#[cfg(feature = "inspector")]
pub(crate) const INSPECTOR_LINE: usize = 64;

/// A client that has not taken an answer for so long makes room for another one.
#[cfg(feature = "inspector")]
pub(crate) const INSPECTOR_PATIENCE: Duration = Duration::from_secs(5);

/// Longest single wait of the selector (asyncio `MAXIMUM_SELECT_TIMEOUT`); some systems refuse longer ones.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How far ahead a deadline is put that `Instant` cannot hold: a thousand years, which never come.
pub(crate) const FAR_FUTURE: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// The same where `Instant` cannot hold that either: thirty years.
pub(crate) const NEAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A sleep up to so long is ended by a timer of its own, which costs a system call where the deadline is another one than
/// before; in a longer one the 50 microseconds by which Linux lets a timeout be late do not matter.
#[allow(dead_code)] // of epoll alone
pub(crate) const SHORT_SLEEP: Duration = Duration::from_millis(100);

/// Deadlines so close to each other need not be told apart by that timer.
#[allow(dead_code)] // of epoll alone
pub(crate) const SAME_DEADLINE: Duration = Duration::from_micros(1);

/// Deadlines that follow each other as close as this are left to timeouts: a hundred thousand timers within 200
/// milliseconds cost twice as much where each is woken for.
#[allow(dead_code)] // of epoll alone
pub(crate) const DENSE_DEADLINES: Duration = Duration::from_micros(100);

/// Turns that a host's future makes at a time, before the host's other tasks have theirs. A turn that finds nothing costs a
/// system call, a way through the host's queue several hundred nanoseconds.
pub(crate) const HOSTED_TURNS: u32 = 16;

/// No further one of them begins after so long: the host's own events wait meanwhile, as ours would ([`EVENT_PERIOD`]).
pub(crate) const HOSTED_TIME: Duration = EVENT_PERIOD;

/// Looks at what other threads have posted for each look at the selector, before the loop sleeps.
pub(crate) const LOOKS_PER_ASK: u32 = 20;

/// How many timers a loop has before it sorts them into the buckets of a wheel: as many as a heap deals with in the
/// processor's first cache.
pub(crate) const TIMERS_IN_HEAP: usize = 512;

/// Timers that are taken out at a time when they are due.
pub(crate) const DUE_AT_ONCE: usize = 16;

/// A tick of the timer wheel is two to this power of nanoseconds: a millisecond. Deadlines are exact all the same: it is
/// how finely timers are sorted beforehand.
pub(crate) const TIMER_TICK_BITS: u32 = 20;

/// Vectors that the timer wheel keeps for their memory.
pub(crate) const TIMER_SPARE_BUCKETS: usize = 64;

/// The number that stands for the loop's creation among the nanoseconds of its timers: deadlines may be 36 years older.
pub(crate) const TIMER_BIAS: u64 = 1 << 60;

/// Posts of other threads that one turn takes; more wait for the next one. Threads that post faster than the loop runs what
/// they post would make each turn longer than the one before.
pub(crate) const POSTS_PER_TURN: usize = 4096;

/// Signals that one turn takes from the loop's pipe; more wait for the next one.
pub(crate) const SIGNALS_PER_TURN: usize = 1024;

/// How often a loop that ends to listen for signals looks whether a handler is still at work, before it pauses in between.
pub(crate) const SIGNAL_LOOKS: u32 = 100;

/// How long such a pause is: a handler is at work for a microsecond, unless its thread does not get to run.
pub(crate) const SIGNAL_PAUSE: Duration = Duration::from_micros(100);

/// Events taken from the kernel in one wait; more wait for the next turn.
pub(crate) const EVENTS_PER_WAIT: usize = 1024;

/// How many descriptors a loop makes room for with the first one.
pub(crate) const FIRST_SLOTS: usize = 16;

/// I/O completions after which a task yields within one poll, so that a flood cannot starve its siblings
/// (tokio's cooperative budget is 128, too).
pub(crate) const TASK_IO_BUDGET: u32 = 128;

/// How many bytes of one read or write count as another completion: a task that moves a megabyte at a time has its share
/// after four megabytes, which take about a millisecond.
pub(crate) const TASK_IO_BUDGET_BYTES: usize = 32 * 1024;

/// How often I/O is refused to a task that has used its budget up and polls on, before it gets another one.
pub(crate) const TASK_IO_REFUSALS: u32 = 128;

/// Most `recv` calls of one transport in one event.
pub(crate) const READS_PER_EVENT: u32 = 16;

/// Most bytes of one `recv` and of one event (asyncio `max_size`). Also the size of the loop's receive buffer,
/// of which the kernel touches only the pages that it fills.
pub(crate) const READ_SIZE: usize = 256 * 1024;

/// Most datagrams of one system call, in either direction. Of 50 clients an echo server costs 3 percent less with 16 than
/// with one, and no less with 32.
pub(crate) const DATAGRAMS_PER_CALL: usize = 16;

/// Most datagrams that a stream of them keeps where their transport cannot be paused.
pub(crate) const DATAGRAMS_KEPT: usize = 1024;

/// Most datagrams that one event delivers or sends (libuv receives 32 in a row).
pub(crate) const DATAGRAMS_PER_EVENT: usize = 64;

/// Answers that are gathered while datagrams are delivered are sent when they are so many bytes; a longer one is sent at
/// once, without the copy.
pub(crate) const OUTBOX_BYTES: usize = 32 * 1024;

/// What each queued datagram counts beside its bytes (asyncio: header bytes).
pub(crate) const DATAGRAM_HEADER: usize = 8;

/// How long a unix socket whose peer is full waits before it tries again on its own, at first and at most: the kernel does
/// not tell each time that there is room.
pub(crate) const UNIX_SEND_RETRY: Duration = Duration::from_micros(250);
pub(crate) const UNIX_SEND_RETRY_MOST: Duration = Duration::from_millis(8);

/// Write buffer size in bytes above which a protocol is paused (asyncio `_FlowControlMixin`).
pub(crate) const WRITE_HIGH_WATER: usize = 64 * 1024;

/// The same of TLS (`FLOW_CONTROL_HIGH_WATER_SSL_WRITE` of asyncio's `constants.py`).
pub(crate) const TLS_WRITE_HIGH_WATER: usize = 512 * 1024;

/// The low-water mark is the high one divided by this (asyncio `_FlowControlMixin`).
pub(crate) const WATER_RATIO: usize = 4;

/// Most buffers of one vectored write: Linux' `UIO_MAXIOV`.
pub(crate) const MAX_IOVECS: usize = 1024;

/// The buffers of a vectored write that stand on the stack; more of them are gathered in memory of their own.
pub(crate) const FEW_IOVECS: usize = 16;

/// A queued chunk that small writes are gathered in stops growing at this size.
pub(crate) const WRITE_CHUNK: usize = 64 * 1024;

/// Writes to a lost connection before a warning is logged (asyncio `LOG_THRESHOLD_FOR_CONNLOST_WRITES`).
pub(crate) const LOST_WRITES_BEFORE_WARNING: u32 = 5;

/// Length of a listening socket's queue, and the most connections accepted in one event (asyncio).
pub(crate) const BACKLOG: u32 = 100;

/// How long a connection to a unix server waits whose queue is full, before it asks again: at first, and at most.
pub(crate) const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(1);
pub(crate) const LONGEST_CONNECT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// How often a server binds anew that finds a stale socket file in its way, before it gives up: each time another one has
/// been faster.
pub(crate) const BIND_ATTEMPTS: u32 = 16;

/// How many places for connections a server keeps when the last one is gone: a few KiB.
pub(crate) const PLACES_KEPT: usize = 1024;

/// How long a server stops accepting when descriptors or memory are short (asyncio `ACCEPT_RETRY_DELAY`).
pub(crate) const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long a datagram to a unix socket whose queue is full waits before it is sent again, after a first try in the next
/// turn: the system tells nobody when there is room. Doubled each time, up to the second one.
pub(crate) const FULL_QUEUE_DELAY: Duration = Duration::from_millis(1);
pub(crate) const FULL_QUEUE_LONGEST_DELAY: Duration = Duration::from_millis(32);

/// Default limit of a stream's reader in bytes (asyncio `_DEFAULT_LIMIT`).
pub(crate) const STREAM_LIMIT: usize = 64 * 1024;

/// What a stream's reader that was read empty keeps of its buffer's memory, in bytes: small messages need no new one,
/// and ten thousand idle connections do not keep what their largest burst has cost.
pub(crate) const READER_KEEP: usize = 8 * 1024;

/// Size in bytes of the buffer behind `AsyncBufRead` of the plain stream types; it exists only while it is used.
pub(crate) const BUF_READ_SIZE: usize = 8 * 1024;

/// The most bytes that `copy` reads at a time, and has on their way in one direction.
pub(crate) const COPY_SIZE: usize = 64 * 1024;

/// How long the end of `block_on` waits, all in all, before it reports what has not ended.
pub(crate) const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);

/// How deep reports that an exception handler makes itself go to that handler; beyond it they go to the default one. A
/// handler that schedules on a closed loop would call itself without end.
pub(crate) const MAX_NESTED_REPORTS: u32 = 8;

/// How many causes of an error a report names. Those of an error that is its own cause have no end.
pub(crate) const MAX_CAUSES: usize = 16;

/// Most threads of the default executor, and what is added to the number of processors below that
/// (`concurrent.futures.ThreadPoolExecutor`).
pub(crate) const EXECUTOR_MAX_THREADS: usize = 32;
pub(crate) const EXECUTOR_EXTRA_THREADS: usize = 4;

/// How long an executor's thread waits for another job before it ends.
pub(crate) const EXECUTOR_IDLE: Duration = Duration::from_secs(10);

/// How long a worker process may take until it says that it is there: the program's own `main` comes first, and the machine
/// may be busy.
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_START: Duration = Duration::from_secs(60);

/// How long a worker process may take to end by itself when it is told to, before it is killed.
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_END: Duration = Duration::from_secs(5);

/// How long the silence of a busy worker is taken for work before the system is asked whether it is alive. Its end is heard
/// of at once by the end of its connection, unless a process that it has made holds on to that.
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_SILENCE: Duration = Duration::from_secs(1);

/// How long a worker process that ends is waited for, at first and at most, before it is looked at again.
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_END_LOOK: Duration = Duration::from_millis(1);
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_END_LONGEST_LOOK: Duration = Duration::from_millis(50);

/// What is made room for at a time of a message whose length a process has said, in bytes.
#[cfg(feature = "process-pool")]
pub(crate) const WORKER_READ: usize = 1024 * 1024;

/// How long `close()` sleeps at most before it looks again for a task that a thread is just waking.
pub(crate) const CLOSING_WAIT: Duration = Duration::from_millis(10);

/// How often a common port is looked for when several sockets are to share one that the system chooses.
pub(crate) const COMMON_PORT_ATTEMPTS: u32 = 16;

/// How often the end starts over: with tasks whose destructors make new ones, with protocols that connect anew when
/// they lose their connection, with callbacks that panic fatally.
pub(crate) const END_ROUNDS: u32 = 100;

/// How many tasks, connections and so on the report of an end that took too long has by name, of each kind.
pub(crate) const NAMED_AT_END: usize = 20;

/// How deep what a closed loop refuses may nest: destructors that schedule again, whose destructors schedule again. A
/// test for endlessness, and far from the end of a stack.
pub(crate) const NESTED_REFUSALS: u32 = 64;

/// Most bytes of one call of `sendfile`: as many as use up what a task may move in its turn, so that the others come then.
/// They take a third of a millisecond on a loopback.
pub(crate) const SENDFILE_CHUNK: usize = 4 * 1024 * 1024;

/// How far apart the bytes are that are looked for in memory before a file is sent: each look takes a third of a
/// microsecond, and a megabyte is sent in some twenty.
pub(crate) const SENDFILE_LOOKS: usize = 1024 * 1024;

/// How far ahead of a chunk that had to be read from a disk the system is told to read.
pub(crate) const SENDFILE_AHEAD: usize = 4 * 1024 * 1024;

/// Size in bytes of the buffer through which a file goes that the system does not send by itself (asyncio
/// `SENDFILE_FALLBACK_READBUFFER_SIZE`).
pub(crate) const SENDFILE_BUFFER: usize = 256 * 1024;

/// How much that has arrived and was not decrypted a TLS transport keeps before it stops reading, and how little there has
/// to be for it to go on, in bytes (`FLOW_CONTROL_HIGH_WATER_SSL_READ` of asyncio's `constants.py`, and a quarter of it).
#[cfg(feature = "__tls")]
pub(crate) const TLS_READ_HIGH_WATER: usize = 256 * 1024;
#[cfg(feature = "__tls")]
pub(crate) const TLS_READ_LOW_WATER: usize = TLS_READ_HIGH_WATER / WATER_RATIO;

/// How much is encrypted in one go: four records of the largest size, so that little that is encrypted waits, and few
/// system calls send it.
#[cfg(feature = "__tls")]
pub(crate) const TLS_SEND_SIZE: usize = 64 * 1024;

/// How long a TLS handshake may take (`SSL_HANDSHAKE_TIMEOUT` of asyncio's `constants.py`, which has it of nginx).
#[cfg(feature = "__tls")]
pub(crate) const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end of a TLS connection may take without progress (`SSL_SHUTDOWN_TIMEOUT` of asyncio's `constants.py`,
/// which has it of Apache).
#[cfg(feature = "__tls")]
pub(crate) const TLS_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The stack of a thread that waits for the end of a child process and does nothing else; sanitizers make the frames of a few
/// calls larger than the smallest stack.
pub(crate) const WAITER_STACK: usize = 256 * 1024;

/// How long, in real time, a loop under test waits before its time jumps for what is on its way between two of its own
/// descriptors. On loopback the kernel delivers in the call that sends, unless its own thread for that is at work.
#[cfg(feature = "test-util")]
pub(crate) const IO_GRACE: Duration = Duration::from_millis(1);

/// How long, in real time, nothing may happen in a loop under test while its time stands still.
#[cfg(feature = "test-util")]
pub(crate) const REAL_LIMIT: Duration = Duration::from_secs(10);
