//! What a transport has put into the loop's queue for itself.
//!
//! Each push of a transport into the queue stands for one action, and the actions are done in the order of the pushes:
//! the place in the line that `close()` took is the place at which `connection_lost` comes.

/// Something that a transport does in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Action {
    /// Tell the protocol that the connection stands.
    Made = 1,
    /// Tell it to pause or resume writing.
    Tell = 2,
    /// Write on.
    Write = 3,
    /// Tell it that the connection is lost.
    Lost = 4,
    /// Read on.
    Read = 5,
}

const BITS: u32 = 4;

/// The actions that are queued: each kind once at most, so that a word holds them all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Actions {
    /// The first in the lowest bits.
    packed: u32,
}

impl Actions {
    fn iter(self) -> impl Iterator<Item = u8> {
        (0..u32::BITS / BITS)
            .map(move |place| (self.packed >> (place * BITS) & 0xF) as u8)
            .take_while(|&code| code != 0)
    }

    /// Appends an action: false if it is queued already.
    pub(crate) fn push(&mut self, action: Action) -> bool {
        if self.iter().any(|code| code == action as u8) {
            return false;
        }
        let len = self.iter().count() as u32;
        self.packed |= u32::from(action as u8) << (len * BITS);
        true
    }

    /// Takes the first action.
    pub(crate) fn pop(&mut self) -> Option<Action> {
        let code = self.packed as u8 & 0xF;
        self.packed >>= BITS;
        const ALL: [Action; 5] = [Action::Made, Action::Tell, Action::Write, Action::Lost, Action::Read];
        ALL.into_iter().find(|&action| action as u8 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_each_once() {
        let mut actions = Actions::default();
        assert!(actions.push(Action::Tell));
        assert!(actions.push(Action::Lost));
        assert!(!actions.push(Action::Tell));
        assert_eq!(actions.pop(), Some(Action::Tell));
        assert!(actions.push(Action::Tell));
        assert!(actions.push(Action::Made) && actions.push(Action::Write));
        assert!(actions.push(Action::Read));
        let rest: Vec<Action> = std::iter::from_fn(|| actions.pop()).collect();
        assert_eq!(rest, [Action::Lost, Action::Tell, Action::Made, Action::Write, Action::Read]);
    }
}
