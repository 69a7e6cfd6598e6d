//! The transport of a child process.
//!
//! As with a stream's transport, no method calls the protocol. What there is to tell comes from three sides: from the pipes,
//! whose transports pass on what their protocols hear; from whoever watches the process; and from the loop's queue, for the
//! beginning and the end. Each of them comes in a turn of its own, with no callback of this transport on the stack. The pipes
//! are told of their beginning just before the protocol is told of its own, and read from the next turn on: nothing comes
//! before `connection_made`, and nothing has to be kept for it.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::process::ExitStatus;
use std::rc::{Rc, Weak};
use std::task::Poll;

use crate::error::{LoopClosed, PanicPayload};
use crate::event_loop::exception::{ExceptionContext, emit};
use crate::event_loop::inspection::waits_for;
use crate::event_loop::waiters::Waiters;
use crate::event_loop::{Core, EventLoop, LoopRegistration, running};
use crate::os::channel::Channel;
use crate::os::child::{Child, Reaped, SIGKILL, returncode, unknown_status, wait_on_thread};
use crate::process::children::Children;
use crate::process::pipe::PipeProtocol;
use crate::process::settings::Settings;
use crate::protocol::erased::Called;
use crate::protocol::{
    AnyProtocol, AnySubprocessProtocol, BaseTransport, ExtraInfo, ProcessHandle, SubprocessTransport, Transport,
    TransportId,
};
use crate::reactor::slot::{Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::context::{self, Slot};
use crate::sched::info::WaitsFor;
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, Ready};
use crate::sched::report::Exception;
use crate::transport::actions::{Action, Actions};
use crate::transport::at_work::AtWork;
use crate::transport::lifecycle::Watch;
use crate::transport::stream::{PipeEnd, open_pipe};

/// The child, until it was reaped. The registration stands first, because it has to end first.
struct Watched {
    /// Of the child's descriptor; none where a thread waits for the end.
    registration: Option<LoopRegistration>,
    child: Child,
}

/// How far the transport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The protocol was told nothing yet.
    Starting,
    Running,
    /// `connection_lost` is on its way.
    Losing,
    /// `connection_lost` was called, or the loop was closed.
    Gone,
}

/// One of the standard streams.
#[derive(Default)]
struct Pipe {
    /// None of a stream that is no pipe.
    transport: OnceCell<Transport>,
    /// Whether nothing more is to be heard of it.
    is_lost: Cell<bool>,
}

pub(crate) struct ChildTransport {
    me: Weak<Self>,
    core: Rc<Core>,
    children: Rc<Children>,
    id: TransportId,
    pid: u32,
    /// `None` once it was reaped, or left to others.
    watched: RefCell<Option<Watched>>,
    status: Cell<Option<ExitStatus>>,
    stage: Cell<Stage>,
    /// Whether it was closed by this side.
    closed: Cell<bool>,
    pipes: [Pipe; 3],
    /// `None` once everything is gone.
    protocol: RefCell<Option<AnySubprocessProtocol>>,
    /// The context that all callbacks run in; empty while one does.
    context: Cell<Slot>,
    actions: Cell<Actions>,
    /// Who waits for the process to exit.
    waiters: Waiters,
    /// Where the application started it.
    created_at: &'static Location<'static>,
    /// What the handles share, where the process is killed with the last of them.
    guard: RefCell<Weak<Guard>>,
}

/// Kills the process when it is dropped.
struct Guard(Weak<ChildTransport>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = self.0.upgrade() {
            // In vain if it has exited.
            let _ = child.send_signal(SIGKILL);
        }
    }
}

