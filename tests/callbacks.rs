//! Order and batches of `call_soon` (behaviours CS).

mod common;

use common::{Log, on_strict_loop, settle};

/// CS-01: first in, first out, each once.
#[test]
fn callbacks_run_in_order_and_once() {
    on_strict_loop(|el| {
        let log = Log::new();
        for entry in ["a", "b", "c"] {
            el.call_soon(log.entry(entry));
        }
        settle(el);
        assert_eq!(log.take(), ["a", "b", "c"]);
    });
}
