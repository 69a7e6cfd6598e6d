//! Files over transports of the application's own, and in processes that other programs host (behaviours SF).

#[path = "common/files.rs"]
mod files;
#[path = "common/seccomp.rs"]
mod seccomp;

mod common;
mod wire;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{complete, on_loop, run_until, settle};
use files::{file, position};
use roundelay::{
    AnyProtocol, BaseTransport, ExtraInfo, InvalidState, ReadTransport, SendfileNotAvailable, StreamTransport,
    Transport, TransportId, WaiterId, WaterMarks, WriteReady, WriteTransport,
};
use wire::{Net, Record, Tap, connect, connect_narrow, finish, pattern, until_lost};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

/// A carrier that adds one to each byte on its way.
struct Cipher {
    carrier: Transport,
    /// For the one who waits.
    waiting: RefCell<Option<WriteReady>>,
}

impl Cipher {
    fn poll_waiting(&self, cx: &mut Context<'_>, make: fn(&Transport) -> WriteReady) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.borrow_mut();
        let polled = Pin::new(waiting.get_or_insert_with(|| make(&self.carrier))).poll(cx);
        if polled.is_ready() {
            *waiting = None;
        }
        polled
    }

    fn over(carrier: &Transport) -> Transport {
        Transport::new(Rc::new(Self { carrier: carrier.clone(), waiting: RefCell::new(None) }))
    }
}

fn shifted(data: &[u8]) -> Vec<u8> {
    data.iter().map(|byte| byte.wrapping_add(1)).collect()
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<Cipher over {:?}>", self.carrier)
    }
}

impl BaseTransport for Cipher {
    fn id(&self) -> TransportId {
        self.carrier.id()
    }
    fn is_closing(&self) -> bool {
        self.carrier.is_closing()
    }
    fn close(&self) {
        self.carrier.close();
    }
    fn abort(&self) {
        self.carrier.abort();
    }
    fn extra_info(&self) -> ExtraInfo {
        self.carrier.extra_info()
    }
}

impl ReadTransport for Cipher {
    fn is_reading(&self) -> bool {
        self.carrier.is_reading()
    }
    fn pause_reading(&self) {
        self.carrier.pause_reading();
    }
    fn resume_reading(&self) {
        self.carrier.resume_reading();
    }
    fn unread(&self, data: &[u8]) {
        self.carrier.unread(data);
    }
}

impl WriteTransport for Cipher {
    fn write(&self, data: &[u8]) {
        self.carrier.write_owned(shifted(data));
    }
    fn write_owned(&self, data: Bytes) {
        self.write(&data);
    }
    fn writelines(&self, data: &[IoSlice<'_>]) {
        data.iter().for_each(|piece| self.write(piece));
    }
    fn write_eof(&self) {
        self.carrier.write_eof();
    }
    fn can_write_eof(&self) -> bool {
        self.carrier.can_write_eof()
    }
    fn write_buffer_size(&self) -> usize {
        self.carrier.write_buffer_size()
    }
    fn write_buffer_limits(&self) -> WaterMarks {
        self.carrier.write_buffer_limits()
    }
    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.carrier.set_write_buffer_limits(high, low)
    }
    fn set_write_buffer_cap(&self, cap: Option<usize>) {
        self.carrier.set_write_buffer_cap(cap);
    }
    fn poll_ready(&self, _: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_waiting(cx, Transport::ready)
    }
    fn poll_flushed(&self, _: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_waiting(cx, Transport::flushed)
    }
    fn forget_waiter(&self, _: WaiterId) {
        self.waiting.take();
    }
}

impl StreamTransport for Cipher {
    fn protocol(&self) -> Option<AnyProtocol> {
        self.carrier.protocol()
    }
    fn set_protocol(&self, protocol: AnyProtocol) {
        self.carrier.set_protocol(protocol);
    }
}

