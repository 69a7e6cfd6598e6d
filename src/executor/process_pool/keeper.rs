//! A thread that keeps a worker process: what the keepers of a pool share, and what each of them does.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::constants::WORKER_END;
use crate::event_loop::job::lock;
use crate::executor::blocking::wake_quietly;
use crate::executor::process_pool::call::Call;
use crate::executor::process_pool::error::ProcessPoolError;
use crate::executor::process_pool::wire::{Answer, Request};
use crate::executor::process_pool::worker::{Alarm, Trouble, Worker};

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) max_workers: usize,
    /// How many jobs a worker does before another one takes its place.
    pub(super) max_jobs_per_worker: Option<usize>,
}

/// What the application's handles and the keepers share.
pub(super) struct Pool {
    pub(super) settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Arc<dyn Call>>,
    /// Keepers that take jobs: as many as there are workers, or will be.
    takers: usize,
    /// Keepers that are there, those among them that are only waiting for the end of their workers.
    alarms: Vec<Arc<Alarm>>,
    /// Those that wait for a job.
    idle: Vec<Arc<Alarm>>,
    /// Nothing more will come: keepers end when the queue is empty.
    ended: bool,
    /// Numbers the keepers.
    made: usize,
    /// Who waits for the end of all of them.
    waiters: Vec<Waker>,
}

/// How a pool does, for `Debug`.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) workers: usize,
    pub(super) idle: usize,
    pub(super) queued: usize,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, inner: Mutex::default() }
    }

    pub(super) fn counts(&self) -> Counts {
        let inner = lock(&self.inner);
        Counts { workers: inner.takers, idle: inner.idle.len(), queued: inner.queue.len() }
    }

    /// Takes a job; what cannot be taken is told so.
    pub(super) fn submit(self: &Arc<Self>, call: Arc<dyn Call>) {
        let mut inner = lock(&self.inner);
        if inner.ended {
            drop(inner);
            return call.close();
        }
        inner.queue.push_back(call);
        if let Some(alarm) = inner.idle.pop() {
            drop(inner);
            return alarm.ring();
        }
        if inner.takers == self.settings.max_workers {
            return;
        }
        if let Err(error) = self.add_keeper(&mut inner) {
            // With others at work it is merely late.
            let call = if inner.takers == 0 { inner.queue.pop_back() } else { None };
            drop(inner);
            if let Some(call) = call {
                fail(&*call, ProcessPoolError::Start(error));
            }
        }
    }

    fn add_keeper(self: &Arc<Self>, inner: &mut Inner) -> io::Result<()> {
        let alarm = Arc::new(Alarm::new()?);
        let keeper = Keeper { pool: self.clone(), alarm: alarm.clone(), worker: None };
        let name = format!("roundelay_worker_{}", inner.made);
        thread::Builder::new().name(name).spawn(move || keeper.run())?;
        inner.takers += 1;
        inner.made += 1;
        inner.alarms.push(alarm);
        Ok(())
    }

    /// For a keeper that can start no worker: others take the job, and it ends. It comes back where there are none.
    fn leave_to_others(&self, call: Arc<dyn Call>) -> Option<Arc<dyn Call>> {
        let mut inner = lock(&self.inner);
        if inner.takers == 1 {
            return Some(call);
        }
        inner.takers -= 1;
        inner.queue.push_front(call);
        let idle = inner.idle.pop();
        drop(inner);
        if let Some(alarm) = idle {
            alarm.ring();
        }
        None
    }

    /// Nothing more is taken; what is there is done.
    pub(super) fn end(&self) {
        let idle = {
            let mut inner = lock(&self.inner);
            inner.ended = true;
            std::mem::take(&mut inner.idle)
        };
        idle.iter().for_each(|alarm| alarm.ring());
    }

    /// What is queued never begins, and workers are killed.
    pub(super) fn kill(&self) {
        let (queue, alarms) = {
            let mut inner = lock(&self.inner);
            inner.ended = true;
            (std::mem::take(&mut inner.queue), inner.alarms.clone())
        };
        alarms.iter().for_each(|alarm| alarm.kill());
        queue.iter().for_each(|call| call.close());
    }

    /// Waits until all workers are gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        // With nothing locked: a waker may be the application's.
        let waker = cx.waker().clone();
        let mut inner = lock(&self.inner);
        if inner.alarms.is_empty() {
            return Poll::Ready(());
        }
        if !inner.waiters.iter().any(|other| other.will_wake(&waker)) {
            inner.waiters.push(waker);
        }
        Poll::Pending
    }
}

