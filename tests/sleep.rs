//! What a `Sleep` says of itself.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{complete, on_manual_clock};
use roundelay::{Sleep, sleep, sleep_until};

/// Polls once, with a waker that is not needed.
fn poll(sleep: &mut Sleep) -> Poll<()> {
    Pin::new(sleep).poll(&mut Context::from_waker(Waker::noop()))
}

/// A sleep of no time has its deadline from its first poll on, and is over with its second one.
#[test]
fn a_sleep_of_no_time() {
    on_manual_clock(|el, _| {
        let now = el.time();
        complete(el, async {
            let mut nothing = sleep(Duration::ZERO);
            assert_eq!((nothing.deadline(), nothing.is_elapsed()), (None, false));
            assert!(poll(&mut nothing).is_pending());
            assert_eq!((nothing.deadline(), nothing.is_elapsed()), (Some(now), false));
            assert!(poll(&mut nothing).is_ready());
            assert_eq!((nothing.deadline(), nothing.is_elapsed()), (Some(now), true));
        });
    });
}

/// Any other sleep has it from then on, too, or from the start where it was given; a reset begins again.
#[test]
fn a_sleep_of_some_time() {
    on_manual_clock(|el, clock| {
        let (now, second) = (el.time(), Duration::from_secs(1));
        complete(el, async {
            let mut some = sleep(second);
            assert_eq!((some.deadline(), some.is_elapsed()), (None, false));
            assert!(poll(&mut some).is_pending());
            assert_eq!((some.deadline(), some.is_elapsed()), (Some(now + second), false));
            assert_eq!(sleep_until(now + second).deadline(), Some(now + second));
            clock.advance(second);
            some.await;
            let mut again = sleep(Duration::ZERO);
            assert!(poll(&mut again).is_pending());
            again.reset(now + 2 * second);
            assert_eq!((again.deadline(), again.is_elapsed()), (Some(now + 2 * second), false));
            assert!(poll(&mut again).is_pending());
            clock.advance(second);
            (&mut again).await;
            assert!(again.is_elapsed());
        });
    });
}