on_every_loop! {
    /// SF-12, SF-16: a transport that is no socket's is written to, as it takes it, with reading paused meanwhile; without
    /// a fallback it is refused.
    fn a_transport_of_ones_own(el) {
        let record = Record::new();
        let (carrier, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let cipher = Cipher::over(&carrier);
        let data = pattern(LARGE);
        let file = file(&data);
        let error = complete(el, el.sendfile(&cipher, &file).fallback(false).into_future()).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
        let text = "fallback is disabled, and bytes do not go straight from this transport to a socket";
        assert!(error.to_string().ends_with(text), "{error}");
        assert!(cipher.is_reading());
        let sending = el.create_task(el.sendfile(&cipher, &file).offset(1).into_future());
        settle(el);
        assert!(!cipher.is_reading());
        // The queue is that of one piece more than the high-water mark allows.
        assert!(cipher.write_buffer_size() < 400_000, "{}", cipher.write_buffer_size());
        run_until(el, || peer.count() == LARGE - 1);
        assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64 - 1);
        assert_eq!(position(&file), LARGE as u64);
        assert!(peer.received() == shifted(&data[1..]));
        assert!(cipher.is_reading());
        cipher.pause_reading();
        assert_eq!(complete(el, el.sendfile(&cipher, &file).count(5).into_future()).unwrap(), 5);
        assert!(!cipher.is_reading());
        finish(el, &carrier, &record);
        let error = complete(el, el.sendfile(&cipher, &file).into_future()).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<InvalidState>()), "{error:?}");
        assert_eq!(error.to_string(), "EventLoop::sendfile(): Transport is closing");
    }

    /// SF-14: its peer goes away, or it is closed, in the middle.
    fn a_transport_of_ones_own_that_ends(el) {
        for closed in [false, true] {
            let record = Record::new();
            let (carrier, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
            let cipher = Cipher::over(&carrier);
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&cipher, &file).into_future());
            run_until(el, || peer.sip(10_000) > 0);
            if closed {
                cipher.close();
                run_until(el, || peer.end().is_some());
                let error = complete(el, sending).unwrap().unwrap_err();
                // Whether the queue has room again or the connection is gone, whichever comes first.
                let said = ["the transport was closed while a file was sent", "Connection lost"];
                assert!(said.contains(&error.to_string().as_str()), "{error}");
                assert_eq!(peer.count() as u64, position(&file));
            } else {
                peer.close();
                let error = complete(el, sending).unwrap().unwrap_err();
                assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error:?}");
            }
            assert!((1..LARGE as u64).contains(&position(&file)));
            until_lost(el, &record);
        }
    }
}

/// SF-12: a pipe is no socket: it is written to; the end that is for reading takes no file.
#[test]
fn transports_of_pipes() {
    on_loop(|el| {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let record = Record::new();
        let connecting = el.connect_write_pipe(
            {
                let tap = Tap::new(&record);
                move || tap
            },
            write,
        );
        let (transport, _) = complete(el, connecting.into_future()).unwrap();
        let data = pattern(LARGE);
        let source = file(&data);
        let error = complete(el, el.sendfile(&transport, &source).fallback(false).into_future()).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
        let received = files::reader(std::fs::File::from(read), u64::MAX);
        assert_eq!(complete(el, el.sendfile(&transport, &source).into_future()).unwrap(), LARGE as u64);
        transport.close();
        until_lost(el, &record);
        assert!(received.join().unwrap() == data);

        let (read, _write) = rustix::pipe::pipe().unwrap();
        let record = Record::new();
        let (transport, _) = complete(
            el,
            el.connect_read_pipe(
                {
                    let tap = Tap::new(&record);
                    move || tap
                },
                read,
            )
            .into_future(),
        )
        .unwrap();
        let error = complete(el, el.sendfile(&transport, &source).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        assert!(transport.is_reading());
        finish(el, &transport, &record);
    });
}

/// Where SIGPIPE ends the process, as in programs that are not Rust's, the system's call is not made: it would send the
/// signal for a peer that is gone. What is written instead does not.
#[test]
fn a_process_that_sigpipe_would_end() {
    on_loop(|el| {
        seccomp::with_default_sigpipe(|| {
            let record = Record::new();
            let (transport, peer) = connect(el, Net::Unix, Tap::new(&record));
            let file = file(b"abc");
            let error = complete(el, el.sendfile(&transport, &file).fallback(false).into_future()).unwrap_err();
            assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
            assert!(error.to_string().contains("SIGPIPE"), "{error}");
            assert_eq!(complete(el, el.sendfile(&transport, &file).into_future()).unwrap(), 3);
            transport.pause_reading();
            peer.close();
            let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            until_lost(el, &record);
        });
    });
}
