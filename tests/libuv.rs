//! What libuv promises beside asyncio (behaviours LU).

mod common;
mod wire;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{Log, complete, poll_times, run_until};
use roundelay::selector::Interest;
use roundelay::{AsyncFd, Protocol, Transport};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use wire::{Net, attach, sockets};

/// Leaves a line when its connection is gone.
struct Ends(Log, &'static str);

impl Protocol for Ends {
    fn connection_lost(&mut self, _: &Transport, _: Option<std::io::Error>) {
        self.0.push(self.1);
    }
}

on_every_loop! {
    /// LU-02: a turn without a limit waits until something happens, and does that; one with a limit of zero does not
    /// wait, and does what is there.
    fn turns_that_wait_and_turns_that_do_not(el) {
        let (a, b) = UnixStream::pair().unwrap();
        let calls = Rc::new(Cell::new(0));
        let count = calls.clone();
        el.add_reader(&a, move || count.set(count.get() + 1)).unwrap();
        // Nothing is there, and nothing will be, for as long as this turn would wait.
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(calls.get(), 0);
        let far = el.call_later(Duration::from_secs(3600), || ());
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert!(!far.is_done() && far.cancel());
        let timer = el.call_later(Duration::from_millis(3), || ());
        while !timer.is_done() {
            assert!(el.run_once(None).unwrap() <= 1);
        }
        let remote = el.remote();
        let thread = std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap()));
        assert_eq!(el.run_once(None).unwrap(), 1);
        thread.join().unwrap();
        (&b).write_all(b"x").unwrap();
        assert_eq!(el.run_once(None).unwrap(), 1);
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 1);
        assert_eq!(calls.get(), 2);
        assert!(el.remove_reader(&a));
    }

    /// LU-03: protocols hear that their connections are closed behind what was scheduled before, in the order of closing.
    fn the_order_of_closing(el) {
        let log = Log::new();
        let mut peers = Vec::new();
        let mut open = |name| {
            let (near, far) = sockets(Net::Unix);
            peers.push(far);
            attach(el, near, Ends(log.clone(), name)).0
        };
        let (first, second, third) = (open("first lost"), open("second lost"), open("third lost"));
        el.call_soon(log.entry("scheduled before"));
        let (handle, entry) = (el.clone(), log.clone());
        el.call_soon(move || {
            entry.push("closing");
            handle.call_soon(entry.entry("scheduled by it"));
            second.close();
            third.abort();
            first.close();
            handle.call_soon(entry.entry("scheduled last"));
        });
        el.call_soon(log.entry("of the same turn"));
        run_until(el, || log.len() == 8);
        assert_eq!(log.take(), [
            "scheduled before",
            "closing",
            "of the same turn",
            "scheduled by it",
            "second lost",
            "third lost",
            "first lost",
            "scheduled last",
        ]);
    }

    /// LU-14: changes of files, by the system's own facility: a change and a renaming are told, and waiting can be given
    /// up.
    fn changes_of_files(el) {
        let folder = tempfile::tempdir().unwrap();
        let (file, renamed) = (folder.path().join("file"), folder.path().join("renamed"));
        fs::write(&file, "").unwrap();
        let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&changes, folder.path(), WatchFlags::MODIFY | WatchFlags::MOVED_TO).unwrap();
        complete(el, async {
            let changes = AsyncFd::with_interest(changes, Interest::READABLE).unwrap();
            assert!(poll_times(changes.readable(), 1).await.is_none());
            let next = async || {
                changes
                    .async_io(Interest::READABLE, |fd| {
                        let mut buffer = [MaybeUninit::uninit(); 512];
                        let mut reader = Reader::new(fd, &mut buffer);
                        let event = reader.next()?;
                        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
                        Ok((event.events(), name))
                    })
                    .await
                    .unwrap()
            };
            for _ in 0..4 {
                fs::write(&file, "changed").unwrap();
                let (what, name) = next().await;
                assert!(what.contains(ReadFlags::MODIFY) && name == "file");
                // Both of truncating and writing may be told.
                while let Some((what, _)) = poll_times(next(), 1).await {
                    assert!(what.contains(ReadFlags::MODIFY));
                }
            }
            fs::rename(&file, &renamed).unwrap();
            let (what, name) = next().await;
            assert!(what.contains(ReadFlags::MOVED_TO) && name == "renamed");
            assert!(poll_times(next(), 1).await.is_none());
        });
    }
}
