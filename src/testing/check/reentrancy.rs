//! Methods that are called from within callbacks, and from outside of them.

use crate::testing::check::bench::{Bench, Checked, End, ensure, pattern};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

use Callback::{Data, Eof, Lost, Made, Pause, Resume};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "no-inline-calls",
        contract: "no method calls a protocol, whoever calls it",
        needs: &[],
        check: no_inline_calls,
    },
    Item {
        name: "notices-come-later",
        contract: "what a callback brings about is told when it has returned",
        needs: &[Need::BothWays, Need::FlowControl],
        check: notices_come_later,
    },
    Item {
        name: "reentrancy",
        contract: "each method may be called in each callback",
        needs: &[Need::BothWays],
        check: reentrancy,
    },
    Item {
        name: "reentrancy-of-flow",
        contract: "each method may be called in pause_writing and resume_writing",
        needs: &[Need::FlowControl],
        check: reentrancy_of_flow,
    },
];

/// What a callback may do.
type Act = (&'static str, fn(&End));

const ACTS: [Act; 9] = [
    ("write", |end| end.write(b"from within")),
    ("writelines", |end| end.writelines(&[b"from ", b"within"])),
    ("write much", |end| end.write(&pattern(300_000))),
    ("close", End::close),
    ("abort", End::abort),
    ("pause and resume reading", |end| {
        end.pause_reading();
        end.resume_reading();
    }),
    ("set the marks", |end| {
        let _ = end.limits(Some(0), None);
    }),
    ("set the same protocol", |end| {
        if let Some(protocol) = end.transport.protocol() {
            end.set_protocol(protocol);
        }
    }),
    ("close and write", |end| {
        end.write(b"last words");
        end.close();
        end.write(b"too late");
        end.abort();
    }),
];

fn no_inline_calls(bench: &Bench<'_>) -> Checked {
    // What a method brings about, or finds there, is not told within it: the probes look.
    let (near, far) = bench.pair()?;
    near.write(b"is there");
    near.write_owned(b"by now".to_vec());
    far.pause_reading();
    bench.rest()?;
    far.resume_reading();
    bench.until("the bytes", || far.probe.len() >= 14)?;
    if bench.support.unread {
        far.unread(b"given back");
    }
    far.set_protocol(bench.late_probe());
    let _ = near.limits(Some(0), None);
    if bench.support.flow_control {
        bench.fill(&near, &far)?;
        let _ = near.limits(Some(0), None);
    }
    near.close();
    near.abort();
    far.abort();
    bench.until_lost(&[&near])
}

fn notices_come_later(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    near.once(Data, |end, _| {
        let _ = end.limits(Some(0), None);
        end.write(&pattern(1000));
        end.close();
        end.abort();
    });
    let (near, far) = bench.connect(near, far)?;
    bench.fill(&near, &far)?;
    far.write(b"now");
    bench.until_lost(&[&near])?;
    ensure!(near.probe.count(Lost) == 1, "connection_lost came {} times", near.probe.count(Lost));
    near.expect_lost(Ok(()))
}

fn reentrancy(bench: &Bench<'_>) -> Checked {
    for callback in [Made, Data, Eof, Lost] {
        for (name, act) in ACTS {
            let case = |error: String| format!("{name} in {}: {error}", callback.name());
            let (near, far) = bench.probes();
            near.on(callback, move |end, _| act(end));
            let (near, far) = bench.connect(near, far).map_err(case)?;
            far.write(b"something");
            bench.rest().map_err(case)?;
            if !far.probe.has(Lost) {
                far.close();
            }
            bench.until_lost(&[&near, &far]).map_err(case)?;
            bench.rest().map_err(case)?;
            for end in [&near, &far] {
                let lost = end.probe.count(Lost);
                ensure!(lost == 1, "{}", case(format!("connection_lost came {lost} times")));
            }
        }
    }
    Ok(())
}

fn reentrancy_of_flow(bench: &Bench<'_>) -> Checked {
    for callback in [Pause, Resume] {
        for (name, act) in ACTS {
            if name == "pause and resume reading" && !bench.support.both_ways {
                continue;
            }
            let case = |error: String| format!("{name} in {}: {error}", callback.name());
            let (near, far) = bench.pair().map_err(case)?;
            bench.fill(&near, &far).map_err(case)?;
            // Once: what it writes may make the queue grow and shrink again.
            near.probe.once(callback, move |end, _| act(end));
            near.limits(Some(near.queued() / 2), None).map_err(|error| case(error.to_string()))?;
            bench.until("pause_writing", || near.probe.has(Pause)).map_err(case)?;
            far.resume_reading();
            bench.rest().map_err(case)?;
            near.close();
            bench.until_lost(&[&near, &far]).map_err(case)?;
        }
    }
    Ok(())
}
