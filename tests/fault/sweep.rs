//! Runs a scenario once for each system call and each way in which that may fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use roundelay::fault::{Call, Fault, finish, inject};
use roundelay::{EventLoop, KeepOpen, ManualClock, Protocol, Transport};

use crate::common::{Kind, alone, run_alone, take_reports};

/// What may happen to each kind of call, besides an interruption: what the manual pages say of it.
fn faults(call: Call) -> &'static [Fault] {
    use Fault::{Error, Short};
    match call {
        Call::Socket => &[Error(libc::EMFILE), Error(libc::ENOBUFS), Error(libc::ENOMEM)],
        Call::Bind => &[Error(libc::ENOMEM), Error(libc::EADDRINUSE)],
        Call::Listen => &[Error(libc::EADDRINUSE)],
        Call::Connect => &[Error(libc::ECONNRESET), Error(libc::ENOBUFS), Error(libc::EAGAIN)],
        Call::Accept => &[
            Error(libc::EMFILE),
            Error(libc::ENOBUFS),
            Error(libc::ENOMEM),
            Error(libc::EAGAIN),
            Error(libc::ECONNABORTED),
        ],
        Call::Receive | Call::ReceiveFrom => {
            &[Short, Error(libc::EAGAIN), Error(libc::ECONNRESET), Error(libc::ENOBUFS), Error(libc::ENOMEM)]
        }
        Call::Send | Call::SendTo | Call::Sendfile => &[
            Short,
            Error(libc::EAGAIN),
            Error(libc::ECONNRESET),
            Error(libc::EPIPE),
            Error(libc::ENOBUFS),
            Error(libc::ENOMEM),
        ],
        // Not ENOTCONN, which says that the connection is gone, and is believed.
        Call::Shutdown => &[Error(libc::ENOBUFS)],
        Call::Option | Call::Name => &[Error(libc::ENOBUFS)],
        Call::Watch => &[Error(libc::ENOMEM)],
        _ => &[Error(libc::ENOMEM)],
    }
}

/// Whether nobody has to notice: the call is made again, or goes on where it was.
fn is_harmless(call: Call, fault: Fault) -> bool {
    match fault {
        // There is nothing to wait for: no port is free.
        Fault::Error(libc::EAGAIN) => call != Call::Connect,
        Fault::Error(code) => code == libc::EINTR,
        _ => true,
    }
}

/// What a run has to say for itself.
#[derive(Clone, Default)]
pub struct Witness(Rc<Seen>);

#[derive(Default)]
struct Seen {
    errors: RefCell<Vec<String>>,
    made: Cell<usize>,
    lost: Cell<usize>,
}

impl Witness {
    /// Somebody was told of an error.
    pub fn error(&self, who: &str, error: &io::Error) {
        self.0.errors.borrow_mut().push(format!("{who}: {error}"));
    }

    /// Notes an error, and gives what there is otherwise.
    pub fn check<T>(&self, who: &str, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.error(who, &error)).ok()
    }

    /// Whether nobody was told of any error.
    pub fn is_clean(&self) -> bool {
        self.0.errors.borrow().is_empty()
    }

    /// `connection_made` was called; `lost` has to follow.
    pub fn made(&self) {
        self.0.made.set(self.0.made.get() + 1);
    }

    pub fn lost(&self, who: &str, error: Option<io::Error>) {
        self.0.lost.set(self.0.lost.get() + 1);
        if let Some(error) = error {
            self.error(who, &error);
        }
    }

    /// A protocol whose callbacks are watched.
    pub fn protocol<P: Protocol>(&self, name: &'static str, inner: P) -> Watched<P> {
        Watched { witness: self.clone(), name, inner, lost: 0 }
    }

    fn check_balance(&self) {
        assert_eq!(self.0.made.get(), self.0.lost.get(), "connection_lost has to come once for each connection_made");
    }
}

/// A protocol, and how often its connection was made and lost.
pub struct Watched<P> {
    witness: Witness,
    name: &'static str,
    pub inner: P,
    lost: usize,
}

impl<P: Protocol> Protocol for Watched<P> {
    fn connection_made(&mut self, transport: &Transport) {
        self.witness.made();
        self.inner.connection_made(transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        assert_eq!(self.lost, 0, "data after connection_lost");
        self.inner.data_received(transport, data);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.inner.eof_received(transport)
    }
    fn pause_writing(&mut self, transport: &Transport) {
        self.inner.pause_writing(transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.inner.resume_writing(transport);
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.lost += 1;
        assert_eq!(self.lost, 1, "connection_lost came twice");
        let copy = error.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()));
        self.inner.connection_lost(transport, error);
        self.witness.lost(self.name, copy);
    }
}

