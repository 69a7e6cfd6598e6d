//! Flow control, and who waits for it.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Poll;

use crate::protocol::WaterMarks;
use crate::testing::check::bench::{Bench, Checked, End, ensure, pattern};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

use Callback::{Lost, Pause, Resume};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "limits",
        contract: "one water mark gives the other, none the defaults, and a low one above the high one is refused",
        needs: &[],
        check: limits,
    },
    Item {
        name: "counts-what-is-queued",
        contract: "write_buffer_size is what was written and not sent",
        needs: &[Need::FlowControl],
        check: counts_what_is_queued,
    },
    Item {
        name: "pauses-above-high",
        contract: "pause_writing comes when more than the high-water mark is queued, not before, and once",
        needs: &[Need::FlowControl],
        check: pauses_above_high,
    },
    Item {
        name: "marks-count-at-once",
        contract: "a high-water mark that is set below what is queued pauses at once",
        needs: &[Need::FlowControl],
        check: marks_count_at_once,
    },
    Item {
        name: "resumes-at-low",
        contract: "resume_writing comes when no more than the low-water mark is queued, not before, and once",
        needs: &[Need::FlowControl],
        check: resumes_at_low,
    },
    Item {
        name: "ready",
        contract: "ready is pending while writing is paused, for all who wait, and a wait that was given up harms no other",
        needs: &[Need::FlowControl],
        check: ready,
    },
    Item {
        name: "ready-fails",
        contract: "ready and flushed give an error when the connection is gone",
        needs: &[Need::FlowControl],
        check: ready_fails,
    },
    Item {
        name: "flushed",
        contract: "flushed is pending while something is queued",
        needs: &[Need::FlowControl],
        check: flushed,
    },
    Item {
        name: "write-buffer-cap",
        contract: "more than the cap in the queue ends the connection with WriteZero, just the cap does not",
        needs: &[Need::FlowControl],
        check: write_buffer_cap,
    },
    Item {
        name: "not-resumed-when-lost",
        contract: "nobody is told to resume writing to a connection that is lost",
        needs: &[Need::FlowControl],
        check: not_resumed_when_lost,
    },
];

/// A sender with something queued, and a receiver that does not read; what was written.
fn full(bench: &Bench<'_>) -> Checked<(End, End, Vec<u8>)> {
    let (near, far) = bench.pair()?;
    let data = bench.fill(&near, &far)?;
    Ok((near, far, data))
}

fn set(near: &End, high: usize, low: impl Into<Option<usize>>) -> Checked {
    near.limits(Some(high), low.into()).map_err(|error| format!("set_write_buffer_limits() has failed: {error}"))
}

fn limits(bench: &Bench<'_>) -> Checked {
    let (near, _far) = bench.pair()?;
    let defaults = near.transport.write_buffer_limits();
    let cases = [
        (Some(100), Some(10), WaterMarks { high: 100, low: 10 }),
        (Some(100), None, WaterMarks { high: 100, low: 25 }),
        (None, Some(100), WaterMarks { high: 400, low: 100 }),
        (Some(0), None, WaterMarks { high: 0, low: 0 }),
        (Some(7), Some(7), WaterMarks { high: 7, low: 7 }),
        (None, None, defaults),
    ];
    for (high, low, expected) in cases {
        near.limits(high, low).map_err(|error| format!("the marks {high:?}, {low:?} were refused: {error}"))?;
        let marks = near.transport.write_buffer_limits();
        ensure!(marks == expected, "the marks {high:?}, {low:?} became {marks:?}");
    }
    match near.limits(Some(10), Some(11)) {
        Ok(()) => return Err("a low mark above the high one was taken".into()),
        Err(error) => {
            ensure!(error.kind() == ErrorKind::InvalidInput, "such marks were refused with {:?}", error.kind())
        }
    }
    let marks = near.transport.write_buffer_limits();
    ensure!(marks == defaults, "marks that were refused have changed something: {marks:?}");
    bench.rest()?;
    ensure!(!near.probe.has(Pause), "pause_writing came with nothing queued");
    Ok(())
}

fn counts_what_is_queued(bench: &Bench<'_>) -> Checked {
    let (near, far, mut data) = full(bench)?;
    let before = near.queued();
    ensure!(before <= data.len(), "{before} bytes are queued of {} that were written", data.len());
    near.write(&pattern(1000));
    data.extend(pattern(1000));
    let after = near.queued();
    ensure!(after == before + 1000, "write_buffer_size() went from {before} to {after} by a write of 1000 bytes");
    far.resume_reading();
    bench.until_received(&far, data.len())?;
    bench.until("an empty queue", || near.queued() == 0)?;
    far.expect_bytes(&data)
}

fn pauses_above_high(bench: &Bench<'_>) -> Checked {
    let (near, _far, _) = full(bench)?;
    let high = near.queued() + 500;
    set(&near, high, None)?;
    // The carrier may have taken a little more meanwhile.
    let fill_up = |size: usize| near.write(&pattern(size.saturating_sub(near.queued())));
    let (most_unpaused, least_paused) = if bench.support.pauses_at_high { (high - 1, high) } else { (high, high + 1) };
    fill_up(most_unpaused);
    bench.rest()?;
    ensure!(!near.probe.has(Pause), "pause_writing came with {} bytes queued and the mark at {high}", near.queued());
    fill_up(least_paused);
    ensure!(near.queued() >= least_paused, "nothing was queued behind what is queued");
    bench.until("pause_writing", || near.probe.has(Pause))?;
    near.write(&pattern(5000));
    bench.rest()?;
    ensure!(near.probe.count(Pause) == 1, "pause_writing came {} times", near.probe.count(Pause));
    ensure!(!near.probe.has(Resume), "resume_writing came though nothing was sent");
    Ok(())
}

