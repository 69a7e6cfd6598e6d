//! A test under many seeds.

use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{give_up_payload, panic_text};
use crate::testing::Builder;

/// The environment variable that names the one seed to run.
const SEED: &str = "ROUNDELAY_SEED";

/// Runs a test under so many seeds, each on a loop of its own: as [`for_each_seed`] from zero on, with
/// [`Builder::seed`] and [`Builder::block_on`].
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// roundelay::testing::explore(50, || async {
///     let sum = Rc::new(Cell::new(0));
///     let add = |n| {
///         let sum = sum.clone();
///         roundelay::spawn(async move { sum.set(sum.get() + n) })
///     };
///     let (one, two) = (add(1), add(2));
///     one.await.unwrap();
///     two.await.unwrap();
///     // Whichever was first.
///     assert_eq!(sum.get(), 3);
/// });
/// ```
///
/// # Panics
///
/// As [`for_each_seed`].
#[track_caller]
pub fn explore<F: IntoFuture>(runs: u64, mut test: impl FnMut() -> F) {
    each_seed("testing::explore", 0..runs, |seed| {
        Builder::new().seed(seed).block_on(async { drop(test().await) });
    });
}

/// Calls a function with each of these seeds, for [`Builder::seed`], until one fails.
///
/// If the environment variable `ROUNDELAY_SEED` is set, the function is called with that seed alone: so the panic that
/// has found an order which fails also says how to see it again.
///
/// ```
/// use std::time::Duration;
///
/// use roundelay::testing;
///
/// testing::for_each_seed(100..120, |seed| {
///     testing::Builder::new().seed(seed).permute_timers(true).block_on(async {
///         let el = roundelay::get_running_loop().unwrap();
///         let timers: Vec<_> = (0..5).map(|n| el.call_later(Duration::from_secs(1), move || n)).collect();
///         for (n, timer) in timers.into_iter().enumerate() {
///             assert_eq!(timer.await.unwrap(), n);
///         }
///     });
/// });
/// ```
///
/// # Panics
///
/// If the function panics, with the seed, the way to run it alone, and the text of the panic. If `ROUNDELAY_SEED` is set
/// to something that is no seed.
#[track_caller]
pub fn for_each_seed(seeds: Range<u64>, test: impl FnMut(u64)) {
    each_seed("testing::for_each_seed", seeds, test);
}

#[track_caller]
fn each_seed(method: &str, seeds: Range<u64>, mut test: impl FnMut(u64)) {
    let (first, last) = (seeds.start, seeds.end);
    let only = match env::var(SEED).map(|text| text.trim().parse::<u64>()) {
        Err(env::VarError::NotPresent) => None,
        Ok(Ok(seed)) => Some(seed),
        Ok(Err(_)) | Err(env::VarError::NotUnicode(_)) => {
            panic!("{method}(): {SEED} is no seed: {:?}", env::var_os(SEED).unwrap_or_default())
        }
    };
    let seeds = if only.is_some() { 0..0 } else { seeds };
    for seed in only.into_iter().chain(seeds) {
        // Not by a closure, which knows nothing of the caller's place.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            let text = panic_text(&*payload).to_owned();
            give_up_payload(payload);
            panic!("{method}(): seed {seed} of {first}..{last} fails ({SEED}={seed} runs it alone): {text}");
        }
    }
}