/// Tells whoever awaits a job that it came to nothing.
pub(super) fn fail(call: &dyn Call, error: ProcessPoolError) {
    if call.begin().is_some() {
        call.finish(Err(error));
    }
}

/// What a thread has.
struct Keeper {
    pool: Arc<Pool>,
    alarm: Arc<Alarm>,
    worker: Option<Worker>,
}

impl Keeper {
    fn run(mut self) {
        let _gone = Gone { pool: self.pool.clone(), alarm: self.alarm.clone() };
        while let Some(call) = self.next() {
            // Only a waker that panics gets here. The panic hook has told of it, and the worker is still good.
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(call)));
            if served.is_ok_and(|served| served.is_break()) {
                break;
            }
        }
        self.end_worker();
    }

    /// The next job; `None` when this thread has nothing to do any more, and then it takes nothing.
    fn next(&mut self) -> Option<Arc<dyn Call>> {
        loop {
            {
                let mut inner = lock(&self.pool.inner);
                inner.idle.retain(|alarm| !Arc::ptr_eq(alarm, &self.alarm));
                if let Some(call) = inner.queue.pop_front() {
                    return Some(call);
                }
                if inner.ended || self.worker.is_none() {
                    inner.takers -= 1;
                    return None;
                }
                inner.idle.push(self.alarm.clone());
            }
            if !self.worker.as_ref().is_some_and(|worker| worker.idle(&self.alarm)) {
                // It was killed, or has done what it should not: the next job gets another one.
                self.end_worker();
            }
        }
    }

    /// Has a job done. Breaks where this thread can do nothing for the pool any more.
    fn serve(&mut self, call: Arc<dyn Call>) -> ControlFlow<()> {
        if call.is_done() {
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.make_ready() {
            if self.alarm.is_killed() {
                call.close();
                return ControlFlow::Continue(());
            }
            let Some(call) = self.pool.leave_to_others(call) else { return ControlFlow::Break(()) };
            fail(&*call, ProcessPoolError::Start(error));
            return ControlFlow::Continue(());
        }
        if let Some(request) = call.begin() {
            let answer = self.ask(&request);
            drop(request);
            call.finish(answer);
            if self.has_done_enough() {
                self.end_worker();
            }
        }
        ControlFlow::Continue(())
    }

    /// Sees to it that there is a worker, and that it lives.
    fn make_ready(&mut self) -> io::Result<()> {
        if !self.worker.as_mut().is_some_and(Worker::is_idle) {
            self.end_worker();
            self.worker = Some(Worker::start(&self.alarm)?);
        }
        Ok(())
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ProcessPoolError> {
        let Some(mut worker) = self.worker.take() else { return Err(ProcessPoolError::WorkerDied(None)) };
        match worker.ask(request, &self.alarm) {
            Ok(answer) => {
                self.worker = Some(worker);
                Ok(answer)
            }
            Err(Trouble::Lost) => Err(ProcessPoolError::WorkerDied(worker.end(WORKER_END, &self.alarm))),
            Err(Trouble::Killed) => {
                worker.end(Duration::ZERO, &self.alarm);
                Err(ProcessPoolError::Closed)
            }
        }
    }

    fn has_done_enough(&self) -> bool {
        let done = self.worker.as_ref().map_or(0, |worker| worker.done);
        self.pool.settings.max_jobs_per_worker.is_some_and(|most| done >= most)
    }

    fn end_worker(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.end(WORKER_END, &self.alarm);
        }
    }
}

/// Takes a keeper that ends off the list, however it ends.
struct Gone {
    pool: Arc<Pool>,
    alarm: Arc<Alarm>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let waiters = {
            let mut inner = lock(&self.pool.inner);
            inner.alarms.retain(|alarm| !Arc::ptr_eq(alarm, &self.alarm));
            if inner.alarms.is_empty() { std::mem::take(&mut inner.waiters) } else { Vec::new() }
        };
        waiters.into_iter().for_each(wake_quietly);
    }
}
