//! How a connection is closed, and how it is aborted.

use crate::protocol::Transport;
use crate::testing::check::bench::{Bench, Checked, End, ensure};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

use Callback::{Data, Eof, Lost, Made};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "close",
        contract: "close gives connection_lost(None), once and last; the peer hears eof_received and connection_lost(None)",
        needs: &[],
        check: close,
    },
    Item {
        name: "close-flushes",
        contract: "close sends first what is queued, for as long as that takes",
        needs: &[Need::FlowControl],
        check: close_flushes,
    },
    Item {
        name: "abort",
        contract: "abort drops what is queued, and connection_lost(None) comes whatever the peer does",
        needs: &[Need::FlowControl],
        check: abort,
    },
    Item {
        name: "abort-while-closing",
        contract: "a close that waits for its queue can be aborted",
        needs: &[Need::FlowControl],
        check: abort_while_closing,
    },
    Item {
        name: "ends-once",
        contract: "close and abort in any combination give one connection_lost",
        needs: &[],
        check: ends_once,
    },
    Item {
        name: "close-by-both",
        contract: "a connection that both ends close at once is lost once at each",
        needs: &[],
        check: close_by_both,
    },
    Item {
        name: "peer-aborts",
        contract: "an end whose peer has aborted hears connection_lost",
        needs: &[],
        check: peer_aborts,
    },
    Item {
        name: "gone",
        contract: "a transport that is lost is closing, has no protocol and nothing queued, and all methods do nothing",
        needs: &[],
        check: gone,
    },
    Item {
        name: "write-after-close",
        contract: "what is written after close is dropped in silence",
        needs: &[],
        check: write_after_close,
    },
    Item {
        name: "close-in-made",
        contract: "a protocol may close the connection as soon as it is made",
        needs: &[],
        check: close_in_made,
    },
    Item {
        name: "silent-after-close",
        contract: "nothing more is received after close",
        needs: &[],
        check: silent_after_close,
    },
];

fn close(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write(b"bye");
    near.close();
    ensure!(near.transport.is_closing(), "is_closing() is false after close()");
    bench.until_lost(&[&near, &far])?;
    bench.rest()?;
    near.expect_lost(Ok(()))?;
    far.expect_lost(Ok(()))?;
    far.expect_bytes(b"bye")?;
    far.expect(&[Made, Data, Eof, Lost])
}

fn close_flushes(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    let data = bench.fill(&near, &far)?;
    near.close();
    bench.rest()?;
    ensure!(!near.probe.has(Lost), "connection_lost came while {} bytes were queued", near.queued());
    far.resume_reading();
    bench.until_received(&far, data.len())?;
    bench.until_lost(&[&near, &far])?;
    far.expect_bytes(&data)?;
    near.expect_lost(Ok(()))?;
    far.expect_lost(Ok(()))
}

fn abort(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    let data = bench.fill(&near, &far)?;
    near.abort();
    ensure!(near.transport.is_closing(), "is_closing() is false after abort()");
    ensure!(near.queued() == 0, "{} bytes are queued after abort()", near.queued());
    bench.until_lost(&[&near])?;
    near.expect_lost(Ok(()))?;
    far.resume_reading();
    bench.until_lost(&[&far])?;
    let received = far.probe.bytes();
    ensure!(data.starts_with(&received), "what the peer of an aborted connection received was not what was sent");
    ensure!(received.len() < data.len(), "abort() has sent what was queued");
    Ok(())
}

fn abort_while_closing(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    bench.fill(&near, &far)?;
    near.close();
    bench.rest()?;
    near.abort();
    bench.until_lost(&[&near])?;
    near.expect_lost(Ok(()))
}

fn ends_once(bench: &Bench<'_>) -> Checked {
    const CLOSE: fn(&End) = End::close;
    const ABORT: fn(&End) = End::abort;
    for (first, second) in [(CLOSE, CLOSE), (CLOSE, ABORT), (ABORT, CLOSE), (ABORT, ABORT)] {
        for later in [false, true] {
            let (near, far) = bench.pair()?;
            first(&near);
            if later {
                bench.until_lost(&[&near])?;
            }
            second(&near);
            bench.until_lost(&[&near, &far])?;
            bench.rest()?;
            near.expect_ended(bench.support)?;
            near.expect_lost(Ok(()))?;
            ensure!(far.probe.count(Lost) == 1, "connection_lost came {} times", far.probe.count(Lost));
        }
    }
    Ok(())
}

fn close_by_both(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write(b"bye");
    near.close();
    far.close();
    bench.until_lost(&[&near, &far])?;
    bench.rest()?;
    for end in [&near, &far] {
        ensure!(end.probe.count(Lost) == 1, "connection_lost came {} times", end.probe.count(Lost));
    }
    Ok(())
}

fn peer_aborts(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.abort();
    bench.until_lost(&[&near, &far])?;
    bench.rest()?;
    near.expect_lost(Ok(()))?;
    ensure!(far.transport.is_closing(), "is_closing() is false though the peer has aborted");
    Ok(())
}

fn gone(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.close();
    bench.until_lost(&[&near, &far])?;
    bench.rest()?;
    for end in [&near, &far] {
        ensure!(end.transport.is_closing(), "is_closing() is false after connection_lost");
        ensure!(end.transport.protocol().is_none(), "protocol() is not None after connection_lost");
        let heard = end.probe.heard();
        end.close();
        end.abort();
        ensure!(!end.transport.is_reading(), "is_reading() is true after connection_lost");
        bench.rest()?;
        ensure!(end.probe.heard() == heard, "a method called the protocol of a connection that is gone");
    }
    near.write(b"nobody hears this");
    near.writelines(&[b"nobody", b"hears this"]);
    ensure!(near.queued() == 0, "{} bytes are queued on a connection that is gone", near.queued());
    if bench.support.both_ways {
        near.pause_reading();
        near.resume_reading();
        near.unread(b"nobody hears this");
    }
    let late = bench.late_probe();
    near.set_protocol(late.clone());
    ensure!(near.transport.protocol().is_none(), "set_protocol() gives a protocol to a connection that is gone");
    bench.rest()?;
    ensure!(late.heard().is_empty(), "a protocol was called that was set on a connection that is gone");
    Ok(())
}

fn write_after_close(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write(b"before");
    near.close();
    near.write(b"after");
    near.writelines(&[b"after", b"that"]);
    near.write_owned(b"later".to_vec());
    bench.until_lost(&[&near, &far])?;
    far.expect_bytes(b"before")
}

fn close_in_made(bench: &Bench<'_>) -> Checked {
    for method in [Transport::close as fn(&Transport), Transport::abort] {
        let (near, far) = bench.probes();
        near.once(Made, move |end, _| end.call("close() or abort()", method));
        let (near, far) = bench.connect(near, far)?;
        bench.until_lost(&[&near, &far])?;
        bench.rest()?;
        near.expect_ended(bench.support)?;
        near.expect_lost(Ok(()))?;
    }
    Ok(())
}

fn silent_after_close(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.once(Data, |end, _| end.close());
    let (near, far) = bench.connect(near, far)?;
    near.write(b"first");
    bench.until("the first bytes", || far.probe.has(Data))?;
    let before = far.probe.len();
    near.write(b"second");
    bench.until_lost(&[&far])?;
    bench.rest()?;
    ensure!(!far.transport.is_reading(), "is_reading() is true after close()");
    ensure!(far.probe.len() == before && far.probe.count(Data) == 1, "bytes came after close()");
    far.expect_lost(Ok(()))
}