impl ChildTransport {
    /// Starts a child.
    pub(super) fn open(
        el: &EventLoop,
        settings: Settings,
        protocol: AnySubprocessProtocol,
    ) -> io::Result<(Rc<Self>, ProcessHandle)> {
        let core = &el.core;
        let (kill_on_drop, created_at) = (settings.kill_on_drop, settings.created_at);
        let what = crate::note::is_taken(&tracing::Level::DEBUG).then(|| settings.to_string());
        let (child, channels) = settings.spawn()?;
        if let Some(what) = what {
            note!(DEBUG, "roundelay::io", "{what}: process {}", child.pid());
        }
        core.local.counters.transports.opened();
        let this = Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            core: core.clone(),
            children: core.service(el),
            id: TransportId::next(),
            pid: child.pid(),
            watched: RefCell::new(Some(Watched { registration: None, child })),
            status: Cell::new(None),
            stage: Cell::new(Stage::Starting),
            closed: Cell::new(false),
            pipes: Default::default(),
            protocol: RefCell::new(Some(protocol)),
            context: Cell::new(context::fork_current()),
            actions: Cell::new(Actions::default()),
            waiters: Waiters::new(),
            created_at,
            guard: RefCell::default(),
        });
        this.children.insert(this.clone());
        let opened = this.open_pipes(channels).and_then(|()| this.watch());
        if let Err(error) = opened {
            // Nobody has heard of it, and nobody is to be left with it.
            this.kill();
            this.forget();
            return Err(error);
        }
        let guard = kill_on_drop.then(|| Rc::new(Guard(this.me.clone())));
        if let Some(guard) = &guard {
            *this.guard.borrow_mut() = Rc::downgrade(guard);
        }
        let handle = ProcessHandle::with_guard(this.clone(), guard.map(|guard| guard as Rc<dyn Any>));
        Ok((this, handle))
    }

    fn open_pipes(&self, channels: [Option<Channel>; 3]) -> io::Result<()> {
        for (fd, (pipe, channel)) in self.pipes.iter().zip(channels).enumerate() {
            let Some(channel) = channel else {
                pipe.is_lost.set(true);
                continue;
            };
            let end = if fd == 0 { PipeEnd::Write(Watch::Hangup) } else { PipeEnd::Read };
            let protocol = AnyProtocol::new(PipeProtocol::new(self.me(), fd as i32));
            let opened = open_pipe(&self.core, channel, end, false, protocol, self.created_at)?;
            let _ = pipe.transport.set(opened.transport());
            opened.make_connection_soon();
        }
        Ok(())
    }

    /// Has somebody say when the process has ended.
    fn watch(&self) -> io::Result<()> {
        let registered = match self.watched.borrow().as_ref().and_then(|watched| watched.child.pidfd()) {
            Some(fd) => {
                let listener = Listener::Handler(self.me() as Rc<dyn Handler>);
                LoopRegistration::new(&self.core.reactor, fd, Interest::READABLE, Mode::Level, listener)
            }
            None => return self.watch_on_thread(),
        };
        match registered {
            Ok(registration) => {
                if let Some(watched) = &mut *self.watched.borrow_mut() {
                    watched.registration = Some(registration);
                }
                Ok(())
            }
            // A selector of the application's may not know such descriptors.
            Err(error) => {
                note!(DEBUG, "roundelay::io", "process {} is watched by a thread: {error}", self.pid);
                self.watch_on_thread()
            }
        }
    }

    fn watch_on_thread(&self) -> io::Result<()> {
        let (remote, id, pid) = (self.core_handle().remote(), self.id, self.pid);
        // Time that is virtual stands still until the loop has heard of it.
        #[cfg(feature = "test-util")]
        let busy = self.core.busy(|| format!("process {pid}, which runs"));
        let exited = move || {
            // A loop that is gone has left the child to others.
            let _ = remote.post(move || {
                process_exited(id);
                #[cfg(feature = "test-util")]
                drop(busy);
            });
        };
        wait_on_thread(pid, exited).map_err(|error| {
            io::Error::new(error.kind(), format!("process {pid} cannot be watched: there is no thread for it: {error}"))
        })
    }

    fn me(&self) -> Rc<Self> {
        self.me.upgrade().expect("a method is called through an Rc")
    }

    fn core_handle(&self) -> EventLoop {
        EventLoop::handle(self.core.clone())
    }

    pub(super) fn handle(&self) -> ProcessHandle {
        let guard = self.guard.borrow().upgrade();
        ProcessHandle::with_guard(self.me(), guard.map(|guard| guard as Rc<dyn Any>))
    }

    /// Tells the protocol, in a turn of its own, that the process was started.
    pub(super) fn make_connection_soon(&self) {
        self.enqueue(Action::Made);
    }

    /// Whether the protocol was told that.
    pub(super) fn is_made(&self) -> bool {
        self.stage.get() != Stage::Starting
    }

    fn make_connection(&self) {
        if self.is_made() {
            return;
        }
        self.stage.set(Stage::Running);
        self.tell("connection_made", |protocol, handle| protocol.connection_made(handle));
        if self.status.get().is_some() {
            self.tell_exited();
        }
    }

    /// Whoever watches the process says that it has ended.
    fn reap(&self) {
        let reaped = match &mut *self.watched.borrow_mut() {
            Some(watched) => watched.child.try_reap(),
            None => return,
        };
        let status = match reaped {
            Reaped::Now(status) => status,
            Reaped::Elsewhere => {
                let (pid, status) = (self.pid, unknown_status());
                let text = format!("process {pid} was reaped by somebody else: its returncode is taken to be 255");
                emit(tracing::Level::WARN, &text);
                status
            }
            Reaped::NotYet => return self.watch_closer(),
        };
        self.exited(status);
    }

    /// In a child of `fork`, whose child the process is not: nobody will say that it has ended.
    pub(super) fn after_fork_child(&self) {
        self.enqueue(Action::Tell);
    }

    /// How it ends is not to be found out.
    fn disown(&self) {
        if self.watched.borrow().is_some() {
            self.exited(unknown_status());
        }
    }

    fn exited(&self, status: ExitStatus) {
        let watched = self.watched.take();
        drop(watched);
        note!(DEBUG, "roundelay::io", "process {} has exited: {status}", self.pid);
        self.status.set(Some(status));
        self.core.local.wake(self.waiters.waker());
        if self.stage.get() == Stage::Running {
            self.tell_exited();
        }
    }

    /// The descriptor was too early, as it is where a debugger is to hear of the end first: a thread waits until it can be
    /// reaped.
    fn watch_closer(&self) {
        let registration = self.watched.borrow_mut().as_mut().and_then(|watched| watched.registration.take());
        drop(registration);
        if let Err(error) = self.watch_on_thread() {
            self.call_handler(ExceptionContext::new(error.to_string()).with_exception(Exception::Error(&error)));
        }
    }

    fn tell_exited(&self) {
        self.tell("process_exited", |protocol, handle| protocol.process_exited(handle));
        self.try_finish();
    }

    /// Nothing more is to be heard of a pipe.
    pub(super) fn pipe_lost(&self, fd: i32) {
        self.pipes[fd as usize].is_lost.set(true);
        self.try_finish();
    }

    /// Comes to the end if there is nothing left to hear of.
    fn try_finish(&self) {
        let is_over = self.status.get().is_some() && self.pipes.iter().all(|pipe| pipe.is_lost.get());
        if is_over && self.stage.get() == Stage::Running {
            self.lose();
        }
    }

    fn lose(&self) {
        self.stage.set(Stage::Losing);
        self.enqueue(Action::Lost);
    }

    fn connection_lost(&self) {
        if self.stage.get() != Stage::Losing {
            return;
        }
        self.stage.set(Stage::Gone);
        self.tell("connection_lost", |protocol, handle| protocol.connection_lost(handle, None));
        self.forget();
    }

    /// The time is over: the end does not wait for the process, nor for its pipes.
    pub(super) fn give_up(&self) {
        self.abort();
        if self.stage.get() == Stage::Running {
            self.lose();
        }
    }

    /// The loop is being closed.
    pub(super) fn loop_closed(&self) {
        if !self.is_closing() {
            self.core.resource_warning(format_args!("unclosed transport {self:?}"), Some(self.created_at));
        }
        // That is enough of a warning, for its pipes, too.
        self.pipe_transports().for_each(Transport::abort);
        self.forget();
    }

    /// Lets go of everything: process, pipes, protocol, context.
    fn forget(&self) {
        self.stage.set(Stage::Gone);
        let Some(protocol) = self.protocol.take() else { return };
        let watched = self.watched.take();
        drop(watched);
        // Those that somebody has taken over go on.
        for pipe in self.pipes.iter().filter(|pipe| !pipe.is_lost.get()) {
            pipe.transport.get().inspect(|transport| transport.abort());
        }
        self.core.transport_gone();
        self.core.local.wake(self.waiters.waker());
        let ((), slot) = context::enter(self.context.replace(Slot::EMPTY), || self.release("a protocol", protocol));
        if !slot.is_empty() {
            self.release("a context", slot);
        }
        self.children.remove(self.id);
    }

    fn send(&self, signal: i32) -> io::Result<()> {
        let sent = self.watched.borrow().as_ref().map(|watched| watched.child.signal(signal));
        let why = match sent {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => "was reaped by somebody else",
            Some(sent) => return sent,
            None if self.status.get().is_none() => "is not watched any more: its loop is closed",
            None => "has exited",
        };
        let text = format!("ProcessHandle::send_signal(): process {} {why}", self.pid);
        Err(io::Error::new(io::ErrorKind::NotFound, text))
    }

    /// Kills the process, if it is there.
    fn kill(&self) {
        match self.send(SIGKILL) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let context = ExceptionContext::new("Closing a transport: its process cannot be killed");
                self.call_handler(context.with_exception(Exception::Error(&error)));
            }
            // It has exited.
            Err(_) => {}
        }
    }

    fn pipe_transports(&self) -> impl Iterator<Item = &Transport> {
        self.pipes.iter().filter_map(|pipe| pipe.transport.get())
    }

    /// Puts an action into the loop's queue, unless it is there.
    fn enqueue(&self, action: Action) {
        let mut actions = self.actions.get();
        if actions.push(action) {
            self.actions.set(actions);
            self.core.local.push(Item::Callback(self.me()));
        }
    }

    /// Calls the protocol, in its context, if there is one. Only called with no callback on the stack.
    pub(super) fn tell(&self, name: &str, f: impl FnOnce(&AnySubprocessProtocol, &ProcessHandle) -> Called<()>) {
        let Some(protocol) = self.protocol.borrow().clone() else { return };
        let handle = self.handle();
        // No guard brings the outer context back: callbacks do not unwind.
        let outer = context::swap(self.context.replace(Slot::EMPTY));
        let called = f(&protocol, &handle);
        if protocol.is_last() {
            // It was replaced meanwhile.
            self.release("a protocol", protocol);
        }
        self.context.set(context::swap(outer));
        if let Err(payload) = called {
            self.report(&format!("Exception in callback {name}"), payload);
        }
    }

    /// Drops what may have a destructor of the application's, which may call any method here and may panic. Only called
    /// with nothing borrowed.
    fn release<T>(&self, what: &str, value: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            self.report(&format!("Exception in the destructor of {what}"), payload);
        }
    }

    /// Reports the panic of a callback, in the callbacks' context.
    fn report(&self, message: &str, payload: PanicPayload) {
        let local = &self.core.local;
        let Some(payload) = local.take_fatal(payload) else { return };
        let slot = self.context.replace(Slot::EMPTY);
        let ((), slot) = context::enter(slot, || {
            self.call_handler(ExceptionContext::new(message).with_exception(Exception::Panic(&*payload)));
        });
        self.context.set(slot);
        local.dispose(payload);
    }

    fn call_handler(&self, mut problem: ExceptionContext<'_>) {
        if let Some(me) = self.me.upgrade() {
            problem = problem.with_subject(ProcessHandle::new(me));
        }
        if let Some(protocol) = self.protocol.borrow().clone() {
            problem = problem.with_subject(protocol);
        }
        problem.created_at = Some(self.created_at);
        let el = self.core_handle();
        context::within(&self.context, || el.call_exception_handler(&problem));
    }
}