/// Bytes in which a lost, a doubled and a misplaced one shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_be_bytes()).take(len).collect()
}

/// What arrived is what was sent, or where errors are told of the beginning of it.
#[track_caller]
pub fn check_bytes(witness: &Witness, sent: &[u8], arrived: &[u8]) {
    assert!(sent.starts_with(arrived), "{} bytes were sent, and {} other ones arrived", sent.len(), arrived.len());
    if witness.is_clean() {
        assert_eq!(sent.len(), arrived.len(), "bytes are lost, and nobody was told");
    }
}

/// How long one run may take.
const BOUND: Duration = Duration::from_secs(10);

/// A loop in a run, whose clock goes on when nothing else does: pauses after errors take no time.
pub struct Stage<'a> {
    pub el: &'a EventLoop,
    clock: &'a ManualClock,
    pub witness: Witness,
}

impl Stage<'_> {
    /// Runs the loop until the condition holds.
    #[track_caller]
    pub fn run_until(&self, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + BOUND;
        let mut idle = 0;
        while !condition() {
            assert!(Instant::now() < deadline, "it hangs; errors so far: {:?}", self.witness.0.errors.borrow());
            idle = if self.el.run_once(Some(Duration::from_millis(1))).unwrap() == 0 { idle + 1 } else { 0 };
            if idle > 3 {
                self.clock.advance(Duration::from_secs(1));
            }
        }
    }

    /// Runs a future to its end.
    #[track_caller]
    pub fn complete<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let mut task = self.el.create_task(future);
        self.run_until(|| task.is_done());
        self.el.run_until_complete(&mut task).unwrap().unwrap()
    }
}

/// Runs a scenario with each fault at each place. `build` is what it needs beside the loop.
pub fn sweep(scenario: impl Fn(&Stage<'_>)) {
    let _alone = alone();
    // ci/fault.sh has a process for each.
    let only = std::env::var("ROUNDELAY_FAULT_SELECTOR").ok();
    for kind in [Kind::Epoll, Kind::Level] {
        if only.as_ref().is_some_and(|only| *only != format!("{kind:?}").to_lowercase()) {
            continue;
        }
        let (calls, _) = run(kind, None, &scenario);
        let kinds: BTreeSet<Call> = calls.iter().copied().collect();
        let mut runs = 0;
        for call in kinds {
            let interrupted = std::iter::once(Fault::Error(libc::EINTR));
            for fault in interrupted.chain(faults(call).iter().copied()) {
                // A run with a fault may make more calls than one without.
                for nth in 0.. {
                    let (_, happened) = run(kind, Some((call, nth, fault)), &scenario);
                    runs += 1;
                    if !happened {
                        break;
                    }
                    assert!(nth < 2000, "{call:?}: there is no end to the calls");
                }
            }
        }
        println!("{kind:?}: {} calls, {runs} runs", calls.len());
    }
}

fn run(kind: Kind, plan: Option<(Call, u64, Fault)>, scenario: &impl Fn(&Stage<'_>)) -> (Vec<Call>, bool) {
    // Shown where an assertion fails.
    let shown = Shown(plan);
    let clock = ManualClock::new();
    let given = clock.clone();
    let (witness, log) = (Witness::default(), Cell::new(None));
    run_alone(
        || kind.builder().clock(given),
        |el| {
            match plan {
                Some((call, nth, fault)) => inject(Some(call), nth, fault),
                None => inject(None, u64::MAX, Fault::Short),
            }
            let stage = Stage { el, clock: &clock, witness: witness.clone() };
            scenario(&stage);
            for report in take_reports() {
                witness.0.errors.borrow_mut().push(report);
            }
            log.set(Some(finish()));
            witness.check_balance();
        },
    );
    let (calls, happened) = log.take().unwrap();
    let happened = happened && plan.is_some();
    let quiet = plan.is_none_or(|(call, _, fault)| !happened || is_harmless(call, fault));
    let errors = witness.0.errors.borrow();
    assert!(!quiet || errors.is_empty(), "nothing is amiss, and there are errors: {errors:?}");
    drop(errors);
    std::mem::forget(shown);
    (calls, happened)
}

/// Says which run it was that failed.
struct Shown(Option<(Call, u64, Fault)>);

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = finish();
        match self.0 {
            None => eprintln!("in the run without a fault"),
            Some((call, nth, fault)) => eprintln!("in the run with {fault:?} at call {nth} of {call:?}"),
        }
    }
}
