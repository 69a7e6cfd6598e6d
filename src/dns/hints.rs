//! What a lookup may be told.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::dns::addr::Family;
use crate::os::names;

/// A type of socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketType {
    /// All of them: of each address there is one entry for each type.
    #[default]
    Any,
    /// A stream of bytes: TCP.
    Stream,
    /// Datagrams: UDP.
    Datagram,
    /// Raw packets.
    Raw,
    /// Another one, by the system's number.
    Other(i32),
}

impl SocketType {
    pub(crate) fn to_raw(self) -> i32 {
        match self {
            Self::Any => 0,
            Self::Stream => names::SOCK_STREAM,
            Self::Datagram => names::SOCK_DGRAM,
            Self::Raw => names::SOCK_RAW,
            Self::Other(number) => number,
        }
    }

    pub(crate) fn of_raw(number: i32) -> Self {
        match number {
            0 => Self::Any,
            names::SOCK_STREAM => Self::Stream,
            names::SOCK_DGRAM => Self::Datagram,
            names::SOCK_RAW => Self::Raw,
            number => Self::Other(number),
        }
    }
}

impl Family {
    pub(crate) fn to_raw(self) -> i32 {
        match self {
            Self::Any => names::AF_UNSPEC,
            Self::V4 => names::AF_INET,
            Self::V6 => names::AF_INET6,
        }
    }
}

macro_rules! flags {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $flag:ident = $value:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            bits: i32,
        }

        impl $name {
            /// None of them.
            pub const NONE: Self = Self { bits: 0 };
            $($(#[$doc])* pub const $flag: Self = Self { bits: $value };)*

            /// Flags by the system's numbers, also such as have no name here.
            pub const fn from_bits(bits: i32) -> Self {
                Self { bits }
            }

            /// The system's numbers.
            pub const fn bits(self) -> i32 {
                self.bits
            }

            /// Whether all of `flags` are among these.
            pub const fn contains(self, flags: Self) -> bool {
                self.bits & flags.bits == flags.bits
            }

            /// Whether there is none.
            pub const fn is_empty(self) -> bool {
                self.bits == 0
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self { bits: self.bits | other.bits }
            }
        }

        impl BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.bits |= other.bits;
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut left = self.bits;
                let mut names: Vec<String> = Vec::new();
                for (name, flag) in [$((stringify!($flag), Self::$flag)),*] {
                    if self.contains(flag) {
                        left &= !flag.bits;
                        names.push(name.into());
                    }
                }
                if left != 0 {
                    names.push(format!("{left:#x}"));
                }
                write!(f, "{}({})", stringify!($name), names.join(" | "))
            }
        }
    };
}

flags! {
    /// Flags of [`EventLoop::getaddrinfo`](crate::EventLoop::getaddrinfo): the `AI_` of `<netdb.h>`, joined by `|`.
    ///
    /// ```
    /// use roundelay::AddrInfoFlags;
    ///
    /// let flags = AddrInfoFlags::CANONNAME | AddrInfoFlags::ADDRCONFIG;
    /// assert!(flags.contains(AddrInfoFlags::CANONNAME));
    /// ```
    AddrInfoFlags {
        /// Without a host the addresses are those to bind for all interfaces, and not the loopback's.
        PASSIVE = names::AI_PASSIVE;
        /// The first entry has the host's canonical name.
        CANONNAME = names::AI_CANONNAME;
        /// The host is an address: nothing is looked up.
        NUMERICHOST = names::AI_NUMERICHOST;
        /// The port is a number.
        NUMERICSERV = names::AI_NUMERICSERV;
        /// IPv4 addresses in IPv6's form, where a host has no other and IPv6 is asked for.
        V4MAPPED = names::AI_V4MAPPED;
        /// With `V4MAPPED`: also where it has others.
        ALL = names::AI_ALL;
        /// Addresses only of such families as this machine has an address of.
        ADDRCONFIG = names::AI_ADDRCONFIG;
    }
}

flags! {
    /// Flags of [`EventLoop::getnameinfo`](crate::EventLoop::getnameinfo): the `NI_` of `<netdb.h>`, joined by `|`.
    NameInfoFlags {
        /// The host as an address: it is not looked up.
        NUMERICHOST = names::NI_NUMERICHOST;
        /// The port as a number: it is not looked up.
        NUMERICSERV = names::NI_NUMERICSERV;
        /// It is an error if the host has no name.
        NAMEREQD = names::NI_NAMEREQD;
        /// Of hosts in the own domain the name without it.
        NOFQDN = names::NI_NOFQDN;
        /// The service is one of datagrams: some ports have another name there.
        DGRAM = names::NI_DGRAM;
    }
}

/// Everything that a lookup may be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) family: Family,
    pub(crate) socket_type: SocketType,
    /// Zero for any.
    pub(crate) proto: i32,
    pub(crate) flags: AddrInfoFlags,
}

impl Hints {
    /// For sockets of a type.
    pub(crate) fn of(socket_type: SocketType) -> Self {
        Self { socket_type, ..Self::default() }
    }

    /// The first that was given, by the name of the method that gives it.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("family()", self.family != Family::Any),
            ("proto()", self.proto != 0),
            ("flags()", !self.flags.is_empty()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_shown_by_name() {
        let unnamed = AddrInfoFlags::from_bits(1 << 20);
        let mut flags = AddrInfoFlags::PASSIVE | AddrInfoFlags::CANONNAME;
        assert_eq!(format!("{flags:?}"), "AddrInfoFlags(PASSIVE | CANONNAME)");
        assert!(!flags.contains(unnamed) && flags.contains(AddrInfoFlags::NONE));
        flags |= unnamed;
        assert_eq!(format!("{flags:?}"), "AddrInfoFlags(PASSIVE | CANONNAME | 0x100000)");
        assert_eq!(format!("{:?}", NameInfoFlags::NONE), "NameInfoFlags()");
        assert_eq!(NameInfoFlags::from_bits(NameInfoFlags::DGRAM.bits()), NameInfoFlags::DGRAM);
    }

    #[test]
    fn types_of_sockets_keep_their_numbers() {
        for socket_type in
            [SocketType::Any, SocketType::Stream, SocketType::Datagram, SocketType::Raw, SocketType::Other(77)]
        {
            assert_eq!(SocketType::of_raw(socket_type.to_raw()), socket_type);
        }
    }

    #[test]
    fn the_first_hint_that_was_given_is_named() {
        let hints = Hints::of(SocketType::Stream);
        assert_eq!(hints.first_given(), None);
        assert_eq!(Hints { flags: AddrInfoFlags::ALL, ..hints }.first_given(), Some("flags()"));
        assert_eq!(Hints { family: Family::V6, proto: 6, ..hints }.first_given(), Some("family()"));
    }
}
