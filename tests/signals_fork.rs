//! Signals that come to a child of `fork` whose parent has a loop that listens for them (behaviours SG). What becomes of the
//! loop itself in the child stands in `fork_system.rs`.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/signals.rs"]
mod signals;

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use common::{run_until, settle};
use fork::fork;
use roundelay::{EventLoop, RunError, Runner, SignalKind};
use signals::{DEFAULT, IGNORED, Set, disposition, foreign_calls, is_caught, raise};

const INTERRUPT: SignalKind = SignalKind::interrupt();
const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();

/// A handler that counts.
fn count(el: &EventLoop, kind: SignalKind) -> Rc<Cell<usize>> {
    let counted = Rc::new(Cell::new(0));
    let counter = counted.clone();
    el.add_signal_handler(kind, move || counter.set(counter.get() + 1)).unwrap();
    counted
}

forked! {
    /// SG-13: what comes to the child is not told to the parent's loop. It has the effect that it had before there was one:
    /// it ends the child, or is ignored, ..
    fn a_child_has_its_own_signals(el) {
        let _ignored = Set::ignored(TWO);
        let (ones, twos) = (count(el, ONE), count(el, TWO));
        fork(|| {
            raise(TWO);
            raise(ONE);
        })
        .dies_of(ONE.as_raw());
        settle(el);
        assert_eq!((ones.get(), twos.get()), (0, 0));
        // The parent's are as they were.
        raise(ONE);
        raise(TWO);
        run_until(el, || (ones.get(), twos.get()) == (1, 1));
        el.close();
        assert_eq!([disposition(ONE).handler, disposition(TWO).handler], [DEFAULT, IGNORED]);
    }

    /// SG-13: .. or is nobody's, where there was a handler of the application's before.
    fn a_child_drops_what_had_a_handler_before(el) {
        let _foreign = Set::foreign(ONE);
        let counted = count(el, ONE);
        fork(|| {
            raise(ONE);
            assert_eq!(foreign_calls(), 0);
            // A loop of the child's own puts everything right.
            drop(EventLoop::new().unwrap().signal(TWO).unwrap());
            raise(ONE);
            assert_eq!(foreign_calls(), 1);
        })
        .wait();
        settle(el);
        assert_eq!((counted.get(), foreign_calls()), (0, 0));
        el.close();
    }

    /// SG-13: a loop that the child makes has handlers of its own, which take nothing from the parent's, while the parent's
    /// descriptors are there as well; and it leaves the dispositions as they were before the parent's.
    fn a_child_runs_a_loop_of_its_own(el) {
        let (ones, twos) = (count(el, ONE), count(el, TWO));
        fork(|| {
            let own = EventLoop::new().unwrap();
            let counted = count(&own, ONE);
            // Not listened for by anybody here, so not caught.
            assert!(is_caught(ONE) && !is_caught(TWO));
            raise(ONE);
            run_until(&own, || counted.get() == 1);
            let mut runner = Runner::builder().cancel_on_interrupt(Duration::from_secs(3600)).build();
            let result = runner.run(async {
                raise(INTERRUPT);
                pending::<()>().await
            });
            assert_eq!(result, Err(RunError::Interrupted));
            runner.close();
            own.close();
            assert_eq!(disposition(ONE).handler, DEFAULT);
            assert_eq!((ones.get(), twos.get()), (0, 0));
        })
        .wait();
        settle(el);
        assert_eq!((ones.get(), twos.get()), (0, 0));
        raise(ONE);
        raise(TWO);
        run_until(el, || (ones.get(), twos.get()) == (1, 1));
    }
}
