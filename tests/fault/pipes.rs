//! The ends of pipes.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use roundelay::{Protocol, Transport, open_read_pipe, open_write_pipe};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::sweep::{check_bytes, pattern, sweep};

/// More than a pipe takes, so that something is queued.
const BYTES: usize = 200_000;

/// Keeps what comes until the end.
#[derive(Clone, Default)]
struct Collect {
    arrived: Rc<RefCell<Vec<u8>>>,
    done: Rc<Cell<bool>>,
}

impl Protocol for Collect {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.arrived.borrow_mut().extend_from_slice(data);
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.done.set(true);
    }
}

/// Writes everything, and ends.
struct Source(Rc<Vec<u8>>, Rc<Cell<bool>>);

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport) {
        let (first, rest) = self.0.split_at(self.0.len() / 3);
        transport.write(first);
        transport.writelines(&[io::IoSlice::new(&rest[..7]), io::IoSlice::new(&rest[7..])]);
        transport.write_eof();
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.1.set(true);
    }
}

#[test]
fn from_one_end_to_the_other() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (bytes, collect, sent) = (Rc::new(pattern(BYTES)), Collect::default(), Rc::new(Cell::new(false)));
        let reading = witness.protocol("reader", collect.clone());
        let reading = stage.complete(el.connect_read_pipe(move || reading, reader).into_future());
        let writing = witness.protocol("writer", Source(bytes.clone(), sent.clone()));
        let writing = stage.complete(el.connect_write_pipe(move || writing, writer).into_future());
        let (reads, writes) =
            (witness.check("connect_read_pipe", reading), witness.check("connect_write_pipe", writing));
        if reads.is_some() {
            stage.run_until(|| collect.done.get());
        }
        if writes.is_some() {
            stage.run_until(|| sent.get());
        }
        check_bytes(witness, &bytes, &collect.arrived.borrow());
    });
}

/// A reader that goes away is always noticed.
#[test]
fn a_reader_that_goes_away() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let collect = Collect::default();
        let writing = witness.protocol("writer", collect.clone());
        let writing = stage.complete(el.connect_write_pipe(move || writing, writer).into_future());
        drop(reader);
        if witness.check("connect_write_pipe", writing).is_some() {
            stage.run_until(|| collect.done.get());
        }
    });
}

#[test]
fn streams() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let reading = witness.check("open_read_pipe", open_read_pipe(reader).await);
            let writing = witness.check("open_write_pipe", open_write_pipe(writer).await);
            let bytes = pattern(BYTES);
            let (told, copy) = (witness.clone(), bytes.clone());
            let writing = roundelay::spawn(async move {
                let Some(mut writer) = writing else { return };
                for piece in copy.chunks(50_000) {
                    writer.write(piece);
                    told.check("drain", writer.drain().await);
                }
                writer.close();
                told.check("wait_closed", writer.wait_closed().await);
            });
            let mut arrived = Vec::new();
            if let Some(mut reader) = reading {
                loop {
                    match reader.read(100_000).await {
                        Ok(data) if data.is_empty() => break,
                        Ok(data) => arrived.extend(data),
                        Err(error) => break witness.error("read", &error),
                    }
                }
            }
            drop(writing.await);
            check_bytes(&witness, &bytes, &arrived);
        });
    });
}
