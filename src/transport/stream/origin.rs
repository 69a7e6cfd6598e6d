//! How transports came about.

use std::panic::Location;
use std::rc::Rc;

use crate::transport::stream::SocketTransport;

/// Hears of the end of a transport: its server.
pub(crate) trait Owner {
    fn transport_lost(&self, place: usize);

    /// Where the application made it.
    fn created_at(&self) -> &'static Location<'static>;
}

/// How a transport came about. The second of these takes no memory, with which there may be very many of the first.
pub(super) enum Origin {
    /// A server has accepted it, and has this place for it.
    Accepted(Rc<dyn Owner>, usize),
    /// The application has made it, here; `None` where it stands on another one that is not there yet.
    Made(Option<&'static Location<'static>>),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Made(None)
    }
}

impl SocketTransport {
    /// Says who is to hear of the end.
    pub(crate) fn set_owner(&self, owner: Rc<dyn Owner>, place: usize) {
        self.origin.set(Origin::Accepted(owner, place));
    }

    /// It was made where what is below was.
    #[cfg(feature = "__tls")]
    pub(crate) fn inherit_place(&self, created_at: Option<&'static Location<'static>>) {
        self.origin.set(Origin::Made(created_at));
    }

    /// Tells the server that it is gone.
    pub(super) fn leave_owner(&self) {
        let origin = self.origin.take();
        if let Origin::Accepted(owner, place) = origin {
            self.origin.set(Origin::Made(Some(owner.created_at())));
            owner.transport_lost(place);
        } else {
            self.origin.set(origin);
        }
    }

    /// Where the application made it, or the server that has accepted it.
    pub(super) fn place(&self) -> Option<&'static Location<'static>> {
        let origin = self.origin.take();
        let place = match &origin {
            Origin::Accepted(owner, _) => Some(owner.created_at()),
            Origin::Made(place) => *place,
        };
        self.origin.set(origin);
        place
    }
}

// An idle connection costs what it always has.
const _: () = assert!(size_of::<Origin>() == size_of::<(Rc<dyn Owner>, usize)>());
