//! A transport that an application wrote.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use roundelay::{
    AnyProtocol, BaseTransport, ExtraInfo, ReadTransport, StreamTransport, Transport, TransportId, WaiterId,
    WaterMarks, WriteReady, WriteTransport,
};

/// A carrier of the application's own, which adds nothing to the one below.
#[derive(Debug)]
pub struct Own {
    id: TransportId,
    carrier: Transport,
    /// Delivered as soon as reading is resumed, within the call.
    at_once: Rc<RefCell<Vec<u8>>>,
    /// For the one who waits.
    waiting: RefCell<Option<WriteReady>>,
}

impl Own {
    pub fn over(carrier: &Transport) -> Transport {
        Self::delivering(carrier, &Rc::default())
    }

    /// One that delivers what is in here as soon as it is told to read again, and does not wait for a turn of its own.
    pub fn delivering(carrier: &Transport, at_once: &Rc<RefCell<Vec<u8>>>) -> Transport {
        let (at_once, waiting) = (at_once.clone(), RefCell::new(None));
        Transport::new(Rc::new(Self { id: TransportId::next(), carrier: carrier.clone(), at_once, waiting }))
    }

    fn poll_waiting(&self, cx: &mut Context<'_>, make: fn(&Transport) -> WriteReady) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.borrow_mut();
        let polled = Pin::new(waiting.get_or_insert_with(|| make(&self.carrier))).poll(cx);
        if polled.is_ready() {
            *waiting = None;
        }
        polled
    }
}

impl BaseTransport for Own {
    fn id(&self) -> TransportId {
        self.id
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

impl ReadTransport for Own {
    fn is_reading(&self) -> bool {
        self.carrier.is_reading()
    }
    fn pause_reading(&self) {
        self.carrier.pause_reading();
    }
    fn resume_reading(&self) {
        self.carrier.resume_reading();
        let data = self.at_once.take();
        if let Some(protocol) = self.protocol().filter(|_| !data.is_empty()) {
            protocol.data_received(&self.carrier, &data).unwrap();
        }
    }
    fn unread(&self, data: &[u8]) {
        self.carrier.unread(data);
    }
}

impl WriteTransport for Own {
    fn write(&self, data: &[u8]) {
        self.carrier.write(data);
    }
    fn write_owned(&self, data: Bytes) {
        self.carrier.write_owned(data);
    }
    fn writelines(&self, data: &[IoSlice<'_>]) {
        self.carrier.writelines(data);
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

impl StreamTransport for Own {
    fn protocol(&self) -> Option<AnyProtocol> {
        self.carrier.protocol()
    }
    fn set_protocol(&self, protocol: AnyProtocol) {
        self.carrier.set_protocol(protocol);
    }
}
