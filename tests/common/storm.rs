//! A storm of signals, each of which interrupts whatever system call a thread is in. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// How many signals were handled, in the whole process.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// Signals to the thread that has made it, one after the other, until it is dropped.
pub struct Storm {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    before: libc::sigaction,
    handled: usize,
}

impl Storm {
    pub fn begin() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: all bytes of the structure may be zero; without SA_RESTART system calls are interrupted. The handler does
        // nothing but count. The disposition before is filled in.
        let (before, target) = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
            libc::sigemptyset(&raw mut action.sa_mask);
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, before.as_mut_ptr()), 0);
            (before.assume_init(), libc::pthread_self())
        };
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = thread::spawn(move || {
            let mut sent = HANDLED.load(Ordering::SeqCst);
            while !ended.load(Ordering::SeqCst) {
                // One at a time: the thread gets on in between.
                if HANDLED.load(Ordering::SeqCst) == sent {
                    sent += 1;
                    // SAFETY: the target is alive, because it joins this thread.
                    assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
                }
                thread::yield_now();
            }
            // The last one is not to come when the handler is gone.
            while HANDLED.load(Ordering::SeqCst) < sent {
                thread::yield_now();
            }
        });
        Self { end, thread: Some(thread), before, handled: HANDLED.load(Ordering::SeqCst) }
    }

    /// How many signals there were so far.
    pub fn handled(&self) -> usize {
        HANDLED.load(Ordering::SeqCst) - self.handled
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // SAFETY: the disposition is the one that was there before.
        unsafe { libc::sigaction(libc::SIGUSR1, &raw const self.before, null_mut()) };
    }
}
