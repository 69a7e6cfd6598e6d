//! Who reads, and when: pausing, giving back, changing the protocol.

use crate::protocol::AnyProtocol;
use crate::testing::check::bench::{Bench, Checked, End, ensure, pattern};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

use Callback::{Data, Eof, Lost, Made};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "pause-reading",
        contract: "nothing is delivered while reading is paused, and all of it when reading is resumed",
        needs: &[],
        check: pause_reading,
    },
    Item {
        name: "pause-in-made",
        contract: "a protocol that pauses reading in connection_made gets nothing before it resumes",
        needs: &[],
        check: pause_in_made,
    },
    Item {
        name: "pause-in-data",
        contract: "a protocol that pauses reading in data_received gets no more before it resumes",
        needs: &[],
        check: pause_in_data,
    },
    Item {
        name: "eof-after-pause",
        contract: "an end of file behind bytes that were held up comes behind them",
        needs: &[],
        check: eof_after_pause,
    },
    Item {
        name: "unread",
        contract: "what was given back comes again, together with what arrives next and before it",
        needs: &[Need::Unread],
        check: unread,
    },
    Item {
        name: "unread-to-the-next",
        contract: "what was given back goes to the next protocol first, whether it was set before or after",
        needs: &[Need::Unread],
        check: unread_to_the_next,
    },
    Item {
        name: "set-protocol",
        contract: "another protocol hears of all that follows, but not of connection_made, and the one before of nothing",
        needs: &[],
        check: set_protocol,
    },
    Item {
        name: "set-protocol-within",
        contract: "a protocol that is changed from within a callback is changed when that returns",
        needs: &[],
        check: set_protocol_within,
    },
];

/// Has both ends exchange something, where they can, so that what was written before is there.
fn ping(bench: &Bench<'_>, near: &End, far: &End) -> Checked {
    if bench.support.both_ways {
        let before = near.probe.len();
        far.write(b"ping");
        bench.until_received(near, before + 4)?;
    }
    bench.rest()
}

fn pause_reading(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    far.pause_reading();
    far.pause_reading();
    ensure!(!far.transport.is_reading(), "is_reading() is true after pause_reading()");
    near.write(&pattern(3000));
    ping(bench, &near, &far)?;
    ensure!(far.probe.len() == 0, "{} bytes came while reading was paused", far.probe.len());
    far.resume_reading();
    far.resume_reading();
    ensure!(far.transport.is_reading(), "is_reading() is false after resume_reading()");
    bench.until_received(&far, 3000)?;
    far.expect_bytes(&pattern(3000))
}

fn pause_in_made(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.once(Made, |end, _| end.pause_reading());
    near.once(Made, |end, _| end.write(b"early"));
    let (near, far) = bench.connect(near, far)?;
    near.write(b" bird");
    ping(bench, &near, &far)?;
    ensure!(!far.probe.has(Data), "bytes came while reading was paused");
    far.resume_reading();
    bench.until_received(&far, 10)?;
    far.expect_bytes(b"early bird")
}

fn pause_in_data(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.on(Data, |end, _| end.pause_reading());
    let (near, far) = bench.connect(near, far)?;
    let data = pattern(400_000);
    near.write(&data);
    bench.until("the first bytes", || far.probe.has(Data))?;
    bench.rest()?;
    let mut calls = 1;
    loop {
        ensure!(far.probe.count(Data) == calls, "data_received came again though it had paused reading");
        if far.probe.len() >= data.len() {
            break;
        }
        far.resume_reading();
        calls += 1;
        bench.until("more bytes", || far.probe.count(Data) >= calls)?;
        bench.rest()?;
    }
    far.expect_bytes(&data)
}

fn eof_after_pause(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    far.pause_reading();
    near.write(&pattern(3000));
    near.close();
    bench.rest()?;
    ensure!(!far.probe.has(Data) && !far.probe.has(Eof), "something came while reading was paused");
    far.resume_reading();
    bench.until_lost(&[&far, &near])?;
    far.expect(&[Made, Data, Eof, Lost])?;
    far.expect_bytes(&pattern(3000))
}

fn unread(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.once(Data, |end, data| end.unread(data));
    let (near, far) = bench.connect(near, far)?;
    near.write(b"ab");
    bench.until("the first bytes", || far.probe.len() >= 2)?;
    bench.rest()?;
    far.expect_bytes(b"ab")
        .map_err(|error| format!("{error}: what was given back came again with nothing behind it"))?;
    near.write(b"cd");
    bench.until_received(&far, 6)?;
    far.expect_bytes(b"ababcd")?;
    ensure!(far.probe.count(Data) == 2, "what was given back came apart from what arrived next");
    Ok(())
}

fn unread_to_the_next(bench: &Bench<'_>) -> Checked {
    for sets_first in [true, false] {
        let (near, far) = bench.probes();
        let (next, set) = (bench.late_probe(), bench.late_probe());
        let heir = next.clone();
        far.once(Data, move |end, data| {
            if sets_first {
                end.set_protocol(heir);
                end.unread(&data[1..]);
            } else {
                end.unread(&data[1..]);
                end.set_protocol(heir);
            }
        });
        drop(set);
        let (near, far) = bench.connect(near, far)?;
        near.write(b"1given back");
        bench.until("what was given back", || next.len() >= 10)?;
        near.write(b", and more");
        bench.until("what came behind it", || next.len() >= 20)?;
        ensure!(next.bytes() == b"given back, and more", "the next protocol got {:?}", next.bytes());
        far.expect_bytes(b"1given back")?;
    }
    Ok(())
}

fn set_protocol(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    near.write(b"one");
    bench.until_received(&far, 3)?;
    let next = bench.late_probe();
    let protocol = AnyProtocol::new(next.clone());
    far.set_protocol(protocol.clone());
    let is_set = far.transport.protocol().is_some_and(|now| now.is_same(&protocol));
    ensure!(is_set, "protocol() is not the one that was set");
    near.write(b"two");
    bench.until("the next bytes", || next.len() >= 3)?;
    near.close();
    bench.until("connection_lost of the next protocol", || next.lost().is_some())?;
    bench.rest()?;
    far.expect_bytes(b"one")?;
    far.expect(&[Made, Data])?;
    ensure!(next.bytes() == b"two", "the next protocol got {:?}", next.bytes());
    ensure!(next.heard() == [Data, Eof, Lost], "the next protocol heard {:?}", next.heard());
    Ok(())
}

fn set_protocol_within(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    let next = bench.late_probe();
    let heir = next.clone();
    far.once(Data, move |end, _| end.set_protocol(heir));
    let (near, far) = bench.connect(near, far)?;
    near.write(b"one");
    bench.until_received(&far, 3)?;
    near.write(b"two");
    bench.until("the next bytes", || next.len() >= 3)?;
    far.expect_bytes(b"one")?;
    ensure!(next.bytes() == b"two", "the next protocol got {:?}", next.bytes());
    Ok(())
}
