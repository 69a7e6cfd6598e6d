//! How a connection begins, and that what is written arrives.

use crate::protocol::Transport;
use crate::testing::check::bench::{Bench, Checked, End, ensure, pattern};
use crate::testing::check::probe::Callback;
use crate::testing::check::{Item, Need};

pub(super) const ITEMS: &[Item] = &[
    Item {
        name: "made-first",
        contract: "connection_made is the first callback, and comes once to each protocol",
        needs: &[],
        check: made_first,
    },
    Item {
        name: "ids-differ",
        contract: "no other transport has the same id, and clones of a handle are equal",
        needs: &[],
        check: ids_differ,
    },
    Item {
        name: "open-state",
        contract: "an open transport is not closing, has its protocol, reads, and has nothing queued",
        needs: &[],
        check: open_state,
    },
    Item {
        name: "data-in-order",
        contract: "what is written arrives once and in order, in pieces of any size",
        needs: &[],
        check: data_in_order,
    },
    Item {
        name: "kinds-of-writes",
        contract: "write, write_owned and writelines keep their order among each other, whatever is queued",
        needs: &[],
        check: kinds_of_writes,
    },
    Item { name: "large-data", contract: "a megabyte arrives intact", needs: &[], check: large_data },
    Item {
        name: "both-directions",
        contract: "the two directions do not get into each other's way",
        needs: &[Need::BothWays],
        check: both_directions,
    },
    Item { name: "write-in-made", contract: "what connection_made writes arrives", needs: &[], check: write_in_made },
    Item { name: "echo", contract: "what data_received writes arrives", needs: &[Need::BothWays], check: echo },
    Item {
        name: "buffered",
        contract: "a protocol with a receive buffer of its own gets the same bytes",
        needs: &[],
        check: buffered,
    },
    Item {
        name: "handles-own-nothing",
        contract: "an open connection lives though nobody holds a handle",
        needs: &[],
        check: handles_own_nothing,
    },
];

fn made_first(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    bench.rest()?;
    near.expect(&[Callback::Made])?;
    far.expect(&[Callback::Made])
}

fn ids_differ(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.pair()?;
    let (c, d) = bench.pair()?;
    let mut ids = [&a, &b, &c, &d].map(|end| end.transport.id());
    ids.sort_unstable();
    ensure!(ids.windows(2).all(|pair| pair[0] != pair[1]), "the ids of four transports were {ids:?}");
    ensure!(a.transport == a.transport.clone(), "a handle is not equal to its clone");
    ensure!(a.transport.id() == a.transport.id(), "an id does not stay the same");
    Ok(())
}

fn open_state(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    for end in [&near, &far] {
        ensure!(!end.transport.is_closing(), "is_closing() is true on an open connection");
        let protocol = end.transport.protocol();
        ensure!(protocol.is_some(), "protocol() is None on an open connection");
    }
    ensure!(far.transport.is_reading(), "is_reading() is false on an open connection");
    ensure!(near.queued() == 0, "write_buffer_size() is {} before anything was written", near.queued());
    Ok(())
}

fn data_in_order(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    let data = pattern(40_000);
    let (mut rest, mut n) = (&data[..], 0);
    while !rest.is_empty() {
        // Nothing at all, too.
        let (piece, behind) = rest.split_at((n * n % 997).min(rest.len()));
        near.write(piece);
        rest = behind;
        n += 1;
        if n % 16 == 0 {
            bench.rest()?;
        }
    }
    bench.until_received(&far, data.len())?;
    bench.rest()?;
    far.expect_bytes(&data)
}

fn kinds_of_writes(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    // Some while everything is sent at once, some behind what is queued.
    let mut written = Vec::new();
    for round in 0..2 {
        let data = pattern(9_000);
        let mut pieces = vec![&data[..0], &data[..1], &data[1..400], &data[400..400]];
        // More than a system call takes.
        pieces.extend(data[400..4000].chunks(2));
        near.writelines(&pieces);
        near.write(&data[4000..5000]);
        near.write_owned(data[5000..6000].to_vec());
        near.write_owned(Vec::new());
        near.writelines(&[&data[6000..7000], &data[7000..]]);
        written.extend_from_slice(&data);
        if round == 0 && bench.support.flow_control {
            written.extend(bench.fill(&near, &far)?);
        }
    }
    far.resume_reading();
    bench.until_received(&far, written.len())?;
    bench.rest()?;
    far.expect_bytes(&written)
}

fn large_data(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    let data = pattern(1_200_007);
    near.write(&data[..700_000]);
    near.write(&data[700_000..]);
    bench.until_received(&far, data.len())?;
    bench.rest()?;
    far.expect_bytes(&data)?;
    ensure!(near.queued() == 0, "write_buffer_size() is {} when all has arrived", near.queued());
    Ok(())
}

fn both_directions(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.pair()?;
    let (there, back) = (pattern(500_001), pattern(300_007));
    for (n, piece) in there.chunks(50_000).enumerate() {
        near.write(piece);
        far.write(back.chunks(50_000).nth(n).unwrap_or_default());
        if n % 3 == 2 {
            bench.rest()?;
        }
    }
    bench.until_received(&far, there.len())?;
    bench.until_received(&near, back.len())?;
    far.expect_bytes(&there)?;
    near.expect_bytes(&back)
}

fn write_in_made(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    near.once(Callback::Made, |end, _| {
        end.write(b"from ");
        end.write(b"connection_made");
    });
    let (_near, far) = bench.connect(near, far)?;
    bench.until_received(&far, 20)?;
    far.expect_bytes(b"from connection_made")
}

fn echo(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.on(Callback::Data, End::write);
    let (near, far) = bench.connect(near, far)?;
    let data = pattern(200_000);
    for piece in data.chunks(7_000) {
        near.write(piece);
    }
    bench.until_received(&near, data.len())?;
    far.expect_bytes(&data)?;
    near.expect_bytes(&data)
}

fn buffered(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    far.be_buffered();
    let (near, far) = bench.connect(near, far)?;
    let data = pattern(100_000);
    near.write(&data);
    bench.until_received(&far, data.len())?;
    far.expect_bytes(&data)?;
    near.close();
    bench.until_lost(&[&near, &far])?;
    far.expect(&[Callback::Made, Callback::Data, Callback::Eof, Callback::Lost])
}

fn handles_own_nothing(bench: &Bench<'_>) -> Checked {
    let (near, far) = bench.probes();
    near.once(Callback::Made, |end, _| end.write(b"hello"));
    far.once(Callback::Data, |end, _| end.call("close()", Transport::close));
    let (near, far) = bench.connect(near, far).map(|(near, far)| (near.probe, far.probe))?;
    bench.forget_ends();
    bench.until("what was written", || far.len() == 5)?;
    bench.until("connection_lost of the receiver", || far.lost().is_some())?;
    bench.until("connection_lost of the sender", || near.lost().is_some())
}
