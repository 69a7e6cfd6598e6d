//! Calls on a file, which block, made on a thread.
//!
//! The thread is the stream's own and not one of the default executor's: a disk that does not answer is not waited for at
//! the program's end, and output is written though all other threads are busy.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};

use crate::constants::{READ_SIZE, WRITE_CHUNK};
use crate::event_loop::EventLoop;
use crate::event_loop::job::lock;
use crate::executor::thread_pool::ThreadPoolExecutor;
use crate::os::channel::{read, write};
use crate::os::fd::{AsFd, OwnedFd};
use crate::os::lease::Standard;
use crate::transport::stream::{Elsewhere, SocketTransport};

thread_local! {
    /// The transports of this thread's loops that have a standard stream which is a file. A thread has nothing else by which
    /// to name them.
    static FILES: RefCell<[Weak<SocketTransport>; 3]> = const { RefCell::new([Weak::new(), Weak::new(), Weak::new()]) };
}

/// One file, of which one call at a time is made.
pub(super) struct FileCalls {
    el: EventLoop,
    pool: ThreadPoolExecutor,
    standard: Standard,
    shared: Arc<Shared>,
}

struct Shared {
    fd: OwnedFd,
    call: Mutex<Call>,
}

enum Call {
    None,
    UnderWay,
    /// These bytes were read, and some of them were taken.
    Read {
        bytes: Vec<u8>,
        taken: usize,
    },
    /// So many bytes were written.
    Written(usize),
    Failed(io::Error),
}

impl FileCalls {
    pub(super) fn new(el: &EventLoop, standard: Standard, fd: OwnedFd, transport: &Rc<SocketTransport>) -> Self {
        FILES.with_borrow_mut(|files| files[standard as usize] = Rc::downgrade(transport));
        let shared = Arc::new(Shared { fd, call: Mutex::new(Call::None) });
        Self { el: el.clone(), pool: ThreadPoolExecutor::new(1), standard, shared }
    }

    /// Makes a call on the thread. Gives `WouldBlock`, unless there can be no thread.
    fn begin(&self, call: impl FnOnce(&Shared) -> io::Result<Call> + Send + 'static) -> io::Error {
        *lock(&self.shared.call) = Call::UnderWay;
        let (shared, remote, standard) = (self.shared.clone(), self.el.remote(), self.standard);
        let blocking = self.el.run_in_executor(Some(&self.pool), move || {
            let done = call(&shared).unwrap_or_else(Call::Failed);
            *lock(&shared.call) = done;
            // The loop may be gone.
            let _ = remote.call_soon_threadsafe(move || {
                let transport = FILES.with_borrow(|files| files[standard as usize].upgrade());
                if let Some(transport) = transport {
                    transport.try_again();
                }
            });
        });
        let refused = blocking.is_done() && matches!(*lock(&self.shared.call), Call::UnderWay);
        if refused {
            io::Error::other("there is no thread to work on the file")
        } else {
            io::ErrorKind::WouldBlock.into()
        }
    }
}

impl Elsewhere for FileCalls {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut call = lock(&self.shared.call);
        match std::mem::replace(&mut *call, Call::None) {
            Call::Read { bytes, taken } => {
                let n = buffer.len().min(bytes.len() - taken);
                buffer[..n].copy_from_slice(&bytes[taken..taken + n]);
                if taken + n < bytes.len() {
                    *call = Call::Read { bytes, taken: taken + n };
                }
                Ok(n)
            }
            Call::Failed(error) => Err(error),
            Call::None => {
                drop(call);
                Err(self.begin(|shared| {
                    let mut bytes = vec![0; READ_SIZE];
                    let n = read(shared.fd.as_fd(), &mut bytes)?;
                    bytes.truncate(n);
                    Ok(Call::Read { bytes, taken: 0 })
                }))
            }
            other @ (Call::UnderWay | Call::Written(_)) => {
                *call = other;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn send(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut call = lock(&self.shared.call);
        match std::mem::replace(&mut *call, Call::None) {
            Call::Written(n) => Ok(n),
            Call::Failed(error) => Err(error),
            Call::None => {
                drop(call);
                let mut bytes = Vec::new();
                for piece in data {
                    bytes.extend_from_slice(&piece[..piece.len().min(WRITE_CHUNK - bytes.len())]);
                }
                Err(self.begin(move |shared| write(shared.fd.as_fd(), &bytes).map(Call::Written)))
            }
            other @ (Call::UnderWay | Call::Read { .. }) => {
                *call = other;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}
