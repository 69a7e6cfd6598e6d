//! The half close, panics of protocols, and the end of the loop.

use crate::protocol::Transport;
use crate::testing::check::bench::{Bench, Checked, ensure};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

use Callback::{Data, Eof, Lost, Made, Pause, Resume};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "can-write-eof",
        contract: "can_write_eof tells whether the writing half can end alone",
        needs: &[Need::BothWays],
        check: can_write_eof,
    },
    Item {
        name: "half-close",
        contract: "after write_eof the peer hears eof_received once, may keep the connection open, and answer",
        needs: &[Need::HalfClose, Need::BothWays],
        check: half_close,
    },
    Item {
        name: "eof-after-data",
        contract: "write_eof sends first what is queued, and a second call does nothing",
        needs: &[Need::HalfClose, Need::BothWays, Need::FlowControl],
        check: eof_after_data,
    },
    Item {
        name: "eof-closes",
        contract: "a protocol that does not ask to keep the connection open after eof_received has it closed",
        needs: &[Need::HalfClose, Need::BothWays],
        check: eof_closes,
    },
    Item {
        name: "write-after-eof",
        contract: "a write after write_eof is reported to the exception handler, and not sent",
        needs: &[Need::HalfClose, Need::BothWays],
        check: write_after_eof,
    },
    Item {
        name: "panic-in-data",
        contract: "a panic in data_received is reported and ends the connection with an error",
        needs: &[],
        check: |bench| panic_ends(bench, Data),
    },
    Item {
        name: "panic-in-eof",
        contract: "a panic in eof_received is reported and ends the connection",
        needs: &[],
        check: |bench| panic_ends(bench, Eof),
    },
    Item {
        name: "panic-in-made",
        contract: "a panic in connection_made is reported and the connection goes on",
        needs: &[],
        check: panic_in_made,
    },
    Item {
        name: "panic-in-flow",
        contract: "a panic in pause_writing or resume_writing is reported and the connection goes on",
        needs: &[Need::FlowControl],
        check: panic_in_flow,
    },
    Item {
        name: "panic-in-lost",
        contract: "a panic in connection_lost is reported, and the transport is gone all the same",
        needs: &[],
        check: panic_in_lost,
    },
    Item {
        name: "outlives-the-loop",
        contract: "a transport whose loop is closed calls nobody, and all methods do nothing",
        needs: &[],
        check: outlives_the_loop,
    },
];

fn can_write_eof(bench: &Bench<'_>) -> Checked {
    let (near, _far) = bench.pair()?;
    let (can, is_said) = (near.transport.can_write_eof(), bench.support.half_close);
    ensure!(can == is_said, "can_write_eof() is {can}");
    Ok(())
}

fn half_close(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    near.keep_open();
    far.keep_open();
    let (near, far) = bench.connect(near, far)?;
    near.write(b"question");
    near.write_eof();
    ensure!(!near.transport.is_closing(), "is_closing() is true after write_eof()");
    bench.until("eof_received", || far.probe.has(Eof))?;
    far.expect_bytes(b"question")?;
    bench.rest()?;
    ensure!(!far.probe.has(Lost), "the connection was lost though eof_received asked to keep it open");
    ensure!(!far.transport.is_closing(), "is_closing() is true though eof_received asked to keep the connection open");
    ensure!(!far.transport.is_reading(), "is_reading() is true after eof_received");
    far.write(b"answer");
    bench.until_received(&near, 6)?;
    far.close();
    bench.until_lost(&[&far])?;
    bench.until("eof_received of the other end", || near.probe.has(Eof))?;
    bench.rest()?;
    ensure!(!near.probe.has(Lost), "connection_lost came to the end that asked to keep it open");
    near.close();
    bench.until_lost(&[&near])?;
    near.expect(&[Made, Data, Eof, Lost])?;
    far.expect(&[Made, Data, Eof, Lost])?;
    near.expect_lost(Ok(()))?;
    far.expect_lost(Ok(()))
}

fn eof_after_data(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.keep_open();
    let (near, far) = bench.connect(near, far)?;
    let data = bench.fill(&near, &far)?;
    near.write_eof();
    near.write_eof();
    far.resume_reading();
    bench.until("eof_received", || far.probe.has(Eof))?;
    far.expect_bytes(&data)?;
    near.write_eof();
    bench.rest()?;
    ensure!(!near.probe.has(Lost), "write_eof() has ended both halves");
    ensure!(far.probe.count(Eof) == 1, "eof_received came {} times", far.probe.count(Eof));
    Ok(())
}

