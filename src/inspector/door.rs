//! The listening socket, and who has come in.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use socket2::Socket;

use crate::constants::{ACCEPT_RETRY_DELAY, BACKLOG, INSPECTOR_CLIENTS};
use crate::event_loop::services::Service;
use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::inspector::answer::Refusal;
use crate::inspector::client::Client;
use crate::net::bind_anew;
use crate::os::address::UnixAddr;
use crate::os::credentials::{is_trusted, peer_credentials};
use crate::os::fd::AsFd;
use crate::os::local::{self, SocketFile};
use crate::os::socket::{accept, is_lost_connection, listen, would_block};
use crate::reactor::slot::{Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::handle::TimerHandle;

/// A listening socket. The loop keeps it alive while it is open.
pub(super) struct Door {
    me: Weak<Self>,
    core: Rc<Core>,
    /// First the registration, because it has to end first.
    open: RefCell<Option<(LoopRegistration, Socket)>>,
    /// What is removed before the socket is closed.
    file: RefCell<Option<SocketFile>>,
    clients: RefCell<Vec<Rc<Client>>>,
    /// Waits until the process may have a descriptor for another connection.
    pause: RefCell<Option<TimerHandle>>,
}

/// The doors of a loop, which a child of `fork` closes for itself.
#[derive(Default)]
struct Doors(RefCell<Vec<Weak<Door>>>);

impl Service for Doors {
    fn new(_: &EventLoop) -> Self {
        Self::default()
    }

    /// Who connects wants to know about the parent.
    fn after_fork_child(&self, _: &EventLoop) -> io::Result<()> {
        let doors = self.0.take();
        doors.iter().filter_map(Weak::upgrade).for_each(|door| door.close());
        Ok(())
    }
}

impl Door {
    pub(super) fn open(el: &EventLoop, method: &str, address: &UnixAddr) -> io::Result<Rc<Self>> {
        let socket = local::stream()?;
        // Nobody can connect before it listens, and then its file is for its owner only.
        local::make_private(&socket)?;
        bind_anew(method, &socket, address)?;
        let door = Self::at(el, socket, address);
        if door.is_err() {
            if let Some(path) = address.as_pathname() {
                local::discard(path);
            }
        }
        door
    }

    fn at(el: &EventLoop, socket: Socket, address: &UnixAddr) -> io::Result<Rc<Self>> {
        let file = address.as_pathname().map_or(Ok(None), SocketFile::at)?;
        if let Some(file) = &file {
            file.make_private()?;
        }
        listen(&socket, BACKLOG)?;
        let door = Rc::new_cyclic(|me| Self {
            me: me.clone(),
            core: el.core.clone(),
            open: RefCell::new(None),
            file: RefCell::new(file),
            clients: RefCell::default(),
            pause: RefCell::new(None),
        });
        let slot = Listener::Handler(door.clone() as Rc<dyn Handler>);
        let registration =
            LoopRegistration::new(&el.core.reactor, socket.as_fd(), Interest::READABLE, Mode::Level, slot)?;
        *door.open.borrow_mut() = Some((registration, socket));
        let doors = el.core.service::<Doors>(el);
        let mut doors = doors.0.borrow_mut();
        doors.retain(|door| door.strong_count() > 0);
        doors.push(Rc::downgrade(&door));
        Ok(door)
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Closes the socket, and the connections.
    pub(super) fn close(&self) {
        let (open, clients) = (self.open.take(), self.clients.take());
        if let Some(pause) = self.pause.take() {
            pause.cancel();
        }
        if let Some(file) = self.file.take() {
            // While the socket is open nobody takes its file for a stale one.
            if let Err(error) = file.remove_own() {
                note!(WARN, "roundelay", "cannot remove {:?}: {error}", file.path());
            }
        }
        clients.iter().for_each(|client| client.close());
        drop(open);
    }

    fn accept_one(self: &Rc<Self>) -> io::Result<()> {
        let socket = {
            let open = self.open.borrow();
            let Some((_, listener)) = &*open else { return Ok(()) };
            accept(listener.as_fd())?.0
        };
        // The mode of the file keeps others away; where the system does not tell who they are it has to do.
        match peer_credentials(socket.as_fd()) {
            Ok(peer) if !is_trusted(&peer) => {
                Refusal::Stranger.send(&socket);
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
        if self.clients() >= INSPECTOR_CLIENTS && !self.make_room() {
            Refusal::Full.send(&socket);
            return Ok(());
        }
        let client = Client::new(self, &self.core, socket)?;
        self.clients.borrow_mut().push(client);
        Ok(())
    }

    /// Lets go of somebody who does not take his answer. True if there was one.
    fn make_room(&self) -> bool {
        let slow = self.clients.borrow().iter().find(|client| client.is_slow()).cloned();
        slow.inspect(|client| client.close_in(self)).is_some()
    }

    /// Accepts nobody for a while: it would fail in each turn.
    fn rest(&self) {
        self.listen_to(Interest::NONE);
        let me = self.me.clone();
        let go_on = move || {
            if let Some(door) = me.upgrade() {
                door.listen_to(Interest::READABLE);
            }
        };
        let pause = EventLoop::handle(self.core.clone()).call_later(ACCEPT_RETRY_DELAY, go_on);
        *self.pause.borrow_mut() = Some(pause);
    }

    fn listen_to(&self, interest: Interest) {
        if let Some((registration, _)) = &*self.open.borrow() {
            if let Err(error) = registration.set_interest(interest) {
                note!(WARN, "roundelay", "the inspector does not listen: {error}");
            }
        }
    }

    /// A client is gone.
    pub(super) fn left(&self, client: &Client) {
        let gone = {
            let mut clients = self.clients.borrow_mut();
            let place = clients.iter().position(|other| std::ptr::eq(&**other, client));
            place.map(|place| clients.swap_remove(place))
        };
        drop(gone);
    }
}

impl Handler for Door {
    fn on_ready(self: Rc<Self>, _: Readiness) {
        // One in each turn: the loop has other things to do.
        match self.accept_one() {
            Err(error) if !would_block(&error) && !is_lost_connection(&error) => {
                note!(WARN, "roundelay", "the inspector cannot accept a client: {error}");
                self.rest();
            }
            _ => {}
        }
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        self
    }

    fn on_close(self: Rc<Self>) {
        self.close();
    }

    /// Nobody need come.
    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest::NONE
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<the inspector's listening socket>")
    }
}