fn marks_count_at_once(bench: &Bench<'_>) -> Checked {
    let (near, _far, _) = full(bench)?;
    set(&near, near.queued() / 2, None)?;
    bench.until("pause_writing", || near.probe.has(Pause))
}

fn resumes_at_low(bench: &Bench<'_>) -> Checked {
    let (near, far, data) = full(bench)?;
    let queued = near.queued();
    let (high, low) = (queued / 2, queued / 8);
    let at_resume = Rc::new(Cell::new(None));
    let seen = at_resume.clone();
    near.probe.once(Resume, move |end, _| seen.set(Some(end.queued())));
    set(&near, high, low)?;
    bench.until("pause_writing", || near.probe.has(Pause))?;
    bench.rest()?;
    ensure!(!near.probe.has(Resume), "resume_writing came though nothing was sent");
    far.resume_reading();
    bench.until("resume_writing", || near.probe.has(Resume))?;
    let size = at_resume.get().unwrap_or(0);
    ensure!(size <= low, "resume_writing came with {size} bytes queued and the low mark at {low}");
    bench.until_received(&far, data.len())?;
    bench.rest()?;
    let counts = (near.probe.count(Pause), near.probe.count(Resume));
    ensure!(counts == (1, 1), "pause_writing and resume_writing came {counts:?} times");
    far.expect_bytes(&data)
}

fn ready(bench: &Bench<'_>) -> Checked {
    let (near, far, _) = full(bench)?;
    ensure!(matches!(near.peek(near.transport.ready()), Poll::Ready(Ok(()))), "ready() waits though nobody was paused");
    set(&near, 1, None)?;
    bench.until("pause_writing", || near.probe.has(Pause))?;
    ensure!(near.peek(near.transport.ready()).is_pending(), "ready() does not wait while writing is paused");
    let done = Rc::new(Cell::new(0));
    let wait = || {
        let (done, transport) = (done.clone(), near.transport.clone());
        bench.el.create_task(async move {
            if transport.ready().await.is_ok() {
                done.set(done.get() + 1);
            }
        })
    };
    let (first, given_up, last) = (wait(), wait(), wait());
    bench.rest()?;
    ensure!(done.get() == 0, "ready() did not wait while writing is paused");
    given_up.cancel();
    bench.rest()?;
    far.resume_reading();
    bench.until("ready() of all who wait", || first.is_done() && last.is_done())?;
    bench.rest()?;
    ensure!(done.get() == 2, "{} of two who waited were told that writing goes on", done.get());
    ensure!(matches!(near.peek(near.transport.ready()), Poll::Ready(Ok(()))), "ready() waits though writing goes on");
    Ok(())
}

fn ready_fails(bench: &Bench<'_>) -> Checked {
    let (near, _far, _) = full(bench)?;
    set(&near, 1, None)?;
    bench.until("pause_writing", || near.probe.has(Pause))?;
    let failed = Rc::new(Cell::new(0));
    let waits = [near.transport.ready(), near.transport.flushed()].map(|wait| {
        let failed = failed.clone();
        bench.el.create_task(async move {
            let is_failed = wait.await.is_err();
            failed.set(failed.get() + usize::from(is_failed));
        })
    });
    bench.rest()?;
    near.abort();
    bench.until("the end of ready() and of flushed()", || waits.iter().all(|wait| wait.is_done()))?;
    ensure!(failed.get() == 2, "ready() or flushed() has succeeded on a connection that was aborted");
    bench.until_lost(&[&near])?;
    let is_failed = |poll| matches!(poll, Poll::Ready(Err(_)));
    ensure!(is_failed(near.peek(near.transport.ready())), "ready() gives no error on a connection that is gone");
    ensure!(is_failed(near.peek(near.transport.flushed())), "flushed() gives no error on a connection that is gone");
    Ok(())
}

fn flushed(bench: &Bench<'_>) -> Checked {
    let (near, far, data) = full(bench)?;
    ensure!(near.peek(near.transport.flushed()).is_pending(), "flushed() does not wait while bytes are queued");
    let task = bench.el.create_task(near.transport.flushed());
    bench.rest()?;
    ensure!(!task.is_done(), "flushed() did not wait while bytes are queued");
    far.resume_reading();
    bench.until("flushed()", || task.is_done())?;
    ensure!(near.queued() == 0, "flushed() is ready and {} bytes are queued", near.queued());
    bench.until_received(&far, data.len())
}

fn write_buffer_cap(bench: &Bench<'_>) -> Checked {
    let (near, _far, _) = full(bench)?;
    let cap = near.queued() + 500;
    near.cap(cap);
    near.write(&pattern(cap.saturating_sub(near.queued())));
    bench.rest()?;
    ensure!(!near.probe.has(Lost), "the connection was lost with {} bytes queued and the cap at {cap}", near.queued());
    near.write(&pattern(200_000));
    bench.until_lost(&[&near])?;
    near.expect_lost(Err(ErrorKind::WriteZero))
}

fn not_resumed_when_lost(bench: &Bench<'_>) -> Checked {
    let (near, _far, _) = full(bench)?;
    set(&near, 1, None)?;
    bench.until("pause_writing", || near.probe.has(Pause))?;
    near.abort();
    bench.until_lost(&[&near])?;
    bench.rest()?;
    ensure!(!near.probe.has(Resume), "resume_writing came to a connection that was aborted");
    Ok(())
}