fn eof_closes(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write_eof();
    bench.until_lost(&[&far, &near])?;
    far.expect(&[Made, Eof, Lost])?;
    far.expect_lost(Ok(()))
}

fn write_after_eof(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.keep_open();
    let (near, far) = bench.connect(near, far)?;
    near.write(b"before");
    near.write_eof();
    near.write(b"after");
    let reports = bench.take_reports();
    ensure!(reports.len() == 1, "{} problems were reported, not one", reports.len());
    bench.until("eof_received", || far.probe.has(Eof))?;
    bench.rest()?;
    far.expect_bytes(b"before")
}

fn expect_one_report(bench: &Bench<'_>, callback: Callback) -> Checked {
    let reports = bench.take_reports();
    let is_about_it = reports.iter().any(|report| report.contains("a panic of the check's protocol"));
    ensure!(is_about_it, "the panic in {} was not reported; this was: {reports:?}", callback.name());
    ensure!(reports.len() == 1, "the panic in {} was reported {} times", callback.name(), reports.len());
    Ok(())
}

fn panic_ends(bench: &Bench<'_>, callback: Callback) -> Checked {
    let (near, far) = bench.probes();
    far.panic_in(callback);
    let (near, far) = bench.connect(near, far)?;
    near.write(b"x");
    if callback == Eof {
        near.close();
    }
    bench.until_lost(&[&far, &near])?;
    expect_one_report(bench, callback)?;
    ensure!(callback == Eof || matches!(far.probe.lost(), Some(Err(_))), "connection_lost was told no error");
    Ok(())
}

fn panic_in_made(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.panic_in(Made);
    let (near, far) = bench.connect(near, far)?;
    near.write(b"goes on");
    bench.until_received(&far, 7)?;
    expect_one_report(bench, Made)
}

fn panic_in_flow(bench: &Bench<'_>) -> Checked {
    for callback in [Pause, Resume] {
        let (near, far) = bench.pair()?;
        let mut data = bench.fill(&near, &far)?;
        near.probe.panic_in(callback);
        near.limits(Some(1), None).map_err(|error| error.to_string())?;
        bench.until("pause_writing", || near.probe.has(Pause))?;
        far.resume_reading();
        bench.until("resume_writing", || near.probe.has(Resume))?;
        bench.rest()?;
        expect_one_report(bench, callback)?;
        near.write(b"goes on");
        data.extend_from_slice(b"goes on");
        bench.until_received(&far, data.len())?;
        far.expect_bytes(&data)?;
    }
    Ok(())
}

fn panic_in_lost(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.probe.panic_in(Lost);
    near.close();
    bench.until_lost(&[&near, &far])?;
    bench.rest()?;
    expect_one_report(bench, Lost)?;
    ensure!(near.transport.protocol().is_none(), "protocol() is not None after connection_lost");
    Ok(())
}

fn outlives_the_loop(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write(b"on its way");
    let heard = (near.probe.heard(), far.probe.heard());
    near.call("EventLoop::close()", |_| bench.el.close());
    // An open connection that is closed with its loop may be worth a warning.
    bench.take_reports();
    ensure!((near.probe.heard(), far.probe.heard()) == heard, "EventLoop::close() has called a protocol");
    near.write(b"nowhere");
    near.writelines(&[b"no", b"where"]);
    near.write_owned(b"nowhere".to_vec());
    if bench.support.both_ways {
        for method in [Transport::pause_reading, Transport::resume_reading, Transport::write_eof] {
            near.call("a method", method);
        }
    }
    near.set_protocol(bench.late_probe());
    for end in [&near, &far] {
        end.close();
        end.abort();
        ensure!(end.transport.is_closing(), "is_closing() is false when the loop is closed");
        let _ = (end.transport.protocol(), end.transport.write_buffer_size(), end.transport.extra_info());
    }
    ensure!((near.probe.heard(), far.probe.heard()) == heard, "a protocol was called whose loop is closed");
    bench.forget_ends();
    // The order in which an application lets go of things is its own.
    drop(far);
    drop(near);
    bench.take_reports();
    Ok(())
}
