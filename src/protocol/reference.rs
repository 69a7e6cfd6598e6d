//! A protocol that its transport uses and its owner can look into.

use std::any::type_name;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::protocol::erased::Cell;

/// The protocol of a connection, which its transport calls and which [`with`](Self::with) gives access to.
///
/// Clones refer to the same protocol.
pub struct ProtocolRef<P> {
    pub(crate) cell: Rc<Cell<P>>,
}

impl<P> ProtocolRef<P> {
    /// Puts a protocol where a transport can use it: for [`Transport::set_protocol`](crate::Transport::set_protocol), or
    /// the one of a [`DatagramHandle`](crate::DatagramHandle::set_protocol), with a protocol that you want to look into
    /// later.
    pub fn new(protocol: P) -> Self {
        Self { cell: Rc::new(Cell { protocol: RefCell::new(protocol) }) }
    }

    /// Calls `f` with the protocol.
    ///
    /// # Panics
    ///
    /// If it is called from within one of the protocol's own callbacks, or from within another `with`.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        match self.try_with(f) {
            Some(result) => result,
            None => panic!(
                "ProtocolRef::with(): the {} is in use: with() was called from within one of its own callbacks",
                type_name::<P>()
            ),
        }
    }

    /// Calls `f` with the protocol, or gives `None` from within one of the protocol's own callbacks.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut P) -> R) -> Option<R> {
        let mut protocol = self.cell.protocol.try_borrow_mut().ok()?;
        Some(f(&mut protocol))
    }
}

impl<P> Clone for ProtocolRef<P> {
    fn clone(&self) -> Self {
        Self { cell: self.cell.clone() }
    }
}

impl<P> fmt::Debug for ProtocolRef<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolRef<{}>", type_name::<P>())
    }
}