/// What a thread that waits for the end of a process posts.
fn process_exited(id: TransportId) {
    let Some(core) = running::current() else { return };
    let children: Rc<Children> = core.service(&EventLoop::handle(core.clone()));
    if let Some(child) = children.get(id) {
        child.reap();
    }
}

impl Handler for ChildTransport {
    fn on_ready(self: Rc<Self>, _: Readiness) {
        self.reap();
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        let protocol = self.protocol.borrow().as_ref().map(|protocol| protocol.type_name());
        Rc::new(AtWork::new(self, protocol))
    }

    fn on_close(self: Rc<Self>) {
        self.loop_closed();
    }
}

impl Ready for ChildTransport {
    fn run(self: Rc<Self>) {
        let mut actions = self.actions.get();
        let action = actions.pop();
        self.actions.set(actions);
        match action {
            Some(Action::Made) => self.make_connection(),
            Some(Action::Lost) => self.connection_lost(),
            Some(Action::Tell) => self.disown(),
            Some(Action::Write | Action::Read) | None => {}
        }
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        Some(Ran::Event(Handler::about(self)))
    }
}

impl BaseTransport for ChildTransport {
    fn created_at(&self) -> Option<&'static Location<'static>> {
        Some(self.created_at)
    }

    fn id(&self) -> TransportId {
        self.id
    }

