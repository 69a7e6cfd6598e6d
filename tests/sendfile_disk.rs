//! Files on disks (behaviours SF): the loop never waits for one; sizes and offsets beyond 32 bits.

#[path = "common/faults.rs"]
mod faults;
#[path = "common/files.rs"]
mod files;
#[path = "common/seccomp.rs"]
mod seccomp;

mod common;
mod wire;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Kind, alone, complete, on_loop, run_alone, run_until};
use faults::with_faults;
use files::{drain, file, position};
use roundelay::EventLoop;
use wire::{NETS, Net, Record, Tap, attach, connect, finish, pattern, sockets, until_lost};

const LARGE: usize = 3_000_000;

const KINDS: [Kind; 3] = [Kind::Epoll, Kind::Polling, Kind::Level];

/// Sends a file to a peer that takes it, and checks what arrives.
fn send_and_check(el: &EventLoop) {
    for net in NETS {
        let record = Record::new();
        let (transport, peer) = connect(el, net, Tap::new(&record));
        let data = pattern(LARGE);
        let file = file(&data);
        let sending = el.create_task(el.sendfile(&transport, &file).offset(1).fallback(false).into_future());
        run_until(el, || peer.count() == LARGE - 1);
        assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64 - 1);
        assert!(peer.received() == data[1..]);
        assert_eq!(position(&file), LARGE as u64);
        finish(el, &transport, &record);
    }
}

/// Runs `send_and_check` where the question whether a page is in memory is answered by `errno`; gives how many reads at a
/// place were made, which only the pool's threads make.
fn reads_where_pages_are(errno: Option<i32>) -> Option<usize> {
    let reads = AtomicUsize::new(0);
    let count = |_: &[u64; 6]| {
        reads.fetch_add(1, Ordering::SeqCst);
        None
    };
    let ran = with_faults(libc::SYS_pread64, count, || {
        if let Some(errno) = errno {
            seccomp::refuse(libc::SYS_preadv2, errno).unwrap();
        }
        KINDS.into_iter().for_each(|kind| run_alone(|| kind.builder(), send_and_check));
    });
    ran.then(|| reads.load(Ordering::SeqCst))
}

/// Pages that are not in memory are read by a thread before they are sent, and so are all where the system does not say
/// which are; those that are in memory are not.
#[test]
fn pages_that_are_absent_are_read_by_the_pool() {
    let _alone = alone();
    // In pieces of 64 KiB, in six runs.
    let all = 6 * (LARGE - 1).div_ceil(64 * 1024);
    for errno in [libc::EAGAIN, libc::EOPNOTSUPP, libc::ENOSYS] {
        let Some(reads) = reads_where_pages_are(Some(errno)) else { return };
        assert!(reads >= all, "{reads} reads for {errno}");
    }
    assert_eq!(reads_where_pages_are(None), Some(0));
}

/// Pages that the kernel has dropped come back whole.
#[test]
fn pages_that_the_kernel_has_dropped() {
    on_loop(|el| {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let data = pattern(LARGE);
        let file = file(&data);
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        run_until(el, || peer.count() == LARGE);
        complete(el, sending).unwrap().unwrap();
        assert!(peer.received() == data);
        finish(el, &transport, &record);
    });
}

/// A file without content that takes no room on the disk.
fn sparse(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

on_every_loop! {
    /// SF-02: offsets beyond four gigabytes.
    fn offsets_beyond_32_bits(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let place = (5 << 30) + 7;
            let file = sparse(place);
            file.write_all_at(b"far behind", place).unwrap();
            assert_eq!(complete(el, el.sendfile(&transport, &file).offset(place - 3).into_future()).unwrap(), 13);
            assert_eq!(position(&file), place + 10);
            assert_eq!(complete(el, el.sendfile(&transport, &file).offset(place).count(3).into_future()).unwrap(), 3);
            assert_eq!(position(&file), place + 3);
            run_until(el, || peer.count() == 16);
            assert_eq!(peer.received(), b"\0\0\0far behindfar");
            finish(el, &transport, &record);
        }
    }
}

/// SF-01: more than the system sends in one call: two gigabytes and a bit.
#[test]
fn more_than_two_gigabytes() {
    on_loop(|el| {
        let record = Record::new();
        let (near, far) = sockets(Net::Tcp);
        let (transport, _) = attach(el, near, Tap::new(&record));
        let size = (2 << 30) + 12_345;
        let file = sparse(size);
        let drained = drain(far);
        // As long as it takes.
        assert_eq!(el.run_until_complete(el.sendfile(&transport, &file).into_future()).unwrap().unwrap(), size);
        assert_eq!(position(&file), size);
        transport.close();
        until_lost(el, &record);
        assert_eq!(drained.join().unwrap().unwrap(), size);
    });
}
