//! Child processes, their pipes and whoever watches them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use roundelay::{ProcessHandle, Stdio, SubprocessProtocol, create_subprocess_exec};

use crate::sweep::{Witness, check_bytes, pattern, sweep};

/// More than a pipe takes, so that something is queued.
const BYTES: usize = 200_000;

/// Has a process give back what it gets.
struct Echo {
    witness: Witness,
    bytes: Rc<Vec<u8>>,
    arrived: Rc<RefCell<Vec<u8>>>,
    is_over: Rc<Cell<bool>>,
}

impl SubprocessProtocol for Echo {
    fn connection_made(&mut self, process: &ProcessHandle) {
        self.witness.made();
        let stdin = process.pipe_transport(0).unwrap();
        stdin.write(&self.bytes);
        stdin.close();
    }

    fn pipe_data_received(&mut self, _: &ProcessHandle, fd: i32, data: &[u8]) {
        assert_eq!(fd, 1);
        self.arrived.borrow_mut().extend_from_slice(data);
    }

    fn pipe_connection_lost(&mut self, _: &ProcessHandle, fd: i32, error: Option<io::Error>) {
        if let Some(error) = error {
            self.witness.error(&format!("pipe {fd}"), &error);
        }
    }

    fn connection_lost(&mut self, process: &ProcessHandle, error: Option<io::Error>) {
        assert!(process.returncode().is_some());
        self.witness.lost("process", error);
        self.is_over.set(true);
    }
}

#[test]
fn through_a_process() {
    sweep(|stage| {
        let (el, bytes, arrived) = (stage.el, Rc::new(pattern(BYTES)), Rc::<RefCell<Vec<u8>>>::default());
        let is_over = Rc::new(Cell::new(false));
        let witness = stage.witness.clone();
        let echo = Echo { witness, bytes: bytes.clone(), arrived: arrived.clone(), is_over: is_over.clone() };
        let started = el.subprocess_exec(move || echo, "cat", [""; 0]).into_future();
        if stage.witness.check("subprocess_exec", stage.complete(started)).is_some() {
            stage.run_until(|| is_over.get());
        }
        stage.run_until(|| el.stats().transports.live() == 0);
        check_bytes(&stage.witness, &bytes, &arrived.borrow());
    });
}

#[test]
fn streams_of_a_process() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let cat = create_subprocess_exec("cat", [""; 0]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let Some(mut cat) = witness.check("create_subprocess_exec", cat.await) else { return };
            let bytes = pattern(BYTES);
            let told = cat.communicate(Some(&bytes)).await;
            if let Some((arrived, _)) = witness.check("communicate", told) {
                // That its input has failed is nothing that this tells.
                let arrived = arrived.unwrap();
                assert!(bytes.starts_with(&arrived));
            }
            assert!(cat.wait().await.is_ok());
        });
        stage.run_until(|| stage.el.stats().transports.live() == 0);
    });
}