    fn is_closing(&self) -> bool {
        self.closed.get() || matches!(self.stage.get(), Stage::Losing | Stage::Gone)
    }

    fn close(&self) {
        if !self.is_closing() {
            self.closed.set(true);
            self.pipe_transports().for_each(Transport::close);
            if self.core.is_debug() && self.watched.borrow().as_ref().is_some_and(|watched| watched.child.is_running())
            {
                self.core.debug_warning(format_args!("Close running child process: kill {self:?}"));
            }
            self.kill();
        }
    }

    fn abort(&self) {
        self.closed.set(true);
        self.pipe_transports().for_each(Transport::abort);
        self.kill();
    }

    fn extra_info(&self) -> ExtraInfo {
        ExtraInfo { process: Some(self.pid), ..ExtraInfo::default() }
    }
}

impl SubprocessTransport for ChildTransport {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn status(&self) -> Option<ExitStatus> {
        self.status.get()
    }

    fn pipe_transport(&self, fd: i32) -> Option<Transport> {
        let pipe = self.pipes.get(usize::try_from(fd).ok()?)?;
        pipe.transport.get().cloned()
    }

    fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.send(signal)
    }

    fn wait(&self) -> Pin<Box<dyn Future<Output = io::Result<ExitStatus>>>> {
        let this = self.me();
        Box::pin(async move {
            let waiter = this.waiters.join();
            poll_fn(|cx| match this.status.get() {
                Some(status) => Poll::Ready(Ok(status)),
                None if this.stage.get() == Stage::Gone => Poll::Ready(Err(LoopClosed.into())),
                None => {
                    waiter.wait(cx);
                    waits_for(|| WaitsFor::Process(this.pid));
                    Poll::Pending
                }
            })
            .await
        })
    }

    fn protocol(&self) -> Option<AnySubprocessProtocol> {
        self.protocol.borrow().clone()
    }

    fn set_protocol(&self, protocol: AnySubprocessProtocol) {
        if self.stage.get() == Stage::Gone {
            return;
        }
        // A callback that is on the stack has its own handle to the old one.
        let before = self.protocol.replace(Some(protocol));
        drop(before);
    }
}

impl fmt::Debug for ChildTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<SubprocessTransport {}", self.id)?;
        if self.is_closing() {
            f.write_str(" closed")?;
        }
        write!(f, " pid={}", self.pid)?;
        match self.status.get() {
            Some(status) => write!(f, " returncode={}", returncode(status))?,
            None => f.write_str(" running")?,
        }
        for (name, pipe) in ["stdin", "stdout", "stderr"].into_iter().zip(&self.pipes) {
            if let Some(transport) = pipe.transport.get() {
                write!(f, " {name}={transport:?}")?;
            }
        }
        f.write_str(">")
    }
}

impl Drop for ChildTransport {
    fn drop(&mut self) {
        self.forget();
    }
}
